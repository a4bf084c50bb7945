/* safetensors: the file format of checkpoints, stored batches and golden vectors, readable from Python.
 *
 * A file is an 8-byte little-endian length, that many bytes of JSON (the header), then the tensors' bytes.
 * The header maps each name to {"dtype", "shape", "data_offsets": [begin, end)} relative to the end of the
 * header; `__metadata__` maps strings to strings. Tensors fill the data without holes or overlap. Source: the
 * format's description at github.com/huggingface/safetensors.
 *
 * Reading checks everything before it is used; whatever is wrong is one line that names the file and the
 * cause. */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include "base/name_order.h"
#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

enum { safetensors_max_rank = 8 };

/* Bounds the JSON header; the format's own libraries have the same. */
enum { safetensors_max_header = 100000000 };

enum safetensors_type {
    SAFETENSORS_F64,
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_I64,
    SAFETENSORS_I32,
    SAFETENSORS_I16,
    SAFETENSORS_I8,
    SAFETENSORS_U64,
    SAFETENSORS_U32,
    SAFETENSORS_U16,
    SAFETENSORS_U8,
    SAFETENSORS_BOOL,
    SAFETENSORS_F8_E5M2, /* these two are listed and read raw, not converted */
    SAFETENSORS_F8_E4M3,
};

/* "F32" and so on, as in the header; bytes of one element. */
const char *safetensors_type_name(enum safetensors_type type);
size_t safetensors_type_size(enum safetensors_type type);

/* ---- reading ---- */

struct safetensors_tensor {
    const char *name; /* owned by the file */
    enum safetensors_type type;
    int rank; /* 0 for a scalar */
    int64_t shape[safetensors_max_rank];
    size_t count;  /* elements: the product of the shape */
    size_t bytes;  /* count x element size */
    size_t offset; /* from the beginning of the file */
};

struct safetensors_text {
    const char *key;
    const char *value;
};

struct safetensors {
    struct safetensors_tensor *tensors; /* (count), in the order of their data */
    size_t count;
    struct safetensors_text *metadata; /* (metadata_count), in the file's order */
    size_t metadata_count;
    uint64_t size; /* bytes of the file */
    /* private */
    char *path;
    int descriptor;              /* -1: from memory */
    const unsigned char *memory; /* borrowed */
    struct json_t *header;       /* owns names and metadata */
    struct name_order by_name;
};

/* Opens and checks a file; tensors are read when asked for. VOCO_IO where the system refuses, VOCO_BAD_INPUT
 * where the file is not a whole safetensors file. Close with safetensors_close, which is harmless on a failed
 * or zeroed one. */
enum voco_status safetensors_open(struct safetensors *file, const char *path);

/* The same from `size` bytes in memory, which must outlive `file`; `name` stands for the path in messages. */
enum voco_status safetensors_open_memory(struct safetensors *file, const void *bytes, size_t size,
                                         const char *name);
void safetensors_close(struct safetensors *file);

/* NULL when there is none of that name. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);

/* The value of a key of `__metadata__`, NULL when there is none. */
const char *safetensors_metadata(const struct safetensors *file, const char *key);

/* The tensor's bytes as they are: out holds tensor->bytes. VOCO_IO names file and tensor. */
enum voco_status safetensors_read(const struct safetensors *file, const struct safetensors_tensor *tensor,
                                  void *out);

/* The elements as float: out holds tensor->count. Any type but the 8-bit floats (VOCO_UNSUPPORTED); wide
 * integers and F64 are rounded. */
enum voco_status safetensors_read_floats(const struct safetensors *file,
                                         const struct safetensors_tensor *tensor, float *out);

/* Finds `name` and requires this shape; VOCO_BAD_INPUT names the tensor and both shapes, or says that it is
 * missing. */
enum voco_status safetensors_require(const struct safetensors_tensor **tensor, const struct safetensors *file,
                                     const char *name, int rank, const int64_t *shape);

/* The same of a tensor that was looked for in another way; shape is NULL where there is none. */
enum voco_status safetensors_compare_shape(const char *path, const char *name, int rank, const int64_t *shape,
                                           int wanted_rank, const int64_t *wanted_shape);

/* "[48, 1, 2, 2, 2]", cut where text is too short. Returns text. */
const char *safetensors_shape_text(char *text, size_t size, int rank, const int64_t *shape);

/* ---- writing ----
 *
 *     safetensors_writer_open(&w, path);
 *     safetensors_writer_metadata(w, "format", "...");             any number
 *     safetensors_writer_declare(w, "name", SAFETENSORS_F32, ...);   every tensor, in the order of the data
 *     safetensors_writer_put(w, data);                               every tensor, in the same order
 *     safetensors_writer_commit(w);                                  the file appears, whole
 * (base/atomic_file.h)
 *
 * The bytes are a function of these calls alone. After a failure the calls that follow do nothing and return
 * it again; commit then leaves the old file, if any, as it was. So that a reader which maps the file finds
 * aligned elements, declare tensors of 8-byte types first, then 4, 2, 1, as Python's writer does; declare
 * refuses what would be misaligned. */
struct safetensors_writer;

enum voco_status safetensors_writer_open(struct safetensors_writer **writer, const char *path);

/* Keys must differ; key and value are UTF-8. Copied. */
enum voco_status safetensors_writer_metadata(struct safetensors_writer *writer, const char *key,
                                             const char *value);

enum voco_status safetensors_writer_declare(struct safetensors_writer *writer, const char *name,
                                            enum safetensors_type type, int rank, const int64_t *shape);

/* Writes the next declared tensor whole. No declare or metadata after the first put. */
enum voco_status safetensors_writer_put(struct safetensors_writer *writer, const void *data);

/* The same in pieces: `bytes` more of the next tensor, which is written once all its bytes are. A piece ends
 * with its tensor at the latest, else VOCO_BAD_INPUT. */
enum voco_status safetensors_writer_put_piece(struct safetensors_writer *writer, const void *data,
                                              size_t bytes);

/* Ends the file and frees the writer, whatever happens. VOCO_BAD_INPUT where tensors are missing. */
enum voco_status safetensors_writer_commit(struct safetensors_writer *writer);

/* Gives up and frees the writer; nothing appears. NULL is allowed. */
void safetensors_writer_discard(struct safetensors_writer *writer);

#endif
