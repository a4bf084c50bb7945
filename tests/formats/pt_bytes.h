/* .pt files in memory from a pickle written by hand. */
#ifndef TESTS_FORMATS_PT_BYTES_H
#define TESTS_FORMATS_PT_BYTES_H

#include <stddef.h>

struct pt_bytes_entry {
    const char *name; /* below "archive/" */
    const void *data;
    size_t size;
};

/* The archive of these entries, stored. Free the result; ends the process where there is no memory. */
unsigned char *pt_archive_bytes(size_t *size, const struct pt_bytes_entry *entries, size_t count);

/* The archive of a pickle, byteorder, and the storages data/0 with 64 bytes (0, 1, 2, ...) and data/1 with 8.
 */
unsigned char *pt_bytes(size_t *size, const void *pickle, size_t pickle_size);

/* ---- pieces of pickles, as string literals ---- */

#define PT_BEGIN "\200\002" /* PROTO 2 */

/* A text; its length is an escape, "\003". */
#define PT_TEXT(length, text) "X" length "\000\000\000" text

/* The persistent id of a storage: type "FloatStorage", key of one digit, an integer opcode for the count. */
#define PT_STORAGE(type, key, count)                                                                         \
    "(" PT_TEXT("\007", "storage") "ctorch\n" type "\n" PT_TEXT("\001", key) PT_TEXT("\003", "cpu") count "tQ"

/* The tensor at `first` of a storage; integers are opcodes such as "K\003", shape and stride tuples. */
#define PT_TENSOR(storage, first, shape, stride)                                                             \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage first shape stride "\211ccollections\nOrderedDict\n)RtR"

/* {"a": value} */
#define PT_DICT_OF(value) PT_BEGIN "}" PT_TEXT("\001", "a") value "s."

/* A float32 tensor (2, 3) at the beginning of data/0. */
#define PT_SOUND_TENSOR                                                                                      \
    PT_TENSOR(PT_STORAGE("FloatStorage", "0", "K\020"), "K\000", "K\002K\003\206", "K\003K\001\206")

#endif
