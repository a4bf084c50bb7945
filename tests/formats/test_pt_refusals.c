/* .pt files that are hostile, damaged or of another kind are refused in one line that says why, and nothing
 * else happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/pt.h"
#include "formats/pt_bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect_refused_bytes(const void *bytes, size_t size, enum voco_status status, const char *message)
{
    struct pt file;
    const enum voco_status found = pt_open_memory(&file, bytes, size, "weights.pt");
    if (found == VOCO_OK) {
        fail_msg("not refused: %s", message);
    }
    if (found != status || strstr(voco_error_message(), message) == NULL) {
        fail_msg("status %d, \"%s\", instead of %d, \"%s\"", (int)found, voco_error_message(), (int)status,
                 message);
    }
    assert_int_equal(strncmp(voco_error_message(), "weights.pt: ", 12), 0);
    assert_int_equal(file.count, 0);
    assert_null(file.tensors);
}

static void expect_refused_pickle(const void *pickle, size_t pickle_size, enum voco_status status,
                                  const char *message)
{
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, pickle_size);
    expect_refused_bytes(bytes, size, status, message);
    free(bytes);
}

#define REFUSED(pickle, message) expect_refused_pickle(pickle, sizeof(pickle) - 1, VOCO_BAD_INPUT, message)

/* float32 tensors of data/0, which has 16 elements. */
#define TENSOR_OF_16(first, shape, stride)                                                                   \
    PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "K\020"), first, shape, stride))

#define BIG "\212\010\000\000\000\000\000\000\000\100" /* LONG1: 2^62 */

static void calls_are_refused_by_name(void **state)
{
    (void)state;
    REFUSED(PT_BEGIN "cos\nsystem\n" PT_TEXT("\004", "true") "\205R.",
            "weights.pt: the pickle calls 'os.system', which is not part of a checkpoint of tensors");
    REFUSED(PT_BEGIN "cbuiltins\neval\n" PT_TEXT("\001", "1") "\205R.", "'builtins.eval'");
    REFUSED(PT_BEGIN "c__builtin__\ngetattr\n.", "'__builtin__.getattr'");
    REFUSED(PT_BEGIN "ctorch\nload\n.", "'torch.load'");
    REFUSED(PT_BEGIN "ctorch\nComplexFloatStorage\n.", "'torch.ComplexFloatStorage'");
    REFUSED(PT_BEGIN "ctorch._utils\n_rebuild_tensor_v2x\n.", "'torch._utils._rebuild_tensor_v2x'");
    REFUSED(PT_BEGIN "ccollections\nOrderedDict\nx\n\n.", "is damaged");
    REFUSED(PT_BEGIN "c\n\n.", "'.'");
}

static void opcodes_that_tensors_do_not_need_are_refused(void **state)
{
    (void)state;
    REFUSED(PT_BEGIN "(ios\nsystem\n.", "INST at byte 3");
    REFUSED(PT_BEGIN ")\201.", "NEWOBJ at byte 3");
    REFUSED(PT_BEGIN "K\0012.", "DUP");
    REFUSED(PT_BEGIN "K\0010.", "POP");
    REFUSED(PT_BEGIN "S'x'\n.", "STRING");
    REFUSED(PT_BEGIN "\223.", "STACK_GLOBAL");
    REFUSED(PT_BEGIN "\213.", "LONG4");
    REFUSED(PT_BEGIN "\377.", "byte 2, 0xff, is no opcode");
    expect_refused_pickle("\200\004N.", 4, VOCO_UNSUPPORTED, "protocol 4");
}

