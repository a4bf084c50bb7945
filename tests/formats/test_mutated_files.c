/* 500 damaged and hostile files, .pt and safetensors: each is refused in one line that names it, or read, and
 * then what is read lies in the file. None costs more memory than its size allows. (fuzz/ goes on from here
 * for as long as one likes; these 500 are the same in every run.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "formats/heap_peak.h"
#include "formats/pt_bytes.h"
#include "formats/tensor_file.h"
#include "fuzz/mutation.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

enum {
    damaged_files = 340,   /* real files with a few bytes changed */
    random_pickles = 100,  /* opcodes in any order */
    most_size = 1 << 20,   /* of a file */
    compared_elements = 16 /* of a tensor are looked for in the file */
};

/* What a file may take of the heap, opened and read. A pickle of a list of None, a byte each, takes most:
 * they are values on a stack first, then scalars with names. */
enum { heap_per_byte = 128, heap_fixed = 1 << 20 };

static struct {
    char path[64];
    int files, refused, read;
    double heap; /* the largest part of what was allowed */
} sum;

static int name_file(void **state)
{
    (void)state;
    (void)snprintf(sum.path, sizeof sum.path, "/tmp/voco-mutated-XXXXXX");
    const int descriptor = mkstemp(sum.path);
    return descriptor < 0 || close(descriptor) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    print_message("%d files: %d refused, %d read; heap %.2f of what is allowed\n", sum.files, sum.refused,
                  sum.read, sum.heap);
    return unlink(sum.path);
}

/* ---- what holds for every file ---- */

static void assert_one_line_names_it(void)
{
    const char *message = voco_error_message();
    if (strstr(message, sum.path) == NULL) {
        fail_msg("file %d: \"%s\" does not name it", sum.files, message);
    }
    for (const char *c = message; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c)) {
            fail_msg("file %d: the message is not one line of text: \"%s\"", sum.files, message);
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
    const enum voco_status status = tensor_file_open(&file, sum.path);
    if (status == VOCO_OK) {
        for (size_t i = 0; i < file.count && i < 64; i++) {
            read_tensor(&file, &file.tensors[i], bytes, size);
        }
        sum.read++;
    } else {
        assert_true(status == VOCO_BAD_INPUT || status == VOCO_UNSUPPORTED);
        assert_one_line_names_it();
        assert_int_equal(file.count, 0);
        sum.refused++;
    }
    tensor_file_close(&file);
}

/* The file at the path, of `size` bytes. `bytes`: its content where nothing in it is compressed. */
static void check_file(const unsigned char *bytes, size_t size)
{
    sum.files++;
    heap_peak_begin();
    read_file(bytes, size);
    const size_t heap = heap_peak_end();
    const double part = (double)heap / ((double)size * heap_per_byte + heap_fixed);
    if (part > 1.0) {
        fail_msg("file %d of %zu bytes takes %zu of the heap, %.2f times what is allowed", sum.files, size,
                 heap, part);
    }
    sum.heap = part > sum.heap ? part : sum.heap;
}

static void write_file(const unsigned char *bytes, size_t size)
{
    FILE *file = fopen(sum.path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void check(const unsigned char *bytes, size_t size)
{
    write_file(bytes, size);
    check_file(bytes, size);
}

static void check_pickle(const void *pickle, size_t pickle_size)
{
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, pickle_size);
    check(bytes, size);
    free(bytes);
}

static void expect_refused(int refused_before)
{
    if (sum.refused != refused_before + 1) {
        fail_msg("file %d is not refused", sum.files);
    }
}

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
        write_file(damaged, size);
        check_file(strcmp(names[which], "strides_deflated.pt") == 0 ? NULL : damaged, size);
    }
    free(damaged);
    for (int i = 0; i < count; i++) {
        free(bytes[i]);
    }
}

/* ---- pickles ---- */

/* Pieces that a pickle is made of, sound and hostile. */
#define PIECE(text)                                                                                          \
    {                                                                                                        \
        text, sizeof(text) - 1                                                                               \
    }
