#include "formats/pt.h"

#include "base/error.h"
#include "formats/pt_archive.h"
#include "formats/pt_flatten.h"
#include "formats/pt_pickle.h"
#include "formats/tensor_elements.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are read as they lie in the file");
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "sizes of a file are held as size_t");

enum { most_key_bytes = 64 }; /* of a storage: PyTorch counts them, or takes their addresses */

/* Element (i, j, ...) is element first + i stride[0] + j stride[1] + ... of the entry. */
struct pt_place {
    struct pt_entry entry;
    uint64_t first;
    uint64_t reach; /* elements from the first to the last that is needed */
    int64_t stride[safetensors_max_rank];
    int contiguous;
};

/* ---- opening ---- */

static enum voco_status no_memory(const struct pt *file)
{
    return fail(VOCO_NO_MEMORY, "%s: out of memory", file->path);
}

/* data.pkl, whole. */
static enum voco_status read_pickle(unsigned char **bytes, size_t *size, const struct pt *file)
{
    struct pt_entry entry;
    int found = 0;
    enum voco_status status = pt_archive_find(&entry, &found, file->archive, "data.pkl");
    if (status != VOCO_OK) {
        return status;
    }
    if (!found || entry.size > pt_max_pickle) {
        return fail(VOCO_BAD_INPUT, "%s: its data.pkl has %llu bytes, more than %d", file->path,
                    (unsigned long long)(found ? entry.size : 0), (int)pt_max_pickle);
    }
    *size = (size_t)entry.size;
    *bytes = malloc(*size + 1);
    if (*bytes == NULL) {
        return no_memory(file);
    }
    struct pt_entry_reader reader;
    status = pt_entry_open(&reader, file->archive, &entry, 0);
    if (status == VOCO_OK) {
        status = pt_entry_read(&reader, *bytes, *size);
        pt_entry_close(&reader);
    }
    return status;
}

/* The entry of a storage, which must hold as many elements as the pickle says. */
static enum voco_status find_storage(struct pt_entry *entry, const struct pt *file,
                                     const struct pickle_storage *storage)
{
    char name[16 + most_key_bytes];
    int found = 0;
    if (storage->key_bytes > most_key_bytes) {
        return fail(VOCO_BAD_INPUT, "its storage has a name of more than %d bytes", (int)most_key_bytes);
    }
    (void)snprintf(name, sizeof name, "data/%.*s", (int)storage->key_bytes, storage->key);
    const enum voco_status status = pt_archive_find(entry, &found, file->archive, name);
    if (status != VOCO_OK) {
        return status;
    }
    if (!found) {
        return fail(VOCO_BAD_INPUT, "its storage, %s, is missing in the archive", name);
    }
    if (storage->count > entry->size / safetensors_type_size(storage->type)) {
        return fail(VOCO_BAD_INPUT, "its storage, %s, has %llu bytes, too few for %llu elements of %s", name,
                    (unsigned long long)entry->size, (unsigned long long)storage->count,
                    safetensors_type_name(storage->type));
    }
    return VOCO_OK;
}

static int is_contiguous(const struct stored_tensor *tensor, const int64_t *stride)
{
    int64_t expected = 1;
    for (int i = tensor->rank; i-- > 0;) {
        if (tensor->shape[i] != 1 && stride[i] != expected) {
            return 0;
        }
        expected *= tensor->shape[i];
    }
    return 1;
}

/* Fills the place of a tensor; the message lacks file and name. */
static enum voco_status place_tensor(struct pt_place *place, const struct pt *file,
                                     const struct stored_tensor *tensor, const struct pickle *pickle,
                                     const struct pickle_tensor *source)
{
    const enum voco_status status = find_storage(&place->entry, file, &pickle->storages[source->storage]);
    if (status != VOCO_OK) {
        return status;
    }
    const uint64_t most = place->entry.size > file->size ? place->entry.size : file->size;
    if (tensor->bytes > most) {
        return fail(VOCO_BAD_INPUT,
                    "%zu bytes by repeating a storage of %llu, more than the file has; save its clone()",
                    tensor->bytes, (unsigned long long)place->entry.size);
    }
    place->first = source->first;
    place->reach = source->reach;
    memcpy(place->stride, source->stride, sizeof place->stride);
    place->contiguous = tensor->count == 0 || is_contiguous(tensor, source->stride);
    return VOCO_OK;
}

