#include "formats/safetensors.h"

#include "base/atomic_file.h"
#include "base/error.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { header_alignment = 8 };

struct declared {
    char *name;
    size_t bytes;
};

struct safetensors_writer {
    struct atomic_file file;
    json_t *header;
    json_t *metadata; /* inside header */
    struct declared *tensors;
    size_t count, capacity;
    size_t put;       /* tensors written */
    size_t put_bytes; /* of the next one */
    size_t bytes;     /* of the data, as declared */
    int header_written;
    enum voco_status status; /* the first failure ... */
    char message[1024];      /* ... and its words */
};

/* Keeps the thread's present message as the writer's, so that commit can repeat it. */
static enum voco_status failed(struct safetensors_writer *writer, enum voco_status status)
{
    if (status != VOCO_OK && writer->status == VOCO_OK) {
        writer->status = status;
        (void)snprintf(writer->message, sizeof writer->message, "%s", voco_error_message());
    }
    return status;
}

static enum voco_status earlier_failure(const struct safetensors_writer *writer)
{
    return writer->status == VOCO_OK ? VOCO_OK : fail(writer->status, "%s", writer->message);
}

static enum voco_status no_memory(struct safetensors_writer *writer)
{
    return failed(writer, fail(VOCO_NO_MEMORY, "%s: out of memory", writer->file.path));
}

enum voco_status safetensors_writer_open(struct safetensors_writer **writer, const char *path)
{
    *writer = calloc(1, sizeof **writer);
    if (*writer == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = atomic_file_open(&(*writer)->file, path);
    if (status == VOCO_OK) {
        (*writer)->header = json_object();
        (*writer)->metadata = json_object();
        if (json_object_set((*writer)->header, "__metadata__", (*writer)->metadata) != 0) {
            status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
        }
    }
    if (status != VOCO_OK) {
        safetensors_writer_discard(*writer);
        *writer = NULL;
    }
    return status;
}

enum voco_status safetensors_writer_metadata(struct safetensors_writer *writer, const char *key,
                                             const char *value)
{
    if (writer->status != VOCO_OK) {
        return earlier_failure(writer);
    }
    if (writer->header_written || json_object_get(writer->metadata, key) != NULL) {
        return failed(writer, fail(VOCO_BAD_INPUT, "%s: metadata \"%s\" is given %s", writer->file.path, key,
                                   writer->header_written ? "too late" : "twice"));
    }
    if (json_object_set_new(writer->metadata, key, json_string(value)) != 0) {
        return failed(writer,
                      fail(VOCO_BAD_INPUT, "%s: metadata \"%s\" is not UTF-8 text", writer->file.path, key));
    }
    return VOCO_OK;
}

/* The element count times the element's size, bounded. */
static int tensor_bytes(size_t *bytes, enum safetensors_type type, int rank, const int64_t *shape)
{
    *bytes = safetensors_type_size(type);
    if (rank < 0 || rank > safetensors_max_rank) {
        return 0;
    }
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0 || __builtin_mul_overflow(*bytes, (size_t)shape[i], bytes)) {
            return 0;
        }
    }
    return 1;
}