static const struct {
    const char *bytes;
    size_t size;
} pieces[] = {
    PIECE("N"),
    PIECE("}"),
    PIECE("]"),
    PIECE(")"),
    PIECE("("),
    PIECE("t"),
    PIECE("s"),
    PIECE("u"),
    PIECE("a"),
    PIECE("e"),
    PIECE("\205"),
    PIECE("\206"),
    PIECE("\207"),
    PIECE("R"),
    PIECE("b"),
    PIECE("Q"),
    PIECE("q\000"),
    PIECE("h\000"),
    PIECE("q\001"),
    PIECE("h\001"),
    PIECE("r\377\000\000\000"),
    PIECE("j\377\377\377\377"),
    PIECE("K\003"),
    PIECE("M\377\377"),
    PIECE("J\377\377\377\377"),
    PIECE("\212\010\377\377\377\377\377\377\377\177"),
    PIECE("\212\377"),
    PIECE("\210"),
    PIECE("\211"),
    PIECE("G\177\360\000\000\000\000\000\000"),
    PIECE("X\377\377\377\177"),
    PIECE("X\000\000\000\200"),
    PIECE(PT_TEXT("\001", "a")),
    PIECE(PT_TEXT("\003", "a\nb")),
    PIECE(PT_TEXT("\002", "\033[")),
    PIECE("cos\nsystem\n"),
    PIECE("cbuiltins\neval\n"),
    PIECE("c\033[2J\nx\n"),
    PIECE("ccollections\nOrderedDict\n"),
    PIECE("ctorch\nFloatStorage\n"),
    PIECE("ctorch\nSize\n"),
    PIECE("ctorch._utils\n_rebuild_tensor_v2\n"),
    PIECE("ctorch._utils\n_rebuild_parameter\n"),
    PIECE(PT_STORAGE("FloatStorage", "0", "K\020")),
    PIECE(PT_STORAGE("LongStorage", "1", "K\001")),
    PIECE(PT_STORAGE("ByteStorage", "0", "J\377\377\377\177")),
    PIECE(PT_SOUND_TENSOR),
    PIECE(PT_TEXT("\001", "b") PT_SOUND_TENSOR "s"),
    PIECE("."),
    PIECE("\377"),
};

static void opcodes_in_any_order_are_refused_or_read(void **state)
{
    (void)state;
    for (uint64_t number = 0; number < random_pickles; number++) {
        const struct random_key key = {.seed = 11, .step = number, .purpose = RANDOM_TEST};
        char pickle[8192] = PT_BEGIN "}";
        size_t length = 3;
        const uint32_t count = 1 + random_below(&key, 0, 40);
        for (uint32_t i = 0; i < count; i++) {
            const size_t piece = random_below(&key, i + 1, sizeof pieces / sizeof pieces[0]);
            memcpy(pickle + length, pieces[piece].bytes, pieces[piece].size);
            length += pieces[piece].size;
        }
        pickle[length++] = '.';
        check_pickle(pickle, length);
    }
}

#define HOSTILE(text)                                                                                        \
    {                                                                                                        \
        PT_BEGIN text, sizeof(PT_BEGIN text) - 1                                                             \
    }

