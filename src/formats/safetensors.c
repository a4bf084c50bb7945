#include "formats/safetensors.h"

#include "base/error.h"
#include "formats/tensor_elements.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are read and written as they lie in memory");

enum { length_bytes = 8 }; /* before the header */

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [SAFETENSORS_F64] = {"F64", 8},         [SAFETENSORS_F32] = {"F32", 4},
    [SAFETENSORS_F16] = {"F16", 2},         [SAFETENSORS_BF16] = {"BF16", 2},
    [SAFETENSORS_I64] = {"I64", 8},         [SAFETENSORS_I32] = {"I32", 4},
    [SAFETENSORS_I16] = {"I16", 2},         [SAFETENSORS_I8] = {"I8", 1},
    [SAFETENSORS_U64] = {"U64", 8},         [SAFETENSORS_U32] = {"U32", 4},
    [SAFETENSORS_U16] = {"U16", 2},         [SAFETENSORS_U8] = {"U8", 1},
    [SAFETENSORS_BOOL] = {"BOOL", 1},       [SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1},
    [SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1},
};
enum { type_count = sizeof types / sizeof types[0] };

const char *safetensors_type_name(enum safetensors_type type)
{
    return types[type].name;
}

size_t safetensors_type_size(enum safetensors_type type)
{
    return types[type].size;
}

const char *safetensors_shape_text(char *text, size_t size, int rank, const int64_t *shape)
{
    size_t used = 0;
    for (int i = 0; i < rank && used < size; i++) {
        used +=
            (size_t)snprintf(text + used, size - used, "%s%lld", i == 0 ? "[" : ", ", (long long)shape[i]);
    }
    if (used < size) {
        (void)snprintf(text + used, size - used, rank == 0 ? "[]" : "]");
    }
    return text;
}

/* Reads exactly `count` bytes at `offset`; the file's length has been checked before. */
static enum voco_status read_at(const struct safetensors *file, void *out, size_t count, uint64_t offset)
{
    if (file->descriptor < 0) {
        memcpy(out, file->memory + offset, count);
        return VOCO_OK;
    }
    unsigned char *to = out;
    while (count > 0) {
        const ssize_t got = pread(file->descriptor, to, count, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_errno("%s: cannot read", file->path);
        }
        if (got == 0) {
            return fail(VOCO_BAD_INPUT, "%s: became shorter while it was read", file->path);
        }
        to += got;
        count -= (size_t)got;
        offset += (uint64_t)got;
    }
    return VOCO_OK;
}

/* A JSON integer >= 0 as size_t; 0 where it is none. */
static int whole_number(size_t *value, const json_t *json)
{
    if (!json_is_integer(json) || json_integer_value(json) < 0) {
        return 0;
    }
    *value = (size_t)json_integer_value(json);
    return 1;
}

static enum voco_status parse_shape(struct safetensors_tensor *tensor, const json_t *shape, const char *path)
{
    if (!json_is_array(shape)) {
        return fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" has no \"shape\"", path, tensor->name);
    }
    if (json_array_size(shape) > safetensors_max_rank) {
        return fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" has %zu axes, more than %d", path, tensor->name,
                    json_array_size(shape), (int)safetensors_max_rank);
    }
    tensor->rank = (int)json_array_size(shape);
    tensor->count = 1;
    tensor->bytes = types[tensor->type].size;
    for (int i = 0; i < tensor->rank; i++) {
        size_t axis = 0;
        if (!whole_number(&axis, json_array_get(shape, (size_t)i))) {
            return fail(VOCO_BAD_INPUT, "%s: tensor \"%s\": axis %d of its shape is not a whole number", path,
                        tensor->name, i);
        }
        tensor->shape[i] = (int64_t)axis;
        if (__builtin_mul_overflow(tensor->count, axis, &tensor->count) ||
            __builtin_mul_overflow(tensor->bytes, axis, &tensor->bytes)) {
            return fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" is too large to exist", path, tensor->name);
        }
    }
    return VOCO_OK;
}

/* Fills everything but the offset's distance from the file's beginning. */
static enum voco_status parse_tensor(struct safetensors_tensor *tensor, const char *name, const json_t *entry,
                                     const char *path)
{
    *tensor = (struct safetensors_tensor){.name = name};
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    if (type == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" has no \"dtype\"", path, name);
    }
    int t = 0;
    while (t < type_count && strcmp(types[t].name, type) != 0) {
        t++;
    }
    if (t == type_count) {
        return fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" has the unknown type \"%s\"", path, name, type);
    }
    tensor->type = (enum safetensors_type)t;
    const enum voco_status status = parse_shape(tensor, json_object_get(entry, "shape"), path);
    if (status != VOCO_OK) {
        return status;
    }
    const json_t *offsets = json_object_get(entry, "data_offsets");
    size_t begin = 0;
    size_t end = 0;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !whole_number(&begin, json_array_get(offsets, 0)) ||
        !whole_number(&end, json_array_get(offsets, 1))) {
        return fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" has no pair of \"data_offsets\"", path, name);
    }
    if (end < begin || end - begin != tensor->bytes) {
        char shape[160];
        return fail(VOCO_BAD_INPUT,
                    "%s: tensor \"%s\": %s %s is %zu bytes, but its data_offsets are [%zu, %zu]", path, name,
                    type, safetensors_shape_text(shape, sizeof shape, tensor->rank, tensor->shape),
                    tensor->bytes, begin, end);
    }
    tensor->offset = begin;
    return VOCO_OK;
}

