/* .pt files that are written: the bytes of the format, and what the reader makes of them. (PyTorch's own
 * judgement: tools/interop/check_pt.py.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/file_folder.h"
#include "formats/pt.h"
#include "formats/pt_archive.h"
#include "formats/tensor_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void expect_ok(enum voco_status status)
{
    if (status != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
}

static void expect_refused(enum voco_status status, enum voco_status wanted, const char *message)
{
    assert_int_equal(status, wanted);
    if (strstr(voco_error_message(), message) == NULL) {
        fail_msg("\"%s\" instead of \"%s\"", voco_error_message(), message);
    }
}

/* A dict with one tensor, whose pickle is written out by hand after pickletools. */
static void the_pickle_is_that_of_the_format(void **state)
{
    (void)state;
    char path[256];
    struct pt_writer *w = NULL;
    const int64_t shape[] = {2, 3};
    const float values[6] = {0.5F};
    expect_ok(pt_writer_open(&w, in_folder(path, "known.pt"), PT_DICT));
    expect_ok(pt_writer_declare(w, "w", SAFETENSORS_F32, 2, shape));
    expect_ok(pt_writer_put(w, values));
    expect_ok(pt_writer_commit(w));
    static const char expected[] =
        "\200\002}(X\001\000\000\000w"
        "ctorch._utils\n_rebuild_tensor_v2\n(("
        "X\007\000\000\000storagectorch\nFloatStorage\nX\001\000\000\0000X\003\000\000\000cpuJ\006\000\000"
        "\000tQ"
        "J\000\000\000\000(J\002\000\000\000J\003\000\000\000t(J\003\000\000\000J\001\000\000\000t"
        "\211ccollections\nOrderedDict\n)RtRu.";
    struct pt_archive archive;
    struct pt_entry entry;
    struct pt_entry_reader reader;
    int found = 0;
    char pickle[1024];
    expect_ok(pt_archive_open(&archive, path));
    expect_ok(pt_archive_find(&entry, &found, &archive, "data.pkl"));
    assert_int_equal(found, 1);
    assert_int_equal(entry.size, sizeof expected - 1);
    expect_ok(pt_entry_open(&reader, &archive, &entry, 0));
    expect_ok(pt_entry_read(&reader, pickle, sizeof expected - 1));
    assert_memory_equal(pickle, expected, sizeof expected - 1);
    pt_entry_close(&reader);
    pt_archive_close(&archive);
}

static void storages_lie_at_multiples_of_64_bytes(void **state)
{
    (void)state;
    char path[256];
    struct pt_writer *w = NULL;
    const int64_t shape[] = {5};
    expect_ok(pt_writer_open(&w, in_folder(path, "aligned.pt"), PT_DICT));
    expect_ok(pt_writer_declare(w, "a", SAFETENSORS_U8, 1, shape));
    expect_ok(pt_writer_declare(w, "b", SAFETENSORS_U8, 1, shape));
    expect_ok(pt_writer_put(w, "first"));
    expect_ok(pt_writer_put(w, "other"));
    expect_ok(pt_writer_commit(w));
    char bytes[8192];
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    const size_t size = fread(bytes, 1, sizeof bytes, stream);
    (void)fclose(stream);
    const char *first = memmem(bytes, size, "first", 5);
    const char *other = memmem(bytes, size, "other", 5);
    assert_non_null(first);
    assert_non_null(other);
    assert_int_equal((first - bytes) % 64, 0);
    assert_int_equal((other - bytes) % 64, 0);
}

static const struct {
    enum safetensors_type type;
    int rank;
    int64_t shape[3];
} written[] = {
    {SAFETENSORS_F32, 3, {2, 3, 5}}, {SAFETENSORS_F16, 1, {7}},      {SAFETENSORS_BF16, 2, {3, 3}},
    {SAFETENSORS_I64, 0, {0}},       {SAFETENSORS_F64, 2, {1, 4}},   {SAFETENSORS_I32, 1, {3}},
    {SAFETENSORS_I16, 2, {0, 3}},    {SAFETENSORS_I8, 1, {1}},       {SAFETENSORS_U8, 3, {1, 1, 9}},
    {SAFETENSORS_BOOL, 1, {2}},      {SAFETENSORS_F32, 2, {70, 11}},
};
enum { written_count = sizeof written / sizeof written[0], most_bytes = 4096 };

static void fill(unsigned char *data, int which)
{
    for (int i = 0; i < most_bytes; i++) {
        data[i] = (unsigned char)(i * 13 + which);
    }
}