static void hostile_pickles_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } hostile[] = {
        HOSTILE("cos\nsystem\n" PT_TEXT("\004", "true") "\205R."),
        HOSTILE("cposix\nsystem\n" PT_TEXT("\004", "true") "\205R."),
        HOSTILE("csubprocess\nPopen\n" PT_TEXT("\004", "true") "\205R."),
        HOSTILE("c__builtin__\nexec\n" PT_TEXT("\004", "pass") "\205R."),
        HOSTILE("ctorch.serialization\nload\n" PT_TEXT("\001", "/") "\205R."),
        HOSTILE("ctorch.hub\nload\n."),
        HOSTILE("c\033]0;title\007\nname\n."),
        HOSTILE("ccollections\nOrderedDict\n(" PT_TEXT("\001", "a") "tR."),
        HOSTILE("ctorch._utils\n_rebuild_tensor_v2\n)R."),
        HOSTILE("(ios\nsystem\n."),
        HOSTILE("\202\001."),
        HOSTILE("Pstorage\n."),
        HOSTILE("]q\000h\000a."),
        HOSTILE("]q\000(h\000h\000h\000h\000e."),
        HOSTILE("}q\000" PT_TEXT("\001", "a") "h\000s."),
        HOSTILE("}q\000(" PT_TEXT("\001", "a") "]q\001h\000a" PT_TEXT("\001", "b") "h\001u."),
        HOSTILE("X\377\377\377\377"),
        HOSTILE("\213\377\377\377\177."),
        HOSTILE("Nr\377\377\377\377."),
        HOSTILE("j\377\377\377\177."),
        HOSTILE("}" PT_TEXT("\003", "a\nb") "}" PT_TEXT("\001", "c") "ctorch\nSize\nss."),
        HOSTILE("}" PT_TEXT("\004", "\033[2J") ")ctorch\nSize\nss."),
    };
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const int before = sum.refused;
        check_pickle(hostile[i].bytes, hostile[i].size);
        expect_refused(before);
    }
}

/* ---- much from little ---- */

enum { long_pickle = 200000 };

/* PROTO, `begin`, as many `piece` as fit, `end`. */
static size_t repeat(char *pickle, const char *begin, const char *piece, size_t piece_size, const char *end)
{
    size_t length = (size_t)sprintf(pickle, PT_BEGIN "%s", begin);
    while (length + piece_size + strlen(end) < long_pickle) {
        memcpy(pickle + length, piece, piece_size);
        length += piece_size;
    }
    return length + (size_t)sprintf(pickle + length, "%s", end);
}

/* Lists that hold the one before them `fan` times, `levels` deep, around a value. */
static size_t nest(char *pickle, const char *value, size_t value_size, int levels, int fan)
{
    size_t length = (size_t)sprintf(pickle, PT_BEGIN "(");
    memcpy(pickle + length, value, value_size);
    length += value_size;
    pickle[length++] = 'q';
    pickle[length++] = 0;
    for (int level = 0; level < levels; level++) {
        pickle[length++] = ']';
        pickle[length++] = '(';
        for (int i = 0; i < fan; i++) {
            pickle[length++] = 'h';
            pickle[length++] = (char)level;
        }
        pickle[length++] = 'e';
        pickle[length++] = 'q';
        pickle[length++] = (char)(level + 1);
    }
    pickle[length++] = 't';
    pickle[length++] = '.';
    return length;
}

static void little_files_stay_little(void **state)
{
    (void)state;
    char *pickle = malloc(long_pickle + 64);
    assert_non_null(pickle);
    static const char *const values[] = {"N", "]", "}", ")", "\210"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        check_pickle(pickle, repeat(pickle, "](", values[i], 1, "e."));
        check_pickle(pickle, repeat(pickle, "", values[i], 1, "."));
    }
    check_pickle(pickle, repeat(pickle, "", "](", 2, "."));
    check_pickle(pickle, repeat(pickle, "", "]q\000", 3, "."));
    check_pickle(pickle, repeat(pickle, "](", "K\001", 2, "e."));
    check_pickle(pickle, nest(pickle, "N", 1, 10, 10));
    check_pickle(pickle, nest(pickle, "]", 1, 20, 2));
    check_pickle(pickle, nest(pickle, PT_SOUND_TENSOR, sizeof PT_SOUND_TENSOR - 1, 6, 10));
    check_pickle(pickle, nest(pickle, PT_SOUND_TENSOR, sizeof PT_SOUND_TENSOR - 1, 2, 10));
    free(pickle);
}