static enum voco_status place_tensors(struct pt *file, const struct pickle *pickle, const uint32_t *sources)
{
    file->places = calloc(file->count + 1, sizeof *file->places);
    if (file->places == NULL) {
        return no_memory(file);
    }
    for (size_t i = 0; i < file->count; i++) {
        const enum voco_status status =
            place_tensor(&file->places[i], file, &file->tensors[i], pickle, &pickle->tensors[sources[i]]);
        if (status != VOCO_OK) {
            return add_context(status, "%s: tensor \"%.200s\"", file->path, file->tensors[i].name);
        }
    }
    return VOCO_OK;
}

static const char *tensor_name(const void *tensors, size_t place)
{
    return ((const struct stored_tensor *)tensors)[place].name;
}

static const char *scalar_name(const void *scalars, size_t place)
{
    return ((const struct stored_scalar *)scalars)[place].name;
}

static enum voco_status sort_names(struct pt *file)
{
    struct name_order scalars = {0};
    if (!name_order_make(&file->by_name, file->tensors, file->count, tensor_name) ||
        !name_order_make(&scalars, file->scalars, file->scalar_count, scalar_name)) {
        return no_memory(file);
    }
    const char *name = name_order_repeated(&file->by_name);
    if (name == NULL) {
        name = name_order_repeated(&scalars);
    }
    name_order_free(&scalars);
    return name == NULL ? VOCO_OK
                        : fail(VOCO_BAD_INPUT, "%s: two values have the name \"%.200s\"", file->path, name);
}

/* Everything after the archive is open. */
static enum voco_status read_contents(struct pt *file)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    uint32_t *sources = NULL;
    struct pickle pickle = {.root = {.kind = PICKLE_NONE}};
    file->size = file->archive->size;
    enum voco_status status = read_pickle(&bytes, &size, file);
    if (status == VOCO_OK) {
        status = pickle_read(&pickle, bytes, size, file->path);
    }
    if (status == VOCO_OK) {
        status = pt_flatten(file, &sources, &pickle);
    }
    if (status == VOCO_OK) {
        status = place_tensors(file, &pickle, sources);
    }
    if (status == VOCO_OK) {
        status = sort_names(file);
    }
    free(sources);
    pickle_free(&pickle);
    free(bytes);
    return status;
}

