/* .pt: the files of torch.save (PyTorch 1.6 and later), read and written without PyTorch.
 *
 * A file is a zip archive: NAME/data.pkl is a pickle of nested dicts, lists and tuples, in which a tensor is
 * a place in a storage; NAME/data/0, NAME/data/1, ... are the storages' bytes. docs/formats.md describes both
 * in full. The pickle is not run: pt_pickle.h says what is read of it, and everything else is refused by
 * name. A hostile file costs memory in proportion to its own size, and to the bounds below at most: a byte of
 * the pickle pays for no more than 2 values and 32 bytes of names (beyond 1024 and 64 KiB that all may have).
 */
#ifndef FORMATS_PT_H
#define FORMATS_PT_H

#include "base/name_order.h"
#include "formats/stored_values.h"
#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

enum {
    pt_max_depth = 64,        /* dicts, lists and tuples in one another */
    pt_max_name = 1024,       /* bytes of a name */
    pt_max_values = 1 << 20,  /* tensors and scalars of a file */
    pt_max_names = 64 << 20,  /* bytes of all names and texts together */
    pt_max_pickle = 64 << 20, /* bytes of data.pkl, unpacked */
};

/* ---- reading ---- */

/* A value's name is the keys and indices that lead to it, joined by points: "state_dict.backbone.weight",
 * "optimizer.param_groups.0.lr". A file that holds one tensor and no dict names it "". A parameter is a
 * tensor like any other. Names of tensors differ, and so do names of scalars. */
struct pt {
    struct stored_tensor *tensors; /* (count), in the pickle's order */
    size_t count;
    struct stored_scalar *scalars; /* (scalar_count); None, texts, numbers. Integers beyond 64 bits are
                                      STORED_NUMBER, dtypes texts such as "torch.float32" */
    size_t scalar_count;
    uint64_t size; /* bytes of the file */
    /* private */
    char *path;
    struct pt_archive *archive;
    struct pt_place *places; /* of tensors in their storages */
    struct name_order by_name;
};

/* Opens and checks a file; tensors are read when asked for. VOCO_IO where the system refuses, VOCO_BAD_INPUT
 * where it is damaged, refused, or of a form that PyTorch must convert first (before 1.6, TorchScript),
 * VOCO_UNSUPPORTED for what is sound but not read here (big-endian, other compression). Close with pt_close,
 * which is harmless on a failed or zeroed one. A file serves one thread at a time. */
enum voco_status pt_open(struct pt *file, const char *path);

/* The same from `size` bytes in memory, which must outlive `file`; `name` stands for the path in messages. */
enum voco_status pt_open_memory(struct pt *file, const void *bytes, size_t size, const char *name);
void pt_close(struct pt *file);

/* NULL when there is none of that name. */
const struct stored_tensor *pt_find(const struct pt *file, const char *name);

/* The tensor's elements, the last axis fastest, whatever its strides: out holds tensor->bytes, which is no
 * more than the larger of the file and the tensor's storage. A tensor that is not contiguous costs memory for
 * the part of its storage that it reaches over. The checksum of a storage is compared where a tensor takes
 * all of it. VOCO_IO and VOCO_BAD_INPUT name file and tensor. */
enum voco_status pt_read(const struct pt *file, const struct stored_tensor *tensor, void *out);

/* The elements as float: out holds tensor->count. Any type but the 8-bit floats (VOCO_UNSUPPORTED). */
enum voco_status pt_read_floats(const struct pt *file, const struct stored_tensor *tensor, float *out);

/* ---- writing ----
 *
 *     pt_writer_open(&w, path, PT_DICT);
 *     pt_writer_begin(w, "state_dict", PT_ORDERED_DICT);              a dict in the dict
 *     pt_writer_declare(w, "weight", SAFETENSORS_F32, 2, shape);      every tensor
 *     pt_writer_end(w);
 *     pt_writer_scalar(w, &(struct stored_scalar){.name = "step", .kind = STORED_INTEGER, .integer = 240});
 *     pt_writer_put(w, data);                                         every tensor, in the same order
 *     pt_writer_commit(w);                                            the file appears, whole
 * (base/atomic_file.h)
 *
 * torch.load(path, weights_only=True) reads the result. Tensors are contiguous, each has a storage of its
 * own, stored uncompressed at a multiple of 64 bytes, as torch.save does it, so torch.load may map the file.
 * Nothing is kept of a tensor once it is put. The bytes are a function of the calls alone. After a failure
 * the calls that follow do nothing and return it again; commit then leaves the old file, if any, as it was.
 */
struct pt_writer;

enum pt_dict { PT_DICT, PT_ORDERED_DICT }; /* ordered: what Module.state_dict() is */

enum voco_status pt_writer_open(struct pt_writer **writer, const char *path, enum pt_dict root);

/* Opens a dict under `key`, to which all belongs up to the matching end. Keys of a dict must differ and are
 * UTF-8; at most pt_max_depth dicts in one another. */
enum voco_status pt_writer_begin(struct pt_writer *writer, const char *key, enum pt_dict kind);
enum voco_status pt_writer_end(struct pt_writer *writer);

/* A value in the open dict; the scalar's name is its key. */
enum voco_status pt_writer_scalar(struct pt_writer *writer, const struct stored_scalar *scalar);

/* A tensor in the open dict. Types: F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL; the others are
 * VOCO_UNSUPPORTED. */
enum voco_status pt_writer_declare(struct pt_writer *writer, const char *key, enum safetensors_type type,
                                   int rank, const int64_t *shape);

/* Writes the next declared tensor whole. All dicts have ended; nothing is declared after the first put. */
enum voco_status pt_writer_put(struct pt_writer *writer, const void *data);

/* Ends the file and frees the writer, whatever happens. VOCO_BAD_INPUT where tensors or ends are missing. */
enum voco_status pt_writer_commit(struct pt_writer *writer);

/* Gives up and frees the writer; nothing appears. NULL is allowed. */
void pt_writer_discard(struct pt_writer *writer);

#endif