static json_t *header_entry(enum safetensors_type type, int rank, const int64_t *shape, size_t begin,
                            size_t end)
{
    json_t *axes = json_array();
    for (int i = 0; i < rank; i++) {
        if (json_array_append_new(axes, json_integer((json_int_t)shape[i])) != 0) {
            json_decref(axes);
            return NULL;
        }
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_type_name(type), "shape", axes,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static int grow(struct safetensors_writer *writer)
{
    if (writer->count < writer->capacity) {
        return 1;
    }
    const size_t capacity = writer->capacity == 0 ? 256 : 2 * writer->capacity;
    struct declared *grown = reallocarray(writer->tensors, capacity, sizeof *grown);
    if (grown == NULL) {
        return 0;
    }
    writer->tensors = grown;
    writer->capacity = capacity;
    return 1;
}

enum voco_status safetensors_writer_declare(struct safetensors_writer *writer, const char *name,
                                            enum safetensors_type type, int rank, const int64_t *shape)
{
    if (writer->status != VOCO_OK) {
        return earlier_failure(writer);
    }
    size_t bytes = 0;
    size_t end = 0;
    const char *wrong = NULL;
    if (writer->header_written) {
        wrong = "is declared too late";
    } else if (json_object_get(writer->header, name) != NULL) {
        wrong = "is declared twice";
    } else if (!tensor_bytes(&bytes, type, rank, shape) ||
               __builtin_add_overflow(writer->bytes, bytes, &end) || end > INT64_MAX) {
        wrong = "has a shape that cannot be";
    } else if (writer->bytes % safetensors_type_size(type) != 0) {
        wrong = "would not be aligned: declare larger types first";
    }
    if (wrong != NULL) {
        return failed(writer, fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" %s", writer->file.path, name, wrong));
    }
    if (!grow(writer)) {
        return no_memory(writer);
    }
    char *copy = strdup(name);
    if (copy == NULL) {
        return no_memory(writer);
    }
    writer->tensors[writer->count++] = (struct declared){copy, bytes};
    if (json_object_set_new(writer->header, name, header_entry(type, rank, shape, writer->bytes, end)) != 0) {
        return failed(writer, fail(VOCO_BAD_INPUT, "%s: the tensor name \"%s\" is not UTF-8 text",
                                   writer->file.path, name));
    }
    writer->bytes = end;
    return VOCO_OK;
}

static enum voco_status write_bytes(struct safetensors_writer *writer, const void *bytes, size_t count)
{
    if (count > 0 && fwrite(bytes, 1, count, writer->file.stream) != count) {
        return failed(writer, fail_errno("%s: cannot write", writer->file.path));
    }
    return VOCO_OK;
}

static enum voco_status write_header(struct safetensors_writer *writer)
{
    char *text = json_dumps(writer->header, JSON_COMPACT);
    if (text == NULL) {
        return no_memory(writer);
    }
    const size_t length = strlen(text);
    const size_t padding = (header_alignment - length % header_alignment) % header_alignment;
    const uint64_t promised = length + padding;
    enum voco_status status = VOCO_OK;
    if (promised > safetensors_max_header) {
        status = failed(writer, fail(VOCO_BAD_INPUT, "%s: too many tensors for one file", writer->file.path));
    }
    if (status == VOCO_OK) {
        status = write_bytes(writer, &promised, sizeof promised);
    }
    if (status == VOCO_OK) {
        status = write_bytes(writer, text, length);
    }
    if (status == VOCO_OK) {
        status = write_bytes(writer, "        ", padding);
    }
    free(text);
    writer->header_written = 1;
    return status;
}

enum voco_status safetensors_writer_put_piece(struct safetensors_writer *writer, const void *data,
                                              size_t bytes)
{
    if (writer->status != VOCO_OK) {
        return earlier_failure(writer);
    }
    if (writer->put == writer->count || bytes > writer->tensors[writer->put].bytes - writer->put_bytes) {
        return failed(writer,
                      fail(VOCO_BAD_INPUT, "%s: more tensors are written than declared", writer->file.path));
    }
    if (!writer->header_written && write_header(writer) != VOCO_OK) {
        return writer->status;
    }
    writer->put_bytes += bytes;
    if (writer->put_bytes == writer->tensors[writer->put].bytes) {
        writer->put++;
        writer->put_bytes = 0;
    }
    return write_bytes(writer, data, bytes);
}

enum voco_status safetensors_writer_put(struct safetensors_writer *writer, const void *data)
{
    const size_t bytes = writer->put < writer->count ? writer->tensors[writer->put].bytes : 0;
    return safetensors_writer_put_piece(writer, data, bytes);
}

enum voco_status safetensors_writer_commit(struct safetensors_writer *writer)
{
    if (writer->status == VOCO_OK && writer->put < writer->count) {
        (void)failed(writer, fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" was declared but not written",
                                  writer->file.path, writer->tensors[writer->put].name));
    }
    if (writer->status == VOCO_OK && !writer->header_written) { /* a file without tensors */
        (void)write_header(writer);
    }
    if (writer->status == VOCO_OK) {
        (void)failed(writer, atomic_file_commit(&writer->file));
    }
    const enum voco_status status = earlier_failure(writer);
    safetensors_writer_discard(writer);
    return status;
}

void safetensors_writer_discard(struct safetensors_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    atomic_file_discard(&writer->file);
    json_decref(writer->metadata);
    json_decref(writer->header);
    for (size_t i = 0; i < writer->count; i++) {
        free(writer->tensors[i].name);
    }
    free(writer->tensors);
    free(writer);
}