/* A list of values under a key of a thousand bytes has names of a thousand bytes each. */
static void long_names_stay_few(void **state)
{
    (void)state;
    char *pickle = malloc(long_pickle + 64);
    assert_non_null(pickle);
    char begin[1100];
    char key[1001];
    memset(key, 'k', sizeof key - 1);
    key[1000] = '\0';
    (void)snprintf(begin, sizeof begin, "}X\350\003\001\001%s](", key); /* the 1s stand for zeros */
    const size_t length = repeat(pickle, begin, "N", 1, "es.");
    memset(pickle + strlen(PT_BEGIN "}X") + 2, 0, 2);
    check_pickle(pickle, length);
    free(pickle);
}

/* Deflates entries as other programs would: libzip writes them. */
static size_t deflated_archive(const struct pt_bytes_entry *entries, size_t count)
{
    int code = 0;
    struct zip *zip = zip_open(sum.path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    assert_non_null(zip);
    for (size_t i = 0; i < count; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "archive/%s", entries[i].name);
        zip_source_t *source = zip_source_buffer(zip, entries[i].data, entries[i].size, 0);
        const zip_int64_t index = zip_file_add(zip, name, source, ZIP_FL_OVERWRITE);
        assert_true(index >= 0);
        assert_int_equal(zip_set_file_compression(zip, (zip_uint64_t)index, ZIP_CM_DEFLATE, 9), 0);
    }
    assert_int_equal(zip_close(zip), 0);
    FILE *file = fopen(sum.path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    assert_int_equal(fclose(file), 0);
    return (size_t)size;
}

static void compressed_bombs_are_refused(void **state)
{
    (void)state;
    enum { bytes = 32 << 20 };
    static const char fills[] = {'N', ']', '\0'};
    unsigned char *bomb = malloc(bytes);
    assert_non_null(bomb);
    for (size_t i = 0; i < sizeof fills; i++) {
        memset(bomb, fills[i], bytes);
        bomb[0] = 0x80; /* PROTO 2 */
        bomb[1] = 2;
        const struct pt_bytes_entry pickle[] = {{"data.pkl", bomb, bytes}};
        const int before = sum.refused;
        check_file(NULL, deflated_archive(pickle, 1));
        expect_refused(before);
    }
    memset(bomb, 0, bytes);
    static const char tensor[] = PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "J\000\000\200\000"),
                                                      "K\000", "J\000\000\200\000\205", "K\001\205"));
    const struct pt_bytes_entry storage[] = {{"data.pkl", tensor, sizeof tensor - 1},
                                             {"data/0", bomb, bytes}};
    const int before = sum.refused;
    check_file(NULL, deflated_archive(storage, 2));
    expect_refused(before);
    free(bomb);
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
            const int before = sum.refused;
            check(copy, size);
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
    write_file(bytes, size);
    struct tensor_file file;
    float values[16];
    if (tensor_file_open(&file, sum.path) == VOCO_OK) {
        assert_int_equal(tensor_file_read_floats(&file, &file.tensors[0], values), VOCO_BAD_INPUT);
    }
    assert_one_line_names_it();
    tensor_file_close(&file);
    check_file(bytes, size);
    free(bytes);
}

static void check_header(const char *header, uint64_t length, size_t data)
{
    const size_t count = strlen(header);
    unsigned char *bytes = calloc(1, 8 + count + data);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, count); /* NOLINT(bugprone-not-null-terminated-result) no text */
    const int before = sum.refused;
    check(bytes, 8 + count + data);
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

static void there_are_500(void **state)
{
    (void)state;
    assert_true(sum.files >= 500);
    assert_true(sum.refused >= 300 && sum.read >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_files_are_refused_or_read),
        cmocka_unit_test(opcodes_in_any_order_are_refused_or_read),
        cmocka_unit_test(hostile_pickles_are_refused),
        cmocka_unit_test(little_files_stay_little),
        cmocka_unit_test(long_names_stay_few),
        cmocka_unit_test(compressed_bombs_are_refused),
        cmocka_unit_test(lies_in_the_directory_are_refused_or_harmless),
        cmocka_unit_test(overlapping_entries_are_noticed),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(deep_headers_are_refused),
        cmocka_unit_test(there_are_500),
    };
    return cmocka_run_group_tests(tests, name_file, remove_file);
}
