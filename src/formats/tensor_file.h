/* A file of tensors of any format that voco reads: safetensors, and .pt of torch.save. Which one it is
 * follows from its content, not from its name.
 *
 *     struct tensor_file file;
 *     tensor_file_open(&file, path);
 *     for (size_t i = 0; i < file.count; i++) {
 *         tensor_file_read_floats(&file, &file.tensors[i], values);
 *     }
 *     tensor_file_close(&file);
 *
 * Opening reads names, types and shapes only; memory beyond them is what a caller asks for, tensor by tensor
 * (and what pt_read says of tensors that are not contiguous). */
#ifndef FORMATS_TENSOR_FILE_H
#define FORMATS_TENSOR_FILE_H

#include "formats/pt.h"
#include "formats/safetensors.h"
#include "formats/stored_values.h"
#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

enum tensor_file_format { TENSOR_FILE_SAFETENSORS, TENSOR_FILE_PT };

struct tensor_file {
    enum tensor_file_format format;
    const struct stored_tensor
        *tensors; /* (count); safetensors: in the order of their data, .pt: as pickled */
    size_t count;
    const struct stored_scalar *scalars; /* (scalar_count); safetensors: `__metadata__`, all of it texts */
    size_t scalar_count;
    uint64_t size; /* bytes of the file */
    /* private */
    struct safetensors safetensors;
    struct pt pt;
    struct stored_tensor *listed; /* of safetensors */
    struct stored_scalar *texts;
};

/* VOCO_BAD_INPUT where the file is of neither format, or damaged; VOCO_IO where the system refuses. Names and
 * refusals are those of safetensors.h and pt.h. Close with tensor_file_close, which is harmless on a failed
 * or zeroed one. A file serves one thread at a time. */
enum voco_status tensor_file_open(struct tensor_file *file, const char *path);
void tensor_file_close(struct tensor_file *file);

/* NULL when there is none of that name. */
const struct stored_tensor *tensor_file_find(const struct tensor_file *file, const char *name);
const struct stored_scalar *tensor_file_find_scalar(const struct tensor_file *file, const char *name);

/* The elements as they are, the last axis fastest, little-endian: out holds tensor->bytes. */
enum voco_status tensor_file_read(const struct tensor_file *file, const struct stored_tensor *tensor,
                                  void *out);

/* The elements as float: out holds tensor->count. Any type but the 8-bit floats (VOCO_UNSUPPORTED); wide
 * integers and F64 are rounded. */
enum voco_status tensor_file_read_floats(const struct tensor_file *file, const struct stored_tensor *tensor,
                                         float *out);

#endif
