/* Hostile pickles: opcodes in any order, names of what could be run, and little files that would become large
 * ones. Each is refused in one line, or read (suspect_file.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "formats/pt_bytes.h"
#include "formats/suspect_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

enum { random_pickles = 100 };

static void check_pickle(const void *pickle, size_t pickle_size)
{
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, pickle_size);
    check_bytes(bytes, size);
    free(bytes);
}

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
        const int before = suspects.refused;
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
    struct zip *zip = zip_open(suspects.path, ZIP_CREATE | ZIP_TRUNCATE, &code);
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
    FILE *file = fopen(suspects.path, "rb");
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
        const int before = suspects.refused;
        check_suspect(NULL, deflated_archive(pickle, 1));
        expect_refused(before);
    }
    memset(bomb, 0, bytes);
    static const char tensor[] = PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "J\000\000\200\000"),
                                                      "K\000", "J\000\000\200\000\205", "K\001\205"));
    const struct pt_bytes_entry storage[] = {{"data.pkl", tensor, sizeof tensor - 1},
                                             {"data/0", bomb, bytes}};
    const int before = suspects.refused;
    check_suspect(NULL, deflated_archive(storage, 2));
    expect_refused(before);
    free(bomb);
}

static void there_are_140(void **state)
{
    (void)state;
    assert_true(suspects.files >= 140);
    assert_true(suspects.refused >= 100 && suspects.read >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opcodes_in_any_order_are_refused_or_read),
        cmocka_unit_test(hostile_pickles_are_refused),
        cmocka_unit_test(little_files_stay_little),
        cmocka_unit_test(long_names_stay_few),
        cmocka_unit_test(compressed_bombs_are_refused),
        cmocka_unit_test(there_are_140),
    };
    return cmocka_run_group_tests(tests, name_suspects, remove_suspects);
}
