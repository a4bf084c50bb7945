/* .pt files that PyTorch wrote are read: every tensor has the bytes that PyTorch saw, under its name. The
 * files and the tensors beside them, as safetensors, are made by tools/interop/make_pt_fixtures.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/pt.h"
#include "formats/pt_bytes.h"
#include "formats/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *data_path(char path[512], const char *name)
{
    (void)snprintf(path, 512, "%s/%s", VOCO_FORMATS_DATA, name);
    return path;
}

static void *allocate(size_t bytes)
{
    void *block = malloc(bytes + 1);
    assert_non_null(block);
    return block;
}

static void open_fixture(struct pt *file, const char *name)
{
    char path[512];
    if (pt_open(file, data_path(path, name)) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
}

/* One tensor, raw and as floats, against the one of the other file. */
static void expect_same(const struct pt *file, const struct stored_tensor *tensor,
                        const struct safetensors *expected, const struct safetensors_tensor *wanted)
{
    assert_int_equal(tensor->type, wanted->type);
    assert_int_equal(tensor->rank, wanted->rank);
    assert_memory_equal(tensor->shape, wanted->shape, (size_t)wanted->rank * sizeof wanted->shape[0]);
    assert_int_equal(tensor->count, wanted->count);
    assert_int_equal(tensor->bytes, wanted->bytes);
    void *bytes = allocate(tensor->bytes);
    void *wanted_bytes = allocate(tensor->bytes);
    assert_int_equal(safetensors_read(expected, wanted, wanted_bytes), VOCO_OK);
    if (pt_read(file, tensor, bytes) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    assert_memory_equal(bytes, wanted_bytes, tensor->bytes);
    float *floats = allocate(tensor->count * sizeof *floats);
    float *wanted_floats = allocate(tensor->count * sizeof *floats);
    const enum voco_status status = safetensors_read_floats(expected, wanted, wanted_floats);
    assert_int_equal(pt_read_floats(file, tensor, floats), status);
    if (status == VOCO_OK) {
        assert_memory_equal(floats, wanted_floats, tensor->count * sizeof *floats);
    }
    free(wanted_floats);
    free(floats);
    free(wanted_bytes);
    free(bytes);
}

static void expect_tensors_of(const char *name, const char *expected_name)
{
    char path[512];
    struct pt file;
    struct safetensors expected;
    open_fixture(&file, name);
    assert_int_equal(safetensors_open(&expected, data_path(path, expected_name)), VOCO_OK);
    assert_int_equal(file.count, expected.count);
    for (size_t i = 0; i < file.count; i++) {
        const struct safetensors_tensor *wanted = safetensors_find(&expected, file.tensors[i].name);
        if (wanted == NULL) {
            fail_msg("%s: \"%s\" is not expected", name, file.tensors[i].name);
            return;
        }
        assert_ptr_equal(pt_find(&file, file.tensors[i].name), &file.tensors[i]);
        expect_same(&file, &file.tensors[i], &expected, wanted);
    }
    assert_null(pt_find(&file, "no such tensor"));
    safetensors_close(&expected);
    pt_close(&file);
}

static void every_type_is_read(void **state)
{
    (void)state;
    expect_tensors_of("types.pt", "types.expected.safetensors");
}

static void strides_offsets_and_shared_storages_are_read(void **state)
{
    (void)state;
    expect_tensors_of("strides.pt", "strides.expected.safetensors");
}

static void deflated_entries_are_read(void **state)
{
    (void)state;
    expect_tensors_of("strides_deflated.pt", "strides.expected.safetensors");
}

static void tensors_of_a_gpu_are_read_as_data(void **state)
{
    (void)state;
    expect_tensors_of("strides_cuda.pt", "strides.expected.safetensors");
}

static void files_without_checksums_are_read(void **state)
{
    (void)state;
    expect_tensors_of("strides_without_checksums.pt", "strides.expected.safetensors");
}

static void nested_dicts_parameters_and_an_optimiser_are_read(void **state)
{
    (void)state;
    expect_tensors_of("checkpoint.pt", "checkpoint.expected.safetensors");
}

static const struct stored_scalar *scalar(const struct pt *file, const char *name)
{
    for (size_t i = 0; i < file->scalar_count; i++) {
        if (strcmp(file->scalars[i].name, name) == 0) {
            return &file->scalars[i];
        }
    }
    fail_msg("no scalar \"%s\"", name);
    return NULL;
}

static void expect_integer(const struct pt *file, const char *name, int64_t value)
{
    assert_int_equal(scalar(file, name)->kind, STORED_INTEGER);
    assert_true(scalar(file, name)->integer == value);
}

static void expect_number(const struct pt *file, const char *name, double value)
{
    assert_int_equal(scalar(file, name)->kind, STORED_NUMBER);
    assert_true(scalar(file, name)->number == value);
}

static void expect_bool(const struct pt *file, const char *name, int value)
{
    assert_int_equal(scalar(file, name)->kind, STORED_BOOL);
    assert_int_equal(scalar(file, name)->integer, value);
}

static void expect_text(const struct pt *file, const char *name, const char *value)
{
    assert_int_equal(scalar(file, name)->kind, STORED_TEXT);
    assert_string_equal(scalar(file, name)->text, value);
}

static void scalars_have_their_kind_and_value(void **state)
{
    (void)state;
    struct pt file;
    open_fixture(&file, "checkpoint.pt");
    expect_integer(&file, "epoch", 3);
    expect_integer(&file, "negative", -70000);
    expect_integer(&file, "wide", -((int64_t)1 << 40));
    expect_number(&file, "seed", 0x1p64); /* 2^64 - 1, rounded */
    expect_number(&file, "best", 0.1);
    assert_int_equal(scalar(&file, "nothing")->kind, STORED_NONE);
    expect_bool(&file, "amp", 1);
    expect_text(&file, "name", "W\303\244gung");
    expect_integer(&file, "size.2", 64);
    expect_text(&file, "dtype", "torch.float32");
    expect_integer(&file, "lists.0.0", 1);
    expect_number(&file, "lists.0.1.0", 2.5);
    expect_bool(&file, "lists.0.1.1", 0);
    expect_integer(&file, "lists.3.3", 7);
    expect_number(&file, "optimizer.param_groups.0.lr", 1e-3);
    expect_number(&file, "optimizer.param_groups.0.betas.1", 0.999);
    expect_integer(&file, "optimizer.param_groups.0.params.3", 3);
    pt_close(&file);
}

static void a_tensor_by_itself_has_the_empty_name(void **state)
{
    (void)state;
    struct pt file;
    float values[6];
    open_fixture(&file, "bare_tensor.pt");
    assert_int_equal(file.count, 1);
    assert_string_equal(file.tensors[0].name, "");
    assert_int_equal(pt_read_floats(&file, &file.tensors[0], values), VOCO_OK);
    for (int i = 0; i < 6; i++) {
        assert_true(values[i] == (float)i);
    }
    pt_close(&file);
}

/* Memory instead of a file; every tensor of the dict lies in data/0, whose bytes are 0, 1, 2, ... */
static void a_file_in_memory_is_read(void **state)
{
    (void)state;
    static const char pickle[] = PT_BEGIN "}(" PT_TEXT("\001", "a") PT_SOUND_TENSOR PT_TEXT("\001", "b")
        PT_TENSOR(PT_STORAGE("ByteStorage", "0", "K\100"), "K\005", "K\002K\003\206", "K\001K\002\206") "u.";
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, sizeof pickle - 1);
    struct pt file;
    assert_int_equal(pt_open_memory(&file, bytes, size, "memory"), VOCO_OK);
    unsigned char read[24];
    assert_int_equal(pt_read(&file, pt_find(&file, "a"), read), VOCO_OK);
    for (int i = 0; i < 24; i++) {
        assert_int_equal(read[i], i);
    }
    static const unsigned char transposed[] = {5, 7, 9, 6, 8, 10};
    assert_int_equal(pt_read(&file, pt_find(&file, "b"), read), VOCO_OK);
    assert_memory_equal(read, transposed, sizeof transposed);
    pt_close(&file);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(strides_offsets_and_shared_storages_are_read),
        cmocka_unit_test(deflated_entries_are_read),
        cmocka_unit_test(tensors_of_a_gpu_are_read_as_data),
        cmocka_unit_test(files_without_checksums_are_read),
        cmocka_unit_test(nested_dicts_parameters_and_an_optimiser_are_read),
        cmocka_unit_test(scalars_have_their_kind_and_value),
        cmocka_unit_test(a_tensor_by_itself_has_the_empty_name),
        cmocka_unit_test(a_file_in_memory_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