static enum voco_status parse_metadata(struct safetensors *file, const json_t *metadata)
{
    if (!json_is_object(metadata)) {
        return fail(VOCO_BAD_INPUT, "%s: \"__metadata__\" is not an object", file->path);
    }
    file->metadata = calloc(json_object_size(metadata) + 1, sizeof *file->metadata);
    if (file->metadata == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for its header", file->path);
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value)) {
            return fail(VOCO_BAD_INPUT, "%s: \"__metadata__\": \"%s\" is not a string", file->path, key);
        }
        file->metadata[file->metadata_count++] = (struct safetensors_text){key, json_string_value(value)};
    }
    return VOCO_OK;
}

static int compare_offset(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a;
    const struct safetensors_tensor *y = b;
    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    if (x->bytes != y->bytes) { /* an empty tensor lies before the one that begins where it does */
        return x->bytes < y->bytes ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

/* Sorts the tensors by place and checks that they fill the data: no hole, no overlap, nothing missing or
 * left. */
static enum voco_status place_tensors(struct safetensors *file, uint64_t data_start)
{
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_offset);
    uint64_t end = 0;
    for (size_t i = 0; i < file->count; i++) {
        struct safetensors_tensor *tensor = &file->tensors[i];
        if (tensor->offset != end) {
            return fail(VOCO_BAD_INPUT,
                        "%s: tensor \"%s\" begins at byte %zu of the data, where %llu was expected: %s",
                        file->path, tensor->name, tensor->offset, (unsigned long long)end,
                        tensor->offset < end ? "tensors overlap" : "there is a hole");
        }
        end += tensor->bytes;
        tensor->offset += data_start;
    }
    const uint64_t promised = data_start + end;
    if (promised != file->size) {
        return fail(VOCO_BAD_INPUT, "%s: %s: the header promises %llu bytes, the file has %llu", file->path,
                    promised > file->size ? "cut short" : "too long", (unsigned long long)promised,
                    (unsigned long long)file->size);
    }
    return VOCO_OK;
}

static const char *tensor_name(const void *tensors, size_t place)
{
    return ((const struct safetensors_tensor *)tensors)[place].name;
}

static enum voco_status parse_header(struct safetensors *file, const char *text, size_t length)
{
    json_error_t error;
    file->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(file->header)) {
        return fail(VOCO_BAD_INPUT, "%s: not a safetensors file: its header is not a JSON object%s%s",
                    file->path, file->header == NULL ? ": " : "", file->header == NULL ? error.text : "");
    }
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (file->tensors == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for its header", file->path);
    }
    const char *name = NULL;
    json_t *entry = NULL;
    json_object_foreach(file->header, name, entry)
    {
        const enum voco_status status =
            strcmp(name, "__metadata__") == 0
                ? parse_metadata(file, entry)
                : parse_tensor(&file->tensors[file->count++], name, entry, file->path);
        if (status != VOCO_OK) {
            return status;
        }
    }
    const enum voco_status status = place_tensors(file, length_bytes + (uint64_t)length);
    if (status == VOCO_OK && !name_order_make(&file->by_name, file->tensors, file->count, tensor_name)) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for its header", file->path);
    }
    return status;
}

static enum voco_status read_header(struct safetensors *file)
{
    unsigned char prefix[length_bytes];
    if (file->size < length_bytes) {
        return fail(VOCO_BAD_INPUT, "%s: not a safetensors file: it has %llu bytes", file->path,
                    (unsigned long long)file->size);
    }
    enum voco_status status = read_at(file, prefix, sizeof prefix, 0);
    if (status != VOCO_OK) {
        return status;
    }
    uint64_t length = 0;
    memcpy(&length, prefix, sizeof length);
    if (length < 2 || length > safetensors_max_header) {
        return fail(VOCO_BAD_INPUT, "%s: not a safetensors file: its first 8 bytes are no header length",
                    file->path);
    }
    if (length > file->size - length_bytes) {
        return fail(VOCO_BAD_INPUT, "%s: cut short: a header of %llu bytes is promised, the file has %llu",
                    file->path, (unsigned long long)length, (unsigned long long)file->size);
    }
    char *text = malloc((size_t)length);
    if (text == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for its header", file->path);
    }
    status = read_at(file, text, (size_t)length, length_bytes);
    if (status == VOCO_OK && text[0] != '{') {
        status =
            fail(VOCO_BAD_INPUT, "%s: not a safetensors file: its header does not begin with {", file->path);
    }
    if (status == VOCO_OK) {
        status = parse_header(file, text, (size_t)length);
    }
    free(text);
    return status;
}