static void damaged_pickles_are_refused(void **state)
{
    (void)state;
    REFUSED("", "it has no end");
    REFUSED(PT_BEGIN ".", "more or fewer than one value");
    REFUSED(PT_BEGIN "NN.", "more or fewer than one value");
    REFUSED(PT_BEGIN "(N.", "more or fewer than one value");
    REFUSED(PT_BEGIN "h\000.", "not remembered");
    REFUSED(PT_BEGIN "j\377\377\377\377.", "not remembered");
    REFUSED(PT_BEGIN "q\000.", "nothing to remember");
    REFUSED(PT_BEGIN "Nr\377\377\377\177.", "a place that no pickler uses");
    REFUSED(PT_BEGIN "Nr\377\377\377\377.", "a place that no pickler uses");
    REFUSED(PT_BEGIN "X\377\377\377\377ab", "cut short");
    REFUSED(PT_BEGIN "\212\377ab", "cut short");
    REFUSED(PT_BEGIN "Na.", "a list or dict that is not there");
    REFUSED(PT_BEGIN "]NNs.", "a list or dict that is not there");
    REFUSED(PT_BEGIN "}(Nu.", "a list or dict that is not there");
    REFUSED(PT_BEGIN "]Ne.", "a list or dict that is not there");
    REFUSED(PT_BEGIN "](Na.", "a list or dict that is not there"); /* the list lies below the mark */
    REFUSED(PT_BEGIN "N\206.", "a tuple of values that are not there");
    REFUSED(PT_BEGIN "Nt.", "a tuple of values that are not there");
    REFUSED(PT_BEGIN "R.", "a call of what is not there");
    REFUSED(PT_BEGIN "K\001)R.", "calls what is no function");
    REFUSED(PT_BEGIN "ccollections\nOrderedDict\nN\205R.", "with arguments that it does not take");
    REFUSED(PT_BEGIN "ccollections\nOrderedDict\nNR.", "with arguments that it does not take");
    REFUSED(PT_BEGIN "ctorch._utils\n_rebuild_parameter\nNNN\207R.", "with arguments that it does not take");
    REFUSED(PT_BEGIN "ctorch\nSize\nN\205R.", "with arguments that it does not take");
    REFUSED(PT_BEGIN "}Nb.", "attributes of what is not a dict");
    REFUSED(PT_BEGIN "]}b.", "attributes of what is not a dict");
    REFUSED(PT_BEGIN "Q.", "a storage without an id");
    REFUSED(PT_BEGIN "NQ.", "none of a storage");
    REFUSED(PT_BEGIN "(" PT_TEXT("\006", "module") "ctorch\nFloatStorage\n" PT_TEXT("\001", "0")
                PT_TEXT("\003", "cpu") "K\001tQ.",
            "none of a storage");
    REFUSED(PT_BEGIN PT_STORAGE("FloatStorage", "0", "J\377\377\377\377") ".", "none of a storage");
}

static void every_pickle_that_is_cut_is_refused(void **state)
{
    (void)state;
    static const char pickle[] = PT_DICT_OF(PT_SOUND_TENSOR);
    struct pt file;
    for (size_t length = 0; length < sizeof pickle; length++) {
        size_t size = 0;
        unsigned char *bytes = pt_bytes(&size, pickle, length);
        const enum voco_status status = pt_open_memory(&file, bytes, size, "weights.pt");
        assert_int_equal(status, length == sizeof pickle - 1 ? VOCO_OK : VOCO_BAD_INPUT);
        pt_close(&file);
        free(bytes);
    }
}

static void what_is_no_tensor_or_scalar_is_refused(void **state)
{
    (void)state;
    REFUSED(PT_DICT_OF("ctorch\nFloatStorage\n"), "\"a\": a storage or a type by itself");
    REFUSED(PT_DICT_OF(PT_STORAGE("FloatStorage", "0", "K\020")), "\"a\": a storage or a type by itself");
    REFUSED(PT_DICT_OF("ccollections\nOrderedDict\n"), "\"a\": a storage or a type by itself");
    REFUSED(PT_BEGIN "}\210Ns.", "neither a text nor an integer");
    REFUSED(PT_BEGIN "})Ns.", "neither a text nor an integer");
    REFUSED(PT_BEGIN "}" PT_TEXT("\003", "a\000b") "Ns.", "a key with a NUL character");
    REFUSED(PT_DICT_OF(PT_TEXT("\003", "a\000b")), "a text with a NUL character");
    REFUSED(PT_BEGIN "}(" PT_TEXT("\001", "a") "N" PT_TEXT("\001", "a") "Nu.",
            "two values have the name \"a\"");
    REFUSED(PT_BEGIN "}(" PT_TEXT("\003", "a.b") PT_SOUND_TENSOR PT_TEXT("\001", "a") "}" PT_TEXT("\001", "b")
                PT_SOUND_TENSOR "su.",
            "two values have the name \"a.b\"");
}

