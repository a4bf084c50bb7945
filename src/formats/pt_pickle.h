/* Reading the pickle of a .pt file (data.pkl) without running anything.
 *
 * A pickle is a program for a machine with a stack and a memo. This one knows the opcodes that Python's
 * pickler writes in protocol 2 for numbers, texts, tuples, lists and dicts, and of the functions that a
 * pickle may name only those that make tensors of storages:
 *
 *     collections.OrderedDict()            torch._utils._rebuild_tensor_v2(storage, first, size, stride, ...)
 *     torch.Size((...))                    torch._utils._rebuild_tensor_v3(..., dtype)
 *     torch.FloatStorage, ...              torch._utils._rebuild_parameter(tensor, ...)
 *     torch.storage.UntypedStorage         torch.float32, ... (a value: the text "torch.float32")
 *
 * Every other opcode or name is refused with its own name. Nothing is called; the result is a tree of values.
 * Bounds: each byte of the pickle makes at most one value and one container, of pickle_most_values at most;
 * texts are not copied. Nesting may be cyclic: who walks the tree bounds the depth.
 *
 * Sources: Python's pickletools.py (opcodes), torch/_utils.py and torch/serialization.py (what is pickled).
 */
#ifndef FORMATS_PT_PICKLE_H
#define FORMATS_PT_PICKLE_H

#include "formats/safetensors.h"
#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

enum { pickle_most_values = 1 << 22 };

enum pickle_kind {
    PICKLE_NOTHING, /* a place of the memo that nothing was put in */
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INTEGER,
    PICKLE_NUMBER,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT, /* items: key, value, key, value, ... in their order; a key may come twice */
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_FUNCTION,     /* one of the names above */
    PICKLE_STORAGE_TYPE, /* torch.FloatStorage */
    PICKLE_DTYPE,        /* torch.float32 */
};

struct pickle_value {
    enum pickle_kind kind;
    uint32_t number_of; /* container, storage or tensor: its index; text: its bytes; types: the type */
    union {
        int64_t integer;
        double number;
        const char *text; /* inside the pickle's bytes, without NUL behind it */
    };
};

struct pickle_container {
    struct pickle_value *items;
    uint32_t count;
    uint32_t capacity;
};

struct pickle_storage {
    const char *key; /* the entry data/KEY */
    uint32_t key_bytes;
    int typed; /* else `type` is that of bytes (U8) */
    enum safetensors_type type;
    uint64_t count; /* elements */
};

struct pickle_tensor {
    uint32_t storage;
    enum safetensors_type type;
    int rank;
    int64_t shape[safetensors_max_rank];
    int64_t stride[safetensors_max_rank]; /* elements, not negative */
    uint64_t first;                       /* element of the storage */
    uint64_t count;                       /* of elements; times their size it fits into 63 bits */
    uint64_t reach; /* first + reach elements of the storage are needed; 0 when count is */
};

struct pickle {
    struct pickle_value root;
    size_t size; /* bytes that it was read from */
    struct pickle_container *containers;
    size_t container_count, container_capacity;
    struct pickle_storage *storages;
    size_t storage_count, storage_capacity;
    struct pickle_tensor *tensors;
    size_t tensor_count, tensor_capacity;
};

/* Reads the pickle in `bytes`, which must outlive it. Every tensor lies inside its storage, as far as the
 * storage's count is true: compare it with the archive. VOCO_BAD_INPUT and a message that begins with `path`
 * where anything is damaged or refused. Free with pickle_free in any case. */
enum voco_status pickle_read(struct pickle *pickle, const unsigned char *bytes, size_t size,
                             const char *path);
void pickle_free(struct pickle *pickle);

#endif