static enum voco_status open_archive(struct pt *file, const char *path, const void *bytes, size_t size)
{
    *file = (struct pt){.path = strdup(path), .archive = calloc(1, sizeof *file->archive)};
    if (file->path == NULL || file->archive == NULL) {
        pt_close(file);
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = bytes == NULL ? pt_archive_open(file->archive, path)
                                            : pt_archive_open_memory(file->archive, bytes, size, path);
    if (status == VOCO_OK) {
        status = read_contents(file);
    }
    if (status != VOCO_OK) {
        pt_close(file);
    }
    return status;
}

enum voco_status pt_open(struct pt *file, const char *path)
{
    return open_archive(file, path, NULL, 0);
}

enum voco_status pt_open_memory(struct pt *file, const void *bytes, size_t size, const char *name)
{
    return open_archive(file, name, bytes, size);
}

void pt_close(struct pt *file)
{
    for (size_t i = 0; i < file->count; i++) {
        free((char *)file->tensors[i].name);
    }
    for (size_t i = 0; i < file->scalar_count; i++) {
        free((char *)file->scalars[i].name);
        free((char *)file->scalars[i].text);
    }
    if (file->archive != NULL) {
        pt_archive_close(file->archive);
    }
    free(file->archive);
    free(file->tensors);
    free(file->scalars);
    free(file->places);
    name_order_free(&file->by_name);
    free(file->path);
    *file = (struct pt){0};
}

const struct stored_tensor *pt_find(const struct pt *file, const char *name)
{
    size_t place;
    return name_order_find(&place, &file->by_name, name) ? &file->tensors[place] : NULL;
}

/* ---- reading ---- */

/* Elements of `size` bytes from their places in the part of the storage that begins with the first one. */
static void gather(unsigned char *out, const unsigned char *from, const struct stored_tensor *tensor,
                   const int64_t *stride, size_t size)
{
    const int last = tensor->rank - 1; /* a tensor of rank 0 is contiguous */
    const size_t row = (size_t)tensor->shape[last];
    const size_t step = (size_t)stride[last] * size;
    int64_t index[safetensors_max_rank] = {0};
    size_t begin = 0; /* elements */
    for (size_t done = 0; done < tensor->count; done += row) {
        const unsigned char *element = from + begin * size;
        for (size_t i = 0; i < row; i++, element += step) {
            memcpy(out, element, size);
            out += size;
        }
        for (int axis = last - 1; axis >= 0; axis--) {
            begin += (size_t)stride[axis];
            if (++index[axis] < tensor->shape[axis]) {
                break;
            }
            begin -= (size_t)stride[axis] * (size_t)tensor->shape[axis];
            index[axis] = 0;
        }
    }
}

/* `count` elements of the entry, one behind the other, from the place's first on. */
static enum voco_status read_run(const struct pt *file, const struct pt_place *place, size_t size, void *out,
                                 size_t count)
{
    struct pt_entry_reader reader;
    enum voco_status status = pt_entry_open(&reader, file->archive, &place->entry, place->first * size);
    if (status == VOCO_OK) {
        status = pt_entry_read(&reader, out, count * size);
        pt_entry_close(&reader);
    }
    return status;
}

static enum voco_status read_scattered(const struct pt *file, const struct pt_place *place,
                                       const struct stored_tensor *tensor, void *out)
{
    const size_t size = safetensors_type_size(tensor->type);
    unsigned char *part = malloc((size_t)place->reach * size);
    if (part == NULL) {
        return no_memory(file);
    }
    const enum voco_status status = read_run(file, place, size, part, (size_t)place->reach);
    if (status == VOCO_OK) {
        gather(out, part, tensor, place->stride, size);
    }
    free(part);
    return status;
}

static const struct pt_place *place_of(const struct pt *file, const struct stored_tensor *tensor)
{
    return &file->places[tensor - file->tensors];
}

enum voco_status pt_read(const struct pt *file, const struct stored_tensor *tensor, void *out)
{
    const struct pt_place *place = place_of(file, tensor);
    const enum voco_status status =
        tensor->count == 0  ? VOCO_OK
        : place->contiguous ? read_run(file, place, safetensors_type_size(tensor->type), out, tensor->count)
                            : read_scattered(file, place, tensor, out);
    return status == VOCO_OK ? status : add_context(status, "tensor \"%.200s\"", tensor->name);
}

static enum voco_status convert_run(const struct pt *file, const struct pt_place *place,
                                    const struct stored_tensor *tensor, float *out)
{
    const size_t size = safetensors_type_size(tensor->type);
    unsigned char piece[16384];
    struct pt_entry_reader reader;
    enum voco_status status = pt_entry_open(&reader, file->archive, &place->entry, place->first * size);
    if (status != VOCO_OK) {
        return status;
    }
    for (size_t done = 0; status == VOCO_OK && done < tensor->count;) {
        const size_t left = tensor->count - done;
        const size_t count = left < sizeof piece / size ? left : sizeof piece / size;
        status = pt_entry_read(&reader, piece, count * size);
        if (status == VOCO_OK) {
            tensor_elements_to_floats(out + done, piece, count, tensor->type);
            done += count;
        }
    }
    pt_entry_close(&reader);
    return status;
}

static enum voco_status convert_scattered(const struct pt *file, const struct pt_place *place,
                                          const struct stored_tensor *tensor, float *out)
{
    unsigned char *raw = malloc(tensor->bytes);
    if (raw == NULL) {
        return no_memory(file);
    }
    const enum voco_status status = read_scattered(file, place, tensor, raw);
    if (status == VOCO_OK) {
        tensor_elements_to_floats(out, raw, tensor->count, tensor->type);
    }
    free(raw);
    return status;
}

enum voco_status pt_read_floats(const struct pt *file, const struct stored_tensor *tensor, float *out)
{
    if (tensor->type == SAFETENSORS_F32) {
        return pt_read(file, tensor, out);
    }
    if (!tensor_elements_convert(tensor->type)) {
        return fail(VOCO_UNSUPPORTED, "%s: tensor \"%.200s\": cannot convert the type %s", file->path,
                    tensor->name, safetensors_type_name(tensor->type));
    }
    const struct pt_place *place = place_of(file, tensor);
    const enum voco_status status = tensor->count == 0  ? VOCO_OK
                                    : place->contiguous ? convert_run(file, place, tensor, out)
                                                        : convert_scattered(file, place, tensor, out);
    return status == VOCO_OK ? status : add_context(status, "tensor \"%.200s\"", tensor->name);
}
