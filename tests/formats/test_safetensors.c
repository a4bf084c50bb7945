/* safetensors: what is written is read back, byte for byte as the format says; what is damaged is refused in
 * one line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/file_folder.h"
#include "formats/safetensors.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A file made by hand: header text and that many data bytes, 0, 1, 2, ... Free the result. */
static unsigned char *file_of(const char *header, size_t data, size_t *size)
{
    const uint64_t length = strlen(header);
    *size = 8 + length + data;
    unsigned char *bytes = malloc(*size);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    for (size_t i = 0; i < length; i++) {
        bytes[8 + i] = (unsigned char)header[i];
    }
    for (size_t i = 0; i < data; i++) {
        bytes[8 + length + i] = (unsigned char)i;
    }
    return bytes;
}

static void the_bytes_are_those_of_the_format(void **state)
{
    (void)state;
    char path[256];
    in_folder(path, "known.safetensors");
    struct safetensors_writer *w = NULL;
    const int64_t shape[] = {2, 1};
    const float values[] = {1.0F, -2.5F};
    const uint8_t small[] = {7, 8, 9};
    const int64_t three[] = {3};
    assert_int_equal(safetensors_writer_open(&w, path), VOCO_OK);
    assert_int_equal(safetensors_writer_metadata(w, "z", "a \"b\""), VOCO_OK);
    assert_int_equal(safetensors_writer_metadata(w, "a", ""), VOCO_OK);
    assert_int_equal(safetensors_writer_declare(w, "w", SAFETENSORS_F32, 2, shape), VOCO_OK);
    assert_int_equal(safetensors_writer_declare(w, "b", SAFETENSORS_U8, 1, three), VOCO_OK);
    assert_int_equal(safetensors_writer_put(w, values), VOCO_OK);
    assert_int_equal(safetensors_writer_put(w, small), VOCO_OK);
    assert_int_equal(safetensors_writer_commit(w), VOCO_OK);
    /* Written out by hand after the format's description. */
    static const char header[] = "{\"__metadata__\":{\"z\":\"a \\\"b\\\"\",\"a\":\"\"},"
                                 "\"w\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}";
    const size_t padded = (sizeof header - 1 + 7) / 8 * 8;
    unsigned char expected[512] = {0};
    const uint64_t length = padded;
    memcpy(expected, &length, 8);
    memset(expected + 8, ' ', padded);
    memcpy(expected + 8, header, sizeof header - 1);
    static const unsigned char data[] = {0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x20, 0xc0, 7, 8, 9};
    memcpy(expected + 8 + padded, data, sizeof data);
    unsigned char bytes[512];
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    assert_int_equal(fread(bytes, 1, sizeof bytes, stream), 8 + padded + sizeof data);
    (void)fclose(stream);
    assert_memory_equal(bytes, expected, 8 + padded + sizeof data);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    char path[256];
    in_folder(path, "many.safetensors");
    enum { tensors = 700 };
    struct safetensors_writer *w = NULL;
    assert_int_equal(safetensors_writer_open(&w, path), VOCO_OK);
    const int64_t index_shape[] = {3, 5};
    int64_t index[15];
    for (int i = 0; i < 15; i++) {
        index[i] = (int64_t)1 << (4 * i);
    }
    assert_int_equal(safetensors_writer_declare(w, "index", SAFETENSORS_I64, 2, index_shape), VOCO_OK);
    char name[32];
    for (int64_t i = 0; i < tensors; i++) {
        const int64_t shape[] = {i % 7, 3};
        (void)snprintf(name, sizeof name, "t%lld", (long long)(i * 37 % tensors));
        assert_int_equal(safetensors_writer_declare(w, name, SAFETENSORS_F32, 2, shape), VOCO_OK);
    }
    assert_int_equal(safetensors_writer_declare(w, "scalar", SAFETENSORS_F32, 0, NULL), VOCO_OK);
    assert_int_equal(safetensors_writer_put(w, index), VOCO_OK);
    float values[21];
    for (int i = 0; i < tensors + 1; i++) {
        for (int j = 0; j < 21; j++) {
            values[j] = (float)(i * 37 % tensors) + (float)j / 32.0F;
        }
        assert_int_equal(safetensors_writer_put(w, values), VOCO_OK);
    }
    assert_int_equal(safetensors_writer_commit(w), VOCO_OK);

    struct safetensors file;
    assert_int_equal(safetensors_open(&file, path), VOCO_OK);
    assert_int_equal(file.count, tensors + 2);
    const struct safetensors_tensor *tensor = NULL;
    assert_int_equal(safetensors_require(&tensor, &file, "index", 2, index_shape), VOCO_OK);
    int64_t index_read[15];
    assert_int_equal(safetensors_read(&file, tensor, index_read), VOCO_OK);
    assert_memory_equal(index_read, index, sizeof index);
    for (int64_t i = 0; i < tensors; i++) {
        const int64_t shape[] = {i % 7, 3};
        (void)snprintf(name, sizeof name, "t%lld", (long long)(i * 37 % tensors));
        assert_int_equal(safetensors_require(&tensor, &file, name, 2, shape), VOCO_OK);
        assert_int_equal(tensor->count, 3 * (i % 7));
        assert_int_equal(safetensors_read_floats(&file, tensor, values), VOCO_OK);
        for (size_t j = 0; j < tensor->count; j++) {
            assert_true(values[j] == (float)(i * 37 % tensors) + (float)j / 32.0F);
        }
    }
    tensor = safetensors_find(&file, "scalar");
    assert_non_null(tensor);
    assert_int_equal(tensor->count, 1);
    assert_null(safetensors_find(&file, "t700"));
    assert_null(safetensors_find(&file, ""));
    safetensors_close(&file);
}

