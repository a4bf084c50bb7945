#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/suspect_file.h"

#include "formats/heap_peak.h"
#include "formats/tensor_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { compared_elements = 16 }; /* of a tensor are looked for in the file */

/* What a file may take of the heap, opened and read. A pickle of a list of None, a byte each, takes most:
 * they are values on a stack first, then scalars with names. */
enum { heap_per_byte = 128, heap_fixed = 1 << 20 };

struct suspect_files suspects;

int name_suspects(void **state)
{
    (void)state;
    (void)snprintf(suspects.path, sizeof suspects.path, "/tmp/voco-mutated-XXXXXX");
    const int descriptor = mkstemp(suspects.path);
    return descriptor < 0 || close(descriptor) != 0;
}

int remove_suspects(void **state)
{
    (void)state;
    print_message("%d files: %d refused, %d read; heap %.2f of what is allowed\n", suspects.files,
                  suspects.refused, suspects.read, suspects.heap);
    return unlink(suspects.path);
}

/* ---- what holds for every file ---- */

void assert_one_line_names_it(void)
{
    const char *message = voco_error_message();
    if (strstr(message, suspects.path) == NULL) {
        fail_msg("file %d: \"%s\" does not name it", suspects.files, message);
    }
    for (const char *c = message; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c)) {
            fail_msg("file %d: the message is not one line of text: \"%s\"", suspects.files, message);
        }
    }
}

/* Elements as they are, so each lies somewhere in a file that is not compressed. */
static void assert_lies_in(const unsigned char *bytes, size_t size, const struct stored_tensor *tensor,
                           const unsigned char *values)
{
    const size_t element = safetensors_type_size(tensor->type);
    const size_t step = tensor->count / compared_elements + 1;
    for (size_t i = 0; i < tensor->count; i += step) {
        assert_non_null(memmem(bytes, size, values + i * element, element));
    }
}

static void read_tensor(const struct tensor_file *file, const struct stored_tensor *tensor,
                        const unsigned char *bytes, size_t size)
{
    unsigned char *values = malloc(tensor->bytes + 1);
    float *floats = malloc((tensor->count + 1) * sizeof *floats);
    assert_non_null(values);
    assert_non_null(floats);
    const enum voco_status status = tensor_file_read(file, tensor, values);
    if (status != VOCO_OK) {
        assert_one_line_names_it();
    } else if (bytes != NULL) {
        assert_lies_in(bytes, size, tensor, values);
    }
    if (tensor_file_read_floats(file, tensor, floats) != VOCO_OK) {
        assert_one_line_names_it();
    }
    free(floats);
    free(values);
}

static void read_file(const unsigned char *bytes, size_t size)
{
    struct tensor_file file;
    const enum voco_status status = tensor_file_open(&file, suspects.path);
    if (status == VOCO_OK) {
        for (size_t i = 0; i < file.count && i < 64; i++) {
            read_tensor(&file, &file.tensors[i], bytes, size);
        }
        suspects.read++;
    } else {
        assert_true(status == VOCO_BAD_INPUT || status == VOCO_UNSUPPORTED);
        assert_one_line_names_it();
        assert_int_equal(file.count, 0);
        suspects.refused++;
    }
    tensor_file_close(&file);
}

void check_suspect(const unsigned char *bytes, size_t size)
{
    suspects.files++;
    heap_peak_begin();
    read_file(bytes, size);
    const size_t heap = heap_peak_end();
    const double part = (double)heap / ((double)size * heap_per_byte + heap_fixed);
    if (part > 1.0) {
        fail_msg("file %d of %zu bytes takes %zu of the heap, %.2f times what is allowed", suspects.files,
                 size, heap, part);
    }
    suspects.heap = part > suspects.heap ? part : suspects.heap;
}

void write_suspect(const unsigned char *bytes, size_t size)
{
    FILE *file = fopen(suspects.path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void check_bytes(const unsigned char *bytes, size_t size)
{
    write_suspect(bytes, size);
    check_suspect(bytes, size);
}

void expect_refused(int before)
{
    if (suspects.refused != before + 1) {
        fail_msg("file %d is not refused", suspects.files);
    }
}