static enum voco_status open_descriptor(struct safetensors *file)
{
    struct stat info;
    /* Without O_NONBLOCK, opening a named pipe would wait for a writer. */
    file->descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->descriptor < 0 || fstat(file->descriptor, &info) != 0) {
        return fail_errno("%s: cannot open", file->path);
    }
    if (!S_ISREG(info.st_mode)) {
        return fail(VOCO_BAD_INPUT, "%s: not a file", file->path);
    }
    file->size = (uint64_t)info.st_size;
    return VOCO_OK;
}

enum voco_status safetensors_open(struct safetensors *file, const char *path)
{
    *file = (struct safetensors){.descriptor = -1, .path = strdup(path)};
    if (file->path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = open_descriptor(file);
    if (status == VOCO_OK) {
        status = read_header(file);
    }
    if (status != VOCO_OK) {
        safetensors_close(file);
    }
    return status;
}

enum voco_status safetensors_open_memory(struct safetensors *file, const void *bytes, size_t size,
                                         const char *name)
{
    *file = (struct safetensors){.descriptor = -1, .path = strdup(name), .memory = bytes, .size = size};
    if (file->path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", name);
    }
    const enum voco_status status = read_header(file);
    if (status != VOCO_OK) {
        safetensors_close(file);
    }
    return status;
}

void safetensors_close(struct safetensors *file)
{
    if (file->path != NULL && file->descriptor >= 0) {
        (void)close(file->descriptor);
    }
    json_decref(file->header);
    free(file->tensors);
    free(file->metadata);
    name_order_free(&file->by_name);
    free(file->path);
    *file = (struct safetensors){.descriptor = -1};
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    size_t place;
    return name_order_find(&place, &file->by_name, name) ? &file->tensors[place] : NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->metadata_count; i++) {
        if (strcmp(file->metadata[i].key, key) == 0) {
            return file->metadata[i].value;
        }
    }
    return NULL;
}

enum voco_status safetensors_compare_shape(const char *path, const char *name, int rank, const int64_t *shape,
                                           int wanted_rank, const int64_t *wanted_shape)
{
    char wanted[160];
    char found[160];
    (void)safetensors_shape_text(wanted, sizeof wanted, wanted_rank, wanted_shape);
    if (shape == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: lacks the tensor \"%s\" %s", path, name, wanted);
    }
    int same = rank == wanted_rank;
    for (int i = 0; same && i < rank; i++) {
        same = shape[i] == wanted_shape[i];
    }
    return same ? VOCO_OK
                : fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" is %s, but %s is needed", path, name,
                       safetensors_shape_text(found, sizeof found, rank, shape), wanted);
}

enum voco_status safetensors_require(const struct safetensors_tensor **tensor, const struct safetensors *file,
                                     const char *name, int rank, const int64_t *shape)
{
    *tensor = safetensors_find(file, name);
    const enum voco_status status =
        safetensors_compare_shape(file->path, name, *tensor != NULL ? (*tensor)->rank : 0,
                                  *tensor != NULL ? (*tensor)->shape : NULL, rank, shape);
    if (status != VOCO_OK) {
        *tensor = NULL;
    }
    return status;
}

enum voco_status safetensors_read(const struct safetensors *file, const struct safetensors_tensor *tensor,
                                  void *out)
{
    const enum voco_status status = read_at(file, out, tensor->bytes, tensor->offset);
    return status == VOCO_OK ? status : add_context(status, "tensor \"%s\"", tensor->name);
}

enum voco_status safetensors_read_floats(const struct safetensors *file,
                                         const struct safetensors_tensor *tensor, float *out)
{
    if (tensor->type == SAFETENSORS_F32) {
        return safetensors_read(file, tensor, out);
    }
    if (!tensor_elements_convert(tensor->type)) {
        return fail(VOCO_UNSUPPORTED, "%s: tensor \"%s\": cannot convert the type %s", file->path,
                    tensor->name, types[tensor->type].name);
    }
    unsigned char piece[16384];
    const size_t size = types[tensor->type].size;
    for (size_t done = 0; done < tensor->count;) {
        const size_t left = tensor->count - done;
        const size_t count = left < sizeof piece / size ? left : sizeof piece / size;
        const enum voco_status status = read_at(file, piece, count * size, tensor->offset + done * size);
        if (status != VOCO_OK) {
            return add_context(status, "tensor \"%s\"", tensor->name);
        }
        tensor_elements_to_floats(out + done, piece, count, tensor->type);
        done += count;
    }
    return VOCO_OK;
}