static void tensors_outside_their_storage_are_refused(void **state)
{
    (void)state;
    REFUSED(TENSOR_OF_16("K\000", "K\021\205", "K\001\205"), "needs elements 0 to 17 of a storage of 16");
    REFUSED(TENSOR_OF_16("K\001", "K\020\205", "K\001\205"), "needs elements 1 to 17");
    REFUSED(TENSOR_OF_16("K\021", "K\000\205", "K\001\205"), "needs elements 17 to 17");
    REFUSED(TENSOR_OF_16(BIG, "K\001\205", "K\001\205"), "needs elements");
    REFUSED(TENSOR_OF_16("K\000", "K\002K\002\206", "K\020K\001\206"), "needs elements 0 to 18");
    REFUSED(TENSOR_OF_16("K\000", BIG "\205", "K\000\205"), "too large to exist");
    REFUSED(
        TENSOR_OF_16("K\000", "\212\010\000\000\000\000\000\000\000\040\205", "K\000\205"), /* 2^63 bytes */
        "too large to exist");
    REFUSED(TENSOR_OF_16("K\000", BIG BIG "\206", "K\000K\000\206"), "too large to exist");
    REFUSED(TENSOR_OF_16("K\000", "K\005\205", BIG "\205"), "too large to exist");
    REFUSED(TENSOR_OF_16("K\000", "K\002K\002K\002\207", BIG BIG BIG "\207"), "needs elements");
    REFUSED(TENSOR_OF_16("K\000", "K\003K\003\206", BIG BIG "\206"), "too large to exist");
    REFUSED(TENSOR_OF_16("K\000", "M\377\377\205", "K\000\205"), "by repeating a storage of 64");
    REFUSED(TENSOR_OF_16("J\377\377\377\377", "K\001\205", "K\001\205"), "a place in it");
    REFUSED(TENSOR_OF_16("K\000", "J\377\377\377\377\205", "K\001\205"), "not whole numbers");
    REFUSED(TENSOR_OF_16("K\000", "K\002\205", "J\377\377\377\377\205"), "not whole numbers");
    REFUSED(TENSOR_OF_16("K\000", "K\002\205", "K\001K\001\206"), "a shape and as many strides");
    REFUSED(TENSOR_OF_16("K\000", "K\002", "K\001"), "a shape and as many strides");
    REFUSED(TENSOR_OF_16("K\000", "(K\001K\001K\001K\001K\001K\001K\001K\001K\001t",
                         "(K\001K\001K\001K\001K\001K\001K\001K\001K\001t"),
            "a tensor of 9 axes, more than 8");
}

static void storages_that_do_not_match_are_refused(void **state)
{
    (void)state;
    REFUSED(PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "7", "K\002"), "K\000", ")", ")")),
            "tensor \"a\": its storage, data/7, is missing");
    REFUSED(PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "1", "K\003"), "K\000", ")", ")")),
            "tensor \"a\": its storage, data/1, has 8 bytes, too few for 3 elements of F32");
    REFUSED(PT_DICT_OF(PT_TENSOR(PT_STORAGE("DoubleStorage", "1", BIG), "K\000", ")", ")")), "too few for");
    REFUSED(PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "/", "K\003"), "K\000", ")", ")")), "is missing");
    REFUSED(PT_DICT_OF(PT_TENSOR("(" PT_TEXT("\007", "storage") "ctorch.storage\nUntypedStorage\n" PT_TEXT(
                                     "\001", "0") PT_TEXT("\003", "cpu") "K\100tQ",
                                 "K\000", ")", ")")),
            "a storage without a type");
}

/* A tuple of lists, each of which holds the one before it ten times: 10^12 values in a few hundred bytes. */
static void repeated_references_cost_no_more_than_they_may(void **state)
{
    (void)state;
    char pickle[1024] = PT_BEGIN "(";
    size_t length = 3;
    for (char level = 0; level < 12; level++) {
        pickle[length++] = ']';
        pickle[length++] = '(';
        for (int i = 0; i < 10; i++) {
            pickle[length++] = level == 0 ? 'N' : 'h';
            if (level > 0) {
                pickle[length++] = (char)(level - 1);
            }
        }
        pickle[length++] = 'e';
        pickle[length++] = 'q';
        pickle[length++] = level;
    }
    pickle[length++] = 't';
    pickle[length++] = '.';
    char message[64]; /* two a byte of the pickle, and 1024 */
    (void)snprintf(message, sizeof message, "it has more than %zu values", 1024 + 2 * length);
    expect_refused_pickle(pickle, length, VOCO_BAD_INPUT, message);
}

