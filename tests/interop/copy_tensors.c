/* Copies a file of tensors into a .pt file, for tools/interop/check_pt.py.
 *
 *     copy_tensors IN OUT.pt
 *
 * OUT is {"state_dict": OrderedDict of all tensors by their flattened names, "scalars": {...}}. One tensor is
 * in memory at a time. */
#include "formats/tensor_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first failure ends the copy. */
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        status = (call);                                                                                     \
        if (status != VOCO_OK) {                                                                             \
            return status;                                                                                   \
        }                                                                                                    \
    } while (0)

static enum voco_status declare_all(struct pt_writer *writer, const struct tensor_file *file)
{
    enum voco_status status = VOCO_OK;
    TRY(pt_writer_begin(writer, "state_dict", PT_ORDERED_DICT));
    for (size_t i = 0; i < file->count; i++) {
        const struct stored_tensor *tensor = &file->tensors[i];
        TRY(pt_writer_declare(writer, tensor->name, tensor->type, tensor->rank, tensor->shape));
    }
    TRY(pt_writer_end(writer));
    TRY(pt_writer_begin(writer, "scalars", PT_DICT));
    for (size_t i = 0; i < file->scalar_count; i++) {
        TRY(pt_writer_scalar(writer, &file->scalars[i]));
    }
    return pt_writer_end(writer);
}

static enum voco_status copy_all(struct pt_writer *writer, const struct tensor_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        void *data = malloc(file->tensors[i].bytes + 1);
        enum voco_status status = data == NULL ? VOCO_NO_MEMORY : VOCO_OK;
        if (status == VOCO_OK) {
            status = tensor_file_read(file, &file->tensors[i], data);
        }
        if (status == VOCO_OK) {
            status = pt_writer_put(writer, data);
        }
        free(data);
        if (status != VOCO_OK) {
            return status;
        }
    }
    return VOCO_OK;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "usage: copy_tensors IN OUT.pt\n");
        return 2;
    }
    struct tensor_file file;
    struct pt_writer *writer = NULL;
    enum voco_status status = tensor_file_open(&file, argv[1]);
    if (status == VOCO_OK) {
        status = pt_writer_open(&writer, argv[2], PT_DICT);
    }
    if (status == VOCO_OK) {
        status = declare_all(writer, &file);
    }
    if (status == VOCO_OK) {
        status = copy_all(writer, &file);
    }
    if (status == VOCO_OK) {
        status = pt_writer_commit(writer);
    } else {
        pt_writer_discard(writer);
    }
    tensor_file_close(&file);
    if (status != VOCO_OK) {
        (void)fprintf(stderr, "copy_tensors: %s\n", voco_error_message());
    }
    return status == VOCO_OK ? 0 : 1;
}