/* One element of every type, against values written by hand from the formats' definitions. */
static void every_type_becomes_float(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        unsigned char bytes[8];
        size_t size;
        float value;
    } cases[] = {
        {"F64", {0, 0, 0, 0, 0, 0, 0xf8, 0xbf}, 8, -1.5F},
        {"F32", {0xdb, 0x0f, 0x49, 0x40}, 4, 3.14159274F},
        {"F16", {0x00, 0x3c}, 2, 1.0F},
        {"F16", {0x55, 0xb5}, 2, -0.333251953F},
        {"F16", {0x01, 0x00}, 2, 0x1p-24F},
        {"F16", {0xff, 0x83}, 2, -0x3ffp-24F},
        {"F16", {0xff, 0x7b}, 2, 65504.0F},
        {"F16", {0x00, 0x7c}, 2, INFINITY},
        {"BF16", {0x20, 0xc0}, 2, -2.5F},
        {"BF16", {0x80, 0x7f}, 2, INFINITY},
        {"I64", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8, -1.0F},
        {"I32", {0, 0, 0, 0x80}, 4, -2147483648.0F},
        {"I16", {0xfe, 0xff}, 2, -2.0F},
        {"I8", {0x80}, 1, -128.0F},
        {"U64", {0, 0, 0, 0, 0, 0, 0, 0x80}, 8, 9223372036854775808.0F},
        {"U32", {0, 0, 0, 0x80}, 4, 2147483648.0F},
        {"U16", {0xfe, 0xff}, 2, 65534.0F},
        {"U8", {0x80}, 1, 128.0F},
        {"BOOL", {1}, 1, 1.0F},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        /* Two values, so that the second is read too; behind one odd byte, so that nothing is aligned. */
        char header[256];
        (void)snprintf(header, sizeof header,
                       "{\"o\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                       "\"x\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[1,%zu]}}",
                       cases[i].type, 1 + 2 * cases[i].size);
        size_t size = 0;
        unsigned char *bytes = file_of(header, 1 + 2 * cases[i].size, &size);
        memcpy(bytes + size - cases[i].size, cases[i].bytes, cases[i].size);
        memcpy(bytes + size - 2 * cases[i].size, cases[i].bytes, cases[i].size);
        struct safetensors file;
        assert_int_equal(safetensors_open_memory(&file, bytes, size, "x"), VOCO_OK);
        float values[2] = {NAN, NAN};
        assert_int_equal(safetensors_read_floats(&file, safetensors_find(&file, "x"), values), VOCO_OK);
        assert_true(values[0] == cases[i].value && values[1] == cases[i].value);
        safetensors_close(&file);
        free(bytes);
    }
}