static const struct stored_scalar scalars[] = {
    {.name = "step", .kind = STORED_INTEGER, .integer = 240},
    {.name = "least", .kind = STORED_INTEGER, .integer = INT64_MIN},
    {.name = "edge", .kind = STORED_INTEGER, .integer = (int64_t)INT32_MAX + 1},
    {.name = "lr", .kind = STORED_NUMBER, .number = -1.25e-300},
    {.name = "inf", .kind = STORED_NUMBER, .number = INFINITY},
    {.name = "yes", .kind = STORED_BOOL, .integer = 1},
    {.name = "no", .kind = STORED_BOOL},
    {.name = "none", .kind = STORED_NONE},
    {.name = "text", .kind = STORED_TEXT, .text = "W\303\244gung\n\"'"},
    {.name = "", .kind = STORED_TEXT, .text = ""},
};
enum { scalar_count = sizeof scalars / sizeof scalars[0] };

static void write_all(const char *path)
{
    struct pt_writer *w = NULL;
    unsigned char data[most_bytes];
    char name[16];
    expect_ok(pt_writer_open(&w, path, PT_ORDERED_DICT));
    expect_ok(pt_writer_begin(w, "state_dict", PT_ORDERED_DICT));
    for (int i = 0; i < written_count; i++) {
        (void)snprintf(name, sizeof name, "t.%d", i);
        expect_ok(pt_writer_declare(w, name, written[i].type, written[i].rank, written[i].shape));
    }
    expect_ok(pt_writer_end(w));
    expect_ok(pt_writer_begin(w, "about", PT_DICT));
    expect_ok(pt_writer_begin(w, "empty", PT_DICT));
    expect_ok(pt_writer_end(w));
    for (int i = 0; i < scalar_count; i++) {
        expect_ok(pt_writer_scalar(w, &scalars[i]));
    }
    expect_ok(pt_writer_end(w));
    for (int i = 0; i < written_count; i++) {
        fill(data, i);
        expect_ok(pt_writer_put(w, data));
    }
    expect_ok(pt_writer_commit(w));
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    char path[256];
    write_all(in_folder(path, "all.pt"));
    struct tensor_file file;
    expect_ok(tensor_file_open(&file, path));
    assert_int_equal(file.format, TENSOR_FILE_PT);
    assert_int_equal(file.count, written_count);
    for (int i = 0; i < written_count; i++) {
        const struct stored_tensor *tensor = &file.tensors[i];
        char name[32];
        unsigned char data[most_bytes];
        unsigned char read[most_bytes];
        (void)snprintf(name, sizeof name, "state_dict.t.%d", i);
        assert_string_equal(tensor->name, name);
        assert_int_equal(tensor->type, written[i].type);
        assert_int_equal(tensor->rank, written[i].rank);
        assert_memory_equal(tensor->shape, written[i].shape, (size_t)tensor->rank * sizeof(int64_t));
        fill(data, i);
        expect_ok(tensor_file_read(&file, tensor, read));
        assert_memory_equal(read, data, tensor->bytes);
    }
    assert_int_equal(file.scalar_count, scalar_count);
    for (int i = 0; i < scalar_count; i++) {
        const struct stored_scalar *scalar = &file.scalars[i];
        assert_int_equal(strncmp(scalar->name, "about.", 6), 0);
        assert_string_equal(scalar->name + 6, scalars[i].name);
        assert_int_equal(scalar->kind, scalars[i].kind);
        assert_true(scalar->integer == scalars[i].integer);
        assert_true(scalar->number == scalars[i].number);
        assert_true((scalar->text == NULL) == (scalars[i].text == NULL));
        if (scalar->text != NULL) {
            assert_string_equal(scalar->text, scalars[i].text);
        }
    }
    tensor_file_close(&file);
}

static void the_bytes_are_a_function_of_the_calls(void **state)
{
    (void)state;
    char path[256];
    char bytes[2][32768];
    size_t sizes[2];
    for (int i = 0; i < 2; i++) {
        write_all(in_folder(path, i == 0 ? "one.pt" : "two.pt"));
        FILE *stream = fopen(path, "rb");
        assert_non_null(stream);
        sizes[i] = fread(bytes[i], 1, sizeof bytes[i], stream);
        (void)fclose(stream);
    }
    assert_true(sizes[0] < sizeof bytes[0]);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(bytes[0], bytes[1], sizes[0]);
}

/* Opens a writer, lets `call` fail on it, and sees that nothing appears. */
static void expect_failure(enum voco_status (*call)(struct pt_writer *), enum voco_status status,
                           const char *message)
{
    char path[256];
    struct pt_writer *w = NULL;
    const int before = files_in_folder();
    expect_ok(pt_writer_open(&w, in_folder(path, "refused.pt"), PT_DICT));
    assert_int_equal(call(w), status);
    expect_refused(pt_writer_commit(w), status, message);
    assert_int_equal(files_in_folder(), before);
}

