#include "formats/tensor_file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Byte 8 of a safetensors file is the { of its header; the others begin with their own marks. */
enum { safetensors_brace_at = 8, tar_magic_at = 257, beginning_bytes = 512 };

static enum voco_status read_beginning(unsigned char *bytes, size_t *count, const char *path)
{
    struct stat info;
    /* Without O_NONBLOCK, opening a named pipe would wait for a writer. */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return fail_errno("%s: cannot open", path);
    }
    enum voco_status status = VOCO_OK;
    ssize_t got = 0;
    if (fstat(descriptor, &info) != 0) {
        status = fail_errno("%s: cannot open", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = fail(VOCO_BAD_INPUT, "%s: not a file", path);
    } else {
        do {
            got = read(descriptor, bytes, beginning_bytes);
        } while (got < 0 && errno == EINTR);
        if (got < 0) {
            status = fail_errno("%s: cannot read", path);
        }
    }
    (void)close(descriptor);
    *count = got > 0 ? (size_t)got : 0;
    return status;
}

/* Zip, or the pickles and tar archives of old, about which pt_open says what to do. */
static int is_archive_or_pickle(const unsigned char *bytes, size_t count)
{
    return (count >= 4 && (memcmp(bytes, "PK\3\4", 4) == 0 || bytes[0] == 0x80)) ||
           (count >= tar_magic_at + 5 && memcmp(bytes + tar_magic_at, "ustar", 5) == 0);
}

static enum voco_status tell_format(enum tensor_file_format *format, const char *path)
{
    unsigned char bytes[beginning_bytes];
    size_t count = 0;
    const enum voco_status status = read_beginning(bytes, &count, path);
    if (status != VOCO_OK) {
        return status;
    }
    if (count > safetensors_brace_at && bytes[safetensors_brace_at] == '{') {
        *format = TENSOR_FILE_SAFETENSORS; /* first: the length of a header may look like any other mark */
    } else if (is_archive_or_pickle(bytes, count)) {
        *format = TENSOR_FILE_PT;
    } else {
        return fail(VOCO_BAD_INPUT, "%s: neither a safetensors file nor a .pt file of torch.save", path);
    }
    return VOCO_OK;
}

static enum voco_status list_safetensors(struct tensor_file *file, const char *path)
{
    const struct safetensors *from = &file->safetensors;
    file->listed = calloc(from->count + 1, sizeof *file->listed);
    file->texts = calloc(from->metadata_count + 1, sizeof *file->texts);
    if (file->listed == NULL || file->texts == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    for (size_t i = 0; i < from->count; i++) {
        const struct safetensors_tensor *tensor = &from->tensors[i];
        file->listed[i] = (struct stored_tensor){.name = tensor->name,
                                                 .type = tensor->type,
                                                 .rank = tensor->rank,
                                                 .count = tensor->count,
                                                 .bytes = tensor->bytes};
        memcpy(file->listed[i].shape, tensor->shape, sizeof tensor->shape);
    }
    for (size_t i = 0; i < from->metadata_count; i++) {
        file->texts[i] = (struct stored_scalar){
            .name = from->metadata[i].key, .kind = STORED_TEXT, .text = from->metadata[i].value};
    }
    file->tensors = file->listed;
    file->count = from->count;
    file->scalars = file->texts;
    file->scalar_count = from->metadata_count;
    file->size = from->size;
    return VOCO_OK;
}

static enum voco_status open_pt(struct tensor_file *file, const char *path)
{
    const enum voco_status status = pt_open(&file->pt, path);
    file->tensors = file->pt.tensors;
    file->count = file->pt.count;
    file->scalars = file->pt.scalars;
    file->scalar_count = file->pt.scalar_count;
    file->size = file->pt.size;
    return status;
}

enum voco_status tensor_file_open(struct tensor_file *file, const char *path)
{
    *file = (struct tensor_file){.safetensors = {.descriptor = -1}};
    enum voco_status status = tell_format(&file->format, path);
    if (status == VOCO_OK && file->format == TENSOR_FILE_PT) {
        status = open_pt(file, path);
    } else if (status == VOCO_OK) {
        status = safetensors_open(&file->safetensors, path);
        if (status == VOCO_OK) {
            status = list_safetensors(file, path);
        }
    }
    if (status != VOCO_OK) {
        tensor_file_close(file);
    }
    return status;
}

void tensor_file_close(struct tensor_file *file)
{
    safetensors_close(&file->safetensors);
    pt_close(&file->pt);
    free(file->listed);
    free(file->texts);
    *file = (struct tensor_file){.safetensors = {.descriptor = -1}};
}

/* The tensor in the list of the safetensors file. */
static const struct safetensors_tensor *in_safetensors(const struct tensor_file *file,
                                                       const struct stored_tensor *tensor)
{
    return &file->safetensors.tensors[tensor - file->tensors];
}

const struct stored_tensor *tensor_file_find(const struct tensor_file *file, const char *name)
{
    if (file->format == TENSOR_FILE_PT) {
        return pt_find(&file->pt, name);
    }
    const struct safetensors_tensor *found = safetensors_find(&file->safetensors, name);
    return found == NULL ? NULL : &file->tensors[found - file->safetensors.tensors];
}

const struct stored_scalar *tensor_file_find_scalar(const struct tensor_file *file, const char *name)
{
    for (size_t i = 0; i < file->scalar_count; i++) {
        if (strcmp(file->scalars[i].name, name) == 0) {
            return &file->scalars[i];
        }
    }
    return NULL;
}

enum voco_status tensor_file_read(const struct tensor_file *file, const struct stored_tensor *tensor,
                                  void *out)
{
    return file->format == TENSOR_FILE_PT
               ? pt_read(&file->pt, tensor, out)
               : safetensors_read(&file->safetensors, in_safetensors(file, tensor), out);
}

enum voco_status tensor_file_read_floats(const struct tensor_file *file, const struct stored_tensor *tensor,
                                         float *out)
{
    return file->format == TENSOR_FILE_PT
               ? pt_read_floats(&file->pt, tensor, out)
               : safetensors_read_floats(&file->safetensors, in_safetensors(file, tensor), out);
}