static void pieces_join_without_a_seam(void **state)
{
    (void)state;
    /* 40 000 halves are converted in several pieces. */
    size_t size = 0;
    unsigned char *bytes =
        file_of("{\"h\":{\"dtype\":\"U16\",\"shape\":[200,200],\"data_offsets\":[0,80000]}}", 80000, &size);
    for (uint32_t i = 0; i < 40000; i++) {
        const uint16_t value = (uint16_t)i;
        memcpy(bytes + size - 80000 + 2 * (size_t)i, &value, 2);
    }
    struct safetensors file;
    assert_int_equal(safetensors_open_memory(&file, bytes, size, "h"), VOCO_OK);
    float *values = malloc(40000 * sizeof *values);
    assert_non_null(values);
    assert_int_equal(safetensors_read_floats(&file, safetensors_find(&file, "h"), values), VOCO_OK);
    for (int i = 0; i < 40000; i++) {
        assert_true(values[i] == (float)i);
    }
    free(values);
    safetensors_close(&file);
    free(bytes);
}

static void wrong_files_are_refused_with_the_cause(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *words;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7,
         "cut short: the header promises 70 bytes, the file has 69"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9,
         "too long: the header promises"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "there is a hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"U8\",\"shape\":["
         "4],\"data_offsets\":[4,8]}}",
         8, "tensors overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":"
         "[2],\"data_offsets\":[0,8]}}",
         8, "tensors overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
         "\"a\": F32 [2] is 8 bytes, but its data_offsets are [0, 4]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "data_offsets are [8, 0]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8,
         "no pair of \"data_offsets\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "no pair of \"data_offsets\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "axis 0 of its shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "axis 0 of its shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "has no \"shape\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
         "more than 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         "too large to exist"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
         "too large to exist"},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown type \"F33\""},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "no \"dtype\""},
        {"{\"a\":7}", 0, "no \"dtype\""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"U8\",\"shape\":["
         "0],\"data_offsets\":[0,0]}}",
         0, "duplicate"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "\"a\" is not a string"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"[1,2,3,4]", 0, "does not begin with {"},
        {"{\"a\":", 0, "not a JSON object"},
        {"{\"a\":{}}garbage", 0, "not a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = 0;
        unsigned char *bytes = file_of(cases[i].header, cases[i].data, &size);
        struct safetensors file;
        assert_int_equal(safetensors_open_memory(&file, bytes, size, "some.safetensors"), VOCO_BAD_INPUT);
        if (strstr(voco_error_message(), cases[i].words) == NULL) {
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, voco_error_message(), cases[i].words);
        }
        assert_memory_equal(voco_error_message(), "some.safetensors: ", 18);
        safetensors_close(&file);
        free(bytes);
    }
}

static void lengths_are_bounded_before_anything_is_read(void **state)
{
    (void)state;
    static const struct {
        unsigned char bytes[16];
        size_t size;
        const char *words;
    } cases[] = {
        {{0}, 0, "it has 0 bytes"},
        {{2, 0, 0, 0}, 7, "it has 7 bytes"},
        {{0}, 16, "no header length"},
        {{1, 0, 0, 0, 0, 0, 0, 0, '{'}, 9, "no header length"},
        {"plain text, no t", 16, "no header length"},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 16, "no header length"},
        {{0, 0xe1, 0xf5, 5, 0, 0, 0, 0},
         16,
         "cut short: a header of 100000000 bytes is promised, the file has 16"},
        {{9, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 16, "cut short: a header of 9 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char *bytes = malloc(cases[i].size + 1);
        assert_non_null(bytes);
        memcpy(bytes, cases[i].bytes, cases[i].size);
        struct safetensors file;
        assert_int_equal(safetensors_open_memory(&file, bytes, cases[i].size, "f"), VOCO_BAD_INPUT);
        assert_non_null(strstr(voco_error_message(), cases[i].words));
        free(bytes);
    }
}

static void what_is_not_there_or_no_file_is_said(void **state)
{
    (void)state;
    struct safetensors file;
    char path[256];
    assert_int_equal(safetensors_open(&file, in_folder(path, "nothing")), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), "nothing: cannot open: No such file"));
    assert_int_equal(safetensors_open(&file, file_folder), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "not a file"));
    safetensors_close(&file);
}

static void a_missing_or_other_shape_is_named(void **state)
{
    (void)state;
    size_t size = 0;
    unsigned char *bytes =
        file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[2,3],\"data_offsets\":[0,6]}}", 6, &size);
    struct safetensors file;
    assert_int_equal(safetensors_open_memory(&file, bytes, size, "f"), VOCO_OK);
    const struct safetensors_tensor *tensor = NULL;
    const int64_t other[] = {3, 2};
    assert_int_equal(safetensors_require(&tensor, &file, "a", 2, other), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "f: tensor \"a\" is [2, 3], but [3, 2] is needed");
    assert_int_equal(safetensors_require(&tensor, &file, "b", 0, NULL), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "f: lacks the tensor \"b\" []");
    safetensors_close(&file);
    free(bytes);
}

