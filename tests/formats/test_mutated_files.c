/* Damaged files, .pt and safetensors, and such as say of themselves what is not so: each is refused in one
 * line, or read (suspect_file.h). (fuzz/ goes on from here for as long as one likes; these are the same in
 * every run.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/pt_bytes.h"
#include "formats/suspect_file.h"
#include "formats/tensor_file.h"
#include "fuzz/mutation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    damaged_files = 340, /* real files with a few bytes changed */
    most_size = 1 << 20, /* of a file */
};

/* ---- damaged files ---- */

static unsigned char *read_fixture(const char *name, size_t *size)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", VOCO_FORMATS_DATA, name);
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = malloc(most_size);
    assert_non_null(file);
    assert_non_null(bytes);
    *size = fread(bytes, 1, most_size, file);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void damaged_files_are_refused_or_read(void **state)
{
    (void)state;
    static const char *const names[] = {"types.pt",
                                        "strides.pt",
                                        "checkpoint.pt",
                                        "bare_tensor.pt",
                                        "strides_cuda.pt",
                                        "types.expected.safetensors",
                                        "strides_deflated.pt",
                                        "checkpoint.expected.safetensors",
                                        "strides.expected.safetensors",
                                        "strides_without_checksums.pt"};
    enum { count = sizeof names / sizeof names[0] };
    struct fuzz_input seeds[count];
    unsigned char *bytes[count];
    for (int i = 0; i < count; i++) {
        bytes[i] = read_fixture(names[i], &seeds[i].count);
        seeds[i].bytes = bytes[i];
    }
    unsigned char *damaged = malloc(most_size);
    assert_non_null(damaged);
    for (uint64_t number = 0; number < damaged_files; number++) {
        const size_t which = number % count;
        const size_t size = mutated_input(damaged, most_size, seeds, count, which, 7, number);
        write_suspect(damaged, size);
        check_suspect(strcmp(names[which], "strides_deflated.pt") == 0 ? NULL : damaged, size);
    }
    free(damaged);
    for (int i = 0; i < count; i++) {
        free(bytes[i]);
    }
}

/* ---- archives and headers that lie ---- */

static const unsigned char *find(const unsigned char *bytes, size_t size, const void *what, size_t length,
                                 int last)
{
    const unsigned char *found = NULL;
    const unsigned char *from = bytes;
    while ((from = memmem(from, size - (size_t)(from - bytes), what, length)) != NULL) {
        found = from++;
        if (!last) {
            break;
        }
    }
    assert_non_null(found);
    return found;
}

/* Each 16- and 32-bit field of the central directory's entry of a storage, and of the directory's end, with
 * each of a few lies. */
static void lies_in_the_directory_are_refused_or_harmless(void **state)
{
    (void)state;
    static const char pickle[] =
        PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "K\020"), "K\000", "K\020\205", "K\001\205"));
    static const uint32_t lies[] = {0xffffffffu, 0x7fffffffu, 4096};
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, sizeof pickle - 1);
    unsigned char *copy = malloc(size);
    assert_non_null(copy);
    const size_t entry = (size_t)(find(bytes, size, "archive/data/0", 14, 1) - bytes) - 46;
    const size_t end = (size_t)(find(bytes, size, "PK\5\6", 4, 1) - bytes);
    const size_t fields[] = {entry + 20, entry + 24, entry + 42, end + 12, end + 16};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        for (size_t lie = 0; lie < 3; lie++) {
            memcpy(copy, bytes, size);
            memcpy(copy + fields[i], &lies[lie], 4);
            const int before = suspects.refused;
            check_bytes(copy, size);
            if (fields[i] != entry + 42) {
                expect_refused(before); /* a size, or where the directory lies */
            }
        }
    }
    free(copy);
    free(bytes);
}