static const int64_t axis[] = {3};

static enum voco_status same_key(struct pt_writer *w)
{
    expect_ok(pt_writer_declare(w, "a", SAFETENSORS_F32, 1, axis));
    return pt_writer_begin(w, "a", PT_DICT);
}

static enum voco_status bad_key(struct pt_writer *w)
{
    return pt_writer_begin(w, "\377", PT_DICT);
}

static enum voco_status bad_text(struct pt_writer *w)
{
    return pt_writer_scalar(w, &(struct stored_scalar){.name = "a", .kind = STORED_TEXT, .text = "\377"});
}

static enum voco_status wide_unsigned(struct pt_writer *w)
{
    return pt_writer_declare(w, "a", SAFETENSORS_U16, 1, axis);
}

static enum voco_status impossible_shape(struct pt_writer *w)
{
    const int64_t shape[] = {0, (int64_t)1 << 40, (int64_t)1 << 40};
    return pt_writer_declare(w, "a", SAFETENSORS_F32, 3, shape);
}

static enum voco_status end_of_root(struct pt_writer *w)
{
    return pt_writer_end(w);
}

static enum voco_status too_deep(struct pt_writer *w)
{
    enum voco_status status = VOCO_OK;
    for (int i = 0; status == VOCO_OK && i < 100; i++) {
        status = pt_writer_begin(w, "d", PT_ORDERED_DICT);
    }
    return status;
}

static enum voco_status open_dict(struct pt_writer *w)
{
    expect_ok(pt_writer_declare(w, "a", SAFETENSORS_U8, 1, axis));
    expect_ok(pt_writer_begin(w, "d", PT_DICT));
    return pt_writer_put(w, "abc");
}

static enum voco_status too_many(struct pt_writer *w)
{
    return pt_writer_put(w, "abc");
}

static enum voco_status too_late(struct pt_writer *w)
{
    expect_ok(pt_writer_declare(w, "a", SAFETENSORS_U8, 1, axis));
    expect_ok(pt_writer_put(w, "abc"));
    return pt_writer_declare(w, "b", SAFETENSORS_U8, 1, axis);
}

static enum voco_status too_few(struct pt_writer *w)
{
    expect_ok(pt_writer_declare(w, "a", SAFETENSORS_U8, 1, axis));
    expect_ok(pt_writer_declare(w, "b", SAFETENSORS_U8, 1, axis));
    expect_ok(pt_writer_put(w, "abc"));
    return VOCO_BAD_INPUT; /* seen by commit */
}

static void what_cannot_be_written_is_refused(void **state)
{
    (void)state;
    expect_failure(same_key, VOCO_BAD_INPUT, "refused.pt: \"a\" is given twice");
    expect_failure(bad_key, VOCO_BAD_INPUT, "is not UTF-8 text");
    expect_failure(bad_text, VOCO_BAD_INPUT, "the value of \"a\" is not UTF-8 text");
    expect_failure(wide_unsigned, VOCO_UNSUPPORTED, "tensor \"a\": cannot write the type U16");
    expect_failure(impossible_shape, VOCO_BAD_INPUT, "tensor \"a\" has a shape that cannot be");
    expect_failure(end_of_root, VOCO_BAD_INPUT, "more dicts end than were begun");
    expect_failure(too_deep, VOCO_BAD_INPUT, "nested more than 64 deep");
    expect_failure(open_dict, VOCO_BAD_INPUT, "a dict has not ended");
    expect_failure(too_many, VOCO_BAD_INPUT, "more tensors are written than declared");
    expect_failure(too_late, VOCO_BAD_INPUT, "\"b\" is given too late");
    expect_failure(too_few, VOCO_BAD_INPUT, "2 tensors were declared, 1 written");
}

static void a_failed_writer_leaves_the_old_file(void **state)
{
    (void)state;
    char path[256];
    struct pt_writer *w = NULL;
    struct pt file;
    write_all(in_folder(path, "kept.pt"));
    expect_ok(pt_writer_open(&w, path, PT_DICT));
    expect_ok(pt_writer_declare(w, "a", SAFETENSORS_U8, 1, axis));
    expect_ok(pt_writer_put(w, "abc"));
    pt_writer_discard(w);
    expect_ok(pt_open(&file, path));
    assert_int_equal(file.count, written_count);
    pt_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pickle_is_that_of_the_format),
        cmocka_unit_test(storages_lie_at_multiples_of_64_bytes),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(the_bytes_are_a_function_of_the_calls),
        cmocka_unit_test(what_cannot_be_written_is_refused),
        cmocka_unit_test(a_failed_writer_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, make_file_folder, remove_file_folder);
}