static void deep_and_cyclic_nesting_is_refused(void **state)
{
    (void)state;
    REFUSED(PT_BEGIN "]q\000h\000a.", "nested more than 64 deep");
    REFUSED(PT_BEGIN "}q\000" PT_TEXT("\001", "a") "h\000s.", "nested more than 64 deep");
    enum { levels = 100000 };
    char *pickle = malloc(2 * levels + 8);
    assert_non_null(pickle);
    pickle[0] = '\200';
    pickle[1] = 2;
    memset(pickle + 2, ']', levels);
    memset(pickle + 2 + levels, 'a', levels - 1);
    pickle[2 * levels + 1] = '.';
    expect_refused_pickle(pickle, 2 * levels + 2, VOCO_BAD_INPUT, "nested more than 64 deep");
    memset(pickle + 2, '(', levels);
    expect_refused_pickle(pickle, 2 * levels + 2, VOCO_BAD_INPUT, "nested too deeply");
    free(pickle);
}

static void long_names_are_refused(void **state)
{
    (void)state;
    enum { length = 2000 };
    char pickle[length + 64] = PT_BEGIN "}X\320\007\000\000";
    memset(pickle + 8, 'n', length);
    pickle[8 + length] = 'N';
    pickle[9 + length] = 's';
    pickle[10 + length] = '.';
    expect_refused_pickle(pickle, 8 + length + 3, VOCO_BAD_INPUT, "a name of more than 1024 bytes");
}

static void too_many_values_are_refused(void **state)
{
    (void)state;
    enum { count = pt_max_values + 10 };
    char *pickle = malloc(count + 8);
    assert_non_null(pickle);
    pickle[0] = '\200';
    pickle[1] = 2;
    pickle[2] = ']';
    pickle[3] = '(';
    memset(pickle + 4, 'N', count);
    pickle[4 + count] = 'e';
    pickle[5 + count] = '.';
    expect_refused_pickle(pickle, count + 6, VOCO_BAD_INPUT, "more than 1048576 values");
    free(pickle);
}

static void expect_fixture_refused(const char *name, enum voco_status status, const char *message)
{
    char path[512];
    struct pt file;
    (void)snprintf(path, sizeof path, "%s/%s", VOCO_FORMATS_DATA, name);
    assert_int_equal(pt_open(&file, path), status);
    if (strstr(voco_error_message(), message) == NULL) {
        fail_msg("\"%s\" instead of \"%s\"", voco_error_message(), message);
    }
    assert_int_equal(strncmp(voco_error_message(), path, strlen(path)), 0);
    pt_close(&file);
}

static void files_of_other_kinds_are_refused_by_their_kind(void **state)
{
    (void)state;
    expect_fixture_refused("legacy.pt", VOCO_BAD_INPUT,
                           "PyTorch before 1.6; load and save it again with PyTorch");
    expect_fixture_refused("torchscript.pt", VOCO_BAD_INPUT, "a TorchScript archive");
    expect_fixture_refused("module.pt", VOCO_BAD_INPUT, "calls 'torch.nn.modules.linear.Linear'");
    expect_fixture_refused("complex.pt", VOCO_BAD_INPUT, "'torch.ComplexFloatStorage'");
    expect_fixture_refused("negated.pt", VOCO_UNSUPPORTED, "pending conjugation or negation");
    expect_fixture_refused("protocol_4.pt", VOCO_UNSUPPORTED, "protocol 4");
    expect_fixture_refused("no such file.pt", VOCO_IO, "cannot open");
    expect_fixture_refused("", VOCO_BAD_INPUT, "not a file");
    char tar[1024] = "sys_info";
    (void)snprintf(tar + 257, 6, "ustar");
    expect_refused_bytes(tar, sizeof tar, VOCO_BAD_INPUT,
                         "PyTorch before 0.4; load and save it again with PyTorch");
    expect_refused_bytes("\200\002}.", 4, VOCO_BAD_INPUT, "a bare pickle");
    expect_refused_bytes("", 0, VOCO_BAD_INPUT, "no zip archive");
    expect_refused_bytes("PK\3\4 and no more", 16, VOCO_BAD_INPUT, "cannot read it as a zip archive");
}

static void expect_refused_archive(const struct pt_bytes_entry *entries, size_t count,
                                   enum voco_status status, const char *message)
{
    size_t size = 0;
    unsigned char *bytes = pt_archive_bytes(&size, entries, count);
    expect_refused_bytes(bytes, size, status, message);
    free(bytes);
}