/* The storage's entry begins where data.pkl does: the checksum or the local header's name gives it away. */
static void overlapping_entries_are_noticed(void **state)
{
    (void)state;
    static const char pickle[] =
        PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "K\020"), "K\000", "K\020\205", "K\001\205"));
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, sizeof pickle - 1);
    const size_t entry = (size_t)(find(bytes, size, "archive/data/0", 14, 1) - bytes) - 46;
    memset(bytes + entry + 42, 0, 4);
    write_suspect(bytes, size);
    struct tensor_file file;
    float values[16];
    if (tensor_file_open(&file, suspects.path) == VOCO_OK) {
        assert_int_equal(tensor_file_read_floats(&file, &file.tensors[0], values), VOCO_BAD_INPUT);
    }
    assert_one_line_names_it();
    tensor_file_close(&file);
    check_suspect(bytes, size);
    free(bytes);
}

static void check_header(const char *header, uint64_t length, size_t data)
{
    const size_t count = strlen(header);
    unsigned char *bytes = calloc(1, 8 + count + data);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, count); /* NOLINT(bugprone-not-null-terminated-result) no text */
    const int before = suspects.refused;
    check_bytes(bytes, 8 + count + data);
    expect_refused(before);
    free(bytes);
}

#define ENTRY(name, shape, begin, end)                                                                       \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void lying_headers_are_refused(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{" ENTRY("a", "[4611686018427387904]", "0", "16") "}",
        "{" ENTRY("a", "[4294967296,4294967296]", "0", "0") "}",
        "{" ENTRY("a", "[4]", "0", "18446744073709551615") "}",
        "{" ENTRY("a", "[4]", "9223372036854775800", "9223372036854775816") "}",
        "{" ENTRY("a", "[4]", "16", "0") "}",
        "{" ENTRY("a", "[4]", "0", "16") "," ENTRY("b", "[4]", "0", "16") "}",
        "{" ENTRY("a", "[4]", "0", "16") "," ENTRY("b", "[4]", "8", "24") "}",
        "{" ENTRY("a", "[2]", "0", "8") "," ENTRY("a", "[2]", "8", "16") "}",
        "{" ENTRY("a", "[-4]", "0", "16") "}",
        "{" ENTRY("a", "[4.0]", "0", "16") "}",
        "{" ENTRY("a", "[1,1,1,1,1,1,1,1,1,4]", "0", "16") "}",
        "{" ENTRY("a\\nb", "[5]", "0", "16") "}",
        "{" ENTRY("\\u001b[2J", "[5]", "0", "16") "}",
        "{\"a\":{\"dtype\":\"F\\n32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"__metadata__\":{\"a\\nb\":1}}",
        "{\"a\":[]}",
        "[]",
        "{",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        check_header(headers[i], strlen(headers[i]), 16);
    }
    static const uint64_t lengths[] = {UINT64_MAX, (uint64_t)1 << 63, 100000000, 4096, 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        check_header("{" ENTRY("a", "[4]", "0", "16") "}", lengths[i], 16);
    }
}

static void deep_headers_are_refused(void **state)
{
    (void)state;
    enum { levels = 100000 };
    char *header = malloc(2 * levels + 64);
    assert_non_null(header);
    const int length = sprintf(header, "{\"a\":");
    memset(header + length, '[', levels);
    header[length + levels] = '\0';
    check_header(header, strlen(header), 0);
    for (int i = 0; i + 2 < levels; i += 3) {
        memcpy(header + length + 1 + i, "[],", 3);
    }
    (void)sprintf(header + length + levels - levels % 3, "0]}");
    check_header(header, strlen(header), 0);
    free(header);
}

static void there_are_380(void **state)
{
    (void)state;
    assert_true(suspects.files >= 380);
    assert_true(suspects.refused >= 200 && suspects.read >= 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_files_are_refused_or_read),
        cmocka_unit_test(lies_in_the_directory_are_refused_or_harmless),
        cmocka_unit_test(overlapping_entries_are_noticed),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(deep_headers_are_refused),
        cmocka_unit_test(there_are_380),
    };
    return cmocka_run_group_tests(tests, name_suspects, remove_suspects);
}
