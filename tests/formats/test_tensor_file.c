/* A file of tensors is opened by what is in it, and both formats say the same through one interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/tensor_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *data_path(char path[512], const char *name)
{
    (void)snprintf(path, 512, "%s/%s", VOCO_FORMATS_DATA, name);
    return path;
}

/* Every tensor of one file is in the other, with the same type, shape, bytes and floats. */
static void expect_same_tensors(const char *name, const char *other_name)
{
    char path[512];
    struct tensor_file file;
    struct tensor_file other;
    assert_int_equal(tensor_file_open(&file, data_path(path, name)), VOCO_OK);
    assert_int_equal(tensor_file_open(&other, data_path(path, other_name)), VOCO_OK);
    assert_int_equal(file.format, TENSOR_FILE_PT);
    assert_int_equal(other.format, TENSOR_FILE_SAFETENSORS);
    assert_int_equal(file.count, other.count);
    unsigned char bytes[2][4096];
    float floats[2][1024];
    for (size_t i = 0; i < other.count; i++) {
        const struct stored_tensor *theirs = &other.tensors[i];
        const struct stored_tensor *ours = tensor_file_find(&file, theirs->name);
        assert_non_null(ours);
        assert_ptr_equal(tensor_file_find(&other, theirs->name), theirs);
        assert_int_equal(ours->type, theirs->type);
        assert_int_equal(ours->rank, theirs->rank);
        assert_int_equal(ours->count, theirs->count);
        assert_true(ours->bytes <= sizeof bytes[0] && ours->count <= 1024);
        assert_int_equal(tensor_file_read(&file, ours, bytes[0]), VOCO_OK);
        assert_int_equal(tensor_file_read(&other, theirs, bytes[1]), VOCO_OK);
        assert_memory_equal(bytes[0], bytes[1], theirs->bytes);
        assert_int_equal(tensor_file_read_floats(&file, ours, floats[0]), VOCO_OK);
        assert_int_equal(tensor_file_read_floats(&other, theirs, floats[1]), VOCO_OK);
        assert_memory_equal(floats[0], floats[1], theirs->count * sizeof(float));
    }
    assert_null(tensor_file_find(&file, "none"));
    assert_null(tensor_file_find(&other, "none"));
    tensor_file_close(&other);
    tensor_file_close(&file);
}

static void both_formats_give_the_same_tensors(void **state)
{
    (void)state;
    expect_same_tensors("strides.pt", "strides.expected.safetensors");
    expect_same_tensors("checkpoint.pt", "checkpoint.expected.safetensors");
}

static void scalars_are_found_by_name(void **state)
{
    (void)state;
    char path[512];
    struct tensor_file file;
    assert_int_equal(tensor_file_open(&file, data_path(path, "checkpoint.pt")), VOCO_OK);
    assert_int_equal(tensor_file_find_scalar(&file, "epoch")->integer, 3);
    assert_null(tensor_file_find_scalar(&file, "state_dict"));
    tensor_file_close(&file);
    char name[] = "/tmp/voco-tensor-file-XXXXXX";
    const int descriptor = mkstemp(name);
    assert_true(descriptor >= 0);
    (void)close(descriptor);
    struct safetensors_writer *w = NULL;
    assert_int_equal(safetensors_writer_open(&w, name), VOCO_OK);
    assert_int_equal(safetensors_writer_metadata(w, "step", "240"), VOCO_OK);
    assert_int_equal(safetensors_writer_commit(w), VOCO_OK);
    assert_int_equal(tensor_file_open(&file, name), VOCO_OK);
    assert_int_equal(file.count, 0);
    assert_int_equal(tensor_file_find_scalar(&file, "step")->kind, STORED_TEXT);
    assert_string_equal(tensor_file_find_scalar(&file, "step")->text, "240");
    tensor_file_close(&file);
    (void)unlink(name);
}

/* Whatever the length of a header, its bytes are not taken for another format's mark. */
static void a_header_of_any_length_is_safetensors(void **state)
{
    (void)state;
    char name[] = "/tmp/voco-tensor-file-XXXXXX";
    const int descriptor = mkstemp(name);
    assert_true(descriptor >= 0);
    (void)close(descriptor);
    char text[300] = "";
    for (size_t length = 0; length + 1 < sizeof text; length++) {
        struct tensor_file file;
        struct safetensors_writer *w = NULL;
        assert_int_equal(safetensors_writer_open(&w, name), VOCO_OK);
        assert_int_equal(safetensors_writer_metadata(w, "text", text), VOCO_OK);
        assert_int_equal(safetensors_writer_commit(w), VOCO_OK);
        assert_int_equal(tensor_file_open(&file, name), VOCO_OK);
        assert_int_equal(file.format, TENSOR_FILE_SAFETENSORS);
        tensor_file_close(&file);
        text[length] = 'x';
    }
    (void)unlink(name);
}

static void expect_refused(const char *path, enum voco_status status, const char *message)
{
    struct tensor_file file;
    assert_int_equal(tensor_file_open(&file, path), status);
    if (strstr(voco_error_message(), message) == NULL) {
        fail_msg("\"%s\" instead of \"%s\"", voco_error_message(), message);
    }
    tensor_file_close(&file); /* harmless */
}

static void other_files_are_refused(void **state)
{
    (void)state;
    char path[512];
    char name[] = "/tmp/voco-tensor-file-XXXXXX";
    const int descriptor = mkstemp(name);
    assert_true(descriptor >= 0);
    expect_refused(name, VOCO_BAD_INPUT, "neither a safetensors file nor a .pt file of torch.save");
    assert_int_equal(write(descriptor, "\010\0\0\0\0\0\0\0{\"a\": 1}", 16), 16);
    expect_refused(name, VOCO_BAD_INPUT, "tensor \"a\" has no \"dtype\"");
    (void)close(descriptor);
    (void)unlink(name);
    expect_refused(name, VOCO_IO, "cannot open");
    expect_refused(VOCO_FORMATS_DATA, VOCO_BAD_INPUT, "not a file");
    expect_refused(data_path(path, "legacy.pt"), VOCO_BAD_INPUT, "PyTorch before 1.6");
    expect_refused(data_path(path, "module.pt"), VOCO_BAD_INPUT, "'torch.nn.modules.linear.Linear'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_formats_give_the_same_tensors),
        cmocka_unit_test(scalars_are_found_by_name),
        cmocka_unit_test(a_header_of_any_length_is_safetensors),
        cmocka_unit_test(other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