static void archives_of_other_kinds_are_refused(void **state)
{
    (void)state;
    const struct pt_bytes_entry other[] = {{"model.json", "{}", 2}, {"data/data.pkl", PT_BEGIN "N.", 4}};
    expect_refused_archive(other, 2, VOCO_BAD_INPUT, "it has no data.pkl");
    const struct pt_bytes_entry script[] = {{"data.pkl", PT_BEGIN "N.", 4}, {"code/__torch__.py", "", 0}};
    expect_refused_archive(script, 2, VOCO_BAD_INPUT, "a TorchScript archive (it has \"archive/code/");
    const struct pt_bytes_entry big[] = {{"data.pkl", PT_BEGIN "N.", 4}, {"byteorder", "big", 3}};
    expect_refused_archive(big, 2, VOCO_UNSUPPORTED, "its byte order is \"big\"");
}

/* The last place of a text in bytes: the central directory lies behind the entries. */
static unsigned char *last(unsigned char *bytes, size_t size, const char *text)
{
    const size_t length = strlen(text);
    for (size_t i = size - length + 1; i-- > 0;) {
        if (memcmp(bytes + i, text, length) == 0) {
            return bytes + i;
        }
    }
    fail_msg("no %s", text);
    return NULL;
}

/* Fields of the central directory's entry, from its name. */
enum { method_at = -36, packed_size_at = -26, size_at = -22 };

static void lies_of_the_archive_are_refused(void **state)
{
    (void)state;
    static const char pickle[] = PT_DICT_OF(PT_SOUND_TENSOR);
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, sizeof pickle - 1);
    unsigned char *name = last(bytes, size, "archive/data/0");
    name[method_at] = 12;
    expect_refused_bytes(bytes, size, VOCO_UNSUPPORTED, "archive/data/0: compressed by method 12");
    name[method_at] = 0;
    name[size_at + 3] = 0x40;
    expect_refused_bytes(bytes, size, VOCO_BAD_INPUT, "cannot lie in a file of");
    name[packed_size_at + 3] = 0x40;
    expect_refused_bytes(bytes, size, VOCO_BAD_INPUT, "cannot lie in a file of");
    name[method_at] = 8; /* deflated, from 64 bytes to more than deflate can make of them */
    name[packed_size_at + 3] = 0;
    expect_refused_bytes(bytes, size, VOCO_BAD_INPUT, "cannot lie in a file of");
    free(bytes);
}

static void damaged_data_is_noticed_when_it_is_read(void **state)
{
    (void)state;
    static const char pickle[] =
        PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "K\020"), "K\000", "K\020\205", "K\001\205"));
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, sizeof pickle - 1);
    struct pt file;
    float values[16];
    unsigned char *data = bytes;
    while (memcmp(data, "\000\001\002\003\004\005", 6) != 0) {
        data++;
    }
    data[63] ^= 1;
    assert_int_equal(pt_open_memory(&file, bytes, size, "weights.pt"), VOCO_OK);
    assert_int_equal(pt_read_floats(&file, &file.tensors[0], values), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "tensor \"a\": weights.pt: archive/data/0: CRC error");
    data[63] ^= 1;
    assert_int_equal(pt_read_floats(&file, &file.tensors[0], values), VOCO_OK);
    pt_close(&file);
    free(bytes);
}

static void every_file_that_is_cut_is_refused(void **state)
{
    (void)state;
    static const char pickle[] = PT_DICT_OF(PT_SOUND_TENSOR);
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, sizeof pickle - 1);
    for (size_t length = 0; length < size; length++) {
        struct pt file;
        unsigned char *cut = malloc(length + 1);
        assert_non_null(cut);
        memcpy(cut, bytes, length);
        assert_int_equal(pt_open_memory(&file, cut, length, "weights.pt"), VOCO_BAD_INPUT);
        free(cut);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_refused_by_name),
        cmocka_unit_test(opcodes_that_tensors_do_not_need_are_refused),
        cmocka_unit_test(damaged_pickles_are_refused),
        cmocka_unit_test(every_pickle_that_is_cut_is_refused),
        cmocka_unit_test(what_is_no_tensor_or_scalar_is_refused),
        cmocka_unit_test(tensors_outside_their_storage_are_refused),
        cmocka_unit_test(storages_that_do_not_match_are_refused),
        cmocka_unit_test(repeated_references_cost_no_more_than_they_may),
        cmocka_unit_test(deep_and_cyclic_nesting_is_refused),
        cmocka_unit_test(long_names_are_refused),
        cmocka_unit_test(too_many_values_are_refused),
        cmocka_unit_test(files_of_other_kinds_are_refused_by_their_kind),
        cmocka_unit_test(archives_of_other_kinds_are_refused),
        cmocka_unit_test(lies_of_the_archive_are_refused),
        cmocka_unit_test(damaged_data_is_noticed_when_it_is_read),
        cmocka_unit_test(every_file_that_is_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