static void the_writer_refuses_misuse(void **state)
{
    (void)state;
    const int64_t one[] = {1};
    const int64_t huge[] = {INT64_MAX, 2};
    static const char *const words[] = {"misaligned",  "twice",        "cannot be",
                                        "not written", "more tensors", "UTF-8"};
    for (int kind = 0; kind < 6; kind++) {
        struct safetensors_writer *w = NULL;
        char path[256];
        assert_int_equal(safetensors_writer_open(&w, in_folder(path, "refused.safetensors")), VOCO_OK);
        assert_int_equal(safetensors_writer_declare(w, "byte", SAFETENSORS_U8, 1, one), VOCO_OK);
        const char *expected = words[kind];
        if (kind == 0) {
            (void)safetensors_writer_declare(w, "wide", SAFETENSORS_F32, 1, one);
            expected = "aligned";
        } else if (kind == 1) {
            (void)safetensors_writer_declare(w, "byte", SAFETENSORS_U8, 1, one);
        } else if (kind == 2) {
            (void)safetensors_writer_declare(w, "huge", SAFETENSORS_U8, 2, huge);
        } else if (kind == 4) {
            (void)safetensors_writer_put(w, "a");
            (void)safetensors_writer_put(w, "b");
        } else if (kind == 5) {
            (void)safetensors_writer_declare(w, "\xff\xfe", SAFETENSORS_U8, 1, one);
        }
        assert_int_equal(safetensors_writer_commit(w), VOCO_BAD_INPUT);
        assert_non_null(strstr(voco_error_message(), expected));
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    char path[256];
    in_folder(path, "precious.safetensors");
    const int64_t shape[] = {100000};
    float *values = calloc(100000, sizeof *values);
    assert_non_null(values);
    for (int full = 0; full < 2; full++) {
        const int before = files_in_folder();
        struct safetensors_writer *w = NULL;
        assert_int_equal(safetensors_writer_open(&w, path), VOCO_OK);
        assert_int_equal(safetensors_writer_declare(w, "a", SAFETENSORS_F32, 1, shape), VOCO_OK);
        struct rlimit old;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        const struct rlimit small = {65536, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, full ? &small : &old), 0);
        values[0] = full ? 2.0F : 1.0F;
        const enum voco_status put = safetensors_writer_put(w, values);
        const enum voco_status commit = safetensors_writer_commit(w);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        (void)signal(SIGXFSZ, handler);
        assert_int_equal(put, full ? VOCO_IO : VOCO_OK);
        assert_int_equal(commit, full ? VOCO_IO : VOCO_OK);
        if (full) {
            assert_non_null(
                strstr(voco_error_message(), "precious.safetensors: cannot write: File too large"));
            assert_int_equal(files_in_folder(), before);
        }
    }
    struct safetensors file;
    assert_int_equal(safetensors_open(&file, path), VOCO_OK);
    values[0] = 0.0F;
    assert_int_equal(safetensors_read_floats(&file, safetensors_find(&file, "a"), values), VOCO_OK);
    assert_true(values[0] == 1.0F);
    safetensors_close(&file);
    free(values);
}

static void shapes_read_well(void **state)
{
    (void)state;
    const int64_t shape[] = {48, 1, 2};
    char text[32];
    assert_string_equal(safetensors_shape_text(text, sizeof text, 3, shape), "[48, 1, 2]");
    assert_string_equal(safetensors_shape_text(text, sizeof text, 0, NULL), "[]");
    assert_string_equal(safetensors_shape_text(text, 5, 3, shape), "[48,");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_the_format),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_type_becomes_float),
        cmocka_unit_test(pieces_join_without_a_seam),
        cmocka_unit_test(wrong_files_are_refused_with_the_cause),
        cmocka_unit_test(lengths_are_bounded_before_anything_is_read),
        cmocka_unit_test(what_is_not_there_or_no_file_is_said),
        cmocka_unit_test(a_missing_or_other_shape_is_named),
        cmocka_unit_test(the_writer_refuses_misuse),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(shapes_read_well),
    };
    return cmocka_run_group_tests(tests, make_file_folder, remove_file_folder);
}
