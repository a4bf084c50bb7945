#include "formats/pt_rebuild.h"

#include "base/error.h"
#include "formats/pt_types.h"

#include <stdlib.h>
#include <string.h>

enum function { ORDERED_DICT, SIZE, TENSOR_V2, TENSOR_V3, PARAMETER };

static const struct {
    const char *module;
    const char *name;
} functions[] = {
    [ORDERED_DICT] = {"collections", "OrderedDict"},
    [SIZE] = {"torch", "Size"},
    [TENSOR_V2] = {"torch._utils", "_rebuild_tensor_v2"},
    [TENSOR_V3] = {"torch._utils", "_rebuild_tensor_v3"},
    [PARAMETER] = {"torch._utils", "_rebuild_parameter"},
};
enum { function_count = sizeof functions / sizeof functions[0] };

static int is(const char *known, const char *text, size_t bytes)
{
    return strlen(known) == bytes && memcmp(known, text, bytes) == 0;
}

enum voco_status rebuild_global(struct pickle_value *value, const char *module, size_t module_bytes,
                                const char *name, size_t name_bytes, const char *path)
{
    for (int i = 0; i < function_count; i++) {
        if (is(functions[i].module, module, module_bytes) && is(functions[i].name, name, name_bytes)) {
            *value = (struct pickle_value){.kind = PICKLE_FUNCTION, .number_of = (uint32_t)i};
            return VOCO_OK;
        }
    }
    enum safetensors_type type = SAFETENSORS_U8;
    if (is("torch", module, module_bytes) && pt_type_of_storage(&type, name, name_bytes)) {
        *value = (struct pickle_value){PICKLE_STORAGE_TYPE, (uint32_t)type, {.integer = 1}};
        return VOCO_OK;
    }
    if (is("torch.storage", module, module_bytes) && is("UntypedStorage", name, name_bytes)) {
        *value = (struct pickle_value){PICKLE_STORAGE_TYPE, (uint32_t)type, {.integer = 0}};
        return VOCO_OK;
    }
    if (is("torch", module, module_bytes) && pt_type_of_dtype(&type, name, name_bytes)) {
        *value = (struct pickle_value){.kind = PICKLE_DTYPE, .number_of = (uint32_t)type};
        return VOCO_OK;
    }
    const int most = 200; /* bytes of a hostile name in a message */
    return fail(VOCO_BAD_INPUT,
                "%s: the pickle calls '%.*s.%.*s', which is not part of a checkpoint of tensors", path,
                (int)module_bytes < most ? (int)module_bytes : most, module,
                (int)name_bytes < most ? (int)name_bytes : most, name);
}

/* Room for one more element of `size` bytes in a list that may have pickle_most_values at most. */
static enum voco_status grow(void **list, size_t count, size_t *capacity, size_t size, const char *path)
{
    if (count < *capacity) {
        return VOCO_OK;
    }
    if (count >= pickle_most_values) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has more than %d values", path, (int)pickle_most_values);
    }
    const size_t wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown = reallocarray(*list, wanted, size);
    if (grown == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for its pickle", path);
    }
    *list = grown;
    *capacity = wanted;
    return VOCO_OK;
}

enum voco_status pickle_new_container(struct pickle_value *value, struct pickle *pickle,
                                      enum pickle_kind kind, const char *path)
{
    void *list = pickle->containers;
    const enum voco_status status =
        grow(&list, pickle->container_count, &pickle->container_capacity, sizeof *pickle->containers, path);
    pickle->containers = list;
    if (status == VOCO_OK) {
        *value = (struct pickle_value){.kind = kind, .number_of = (uint32_t)pickle->container_count};
        pickle->containers[pickle->container_count++] = (struct pickle_container){0};
    }
    return status;
}

/* The items of a tuple that must have between `least` and `most` of them; NULL otherwise. */
static const struct pickle_value *items_of(const struct pickle *pickle, const struct pickle_value *value,
                                           uint32_t least, uint32_t most)
{
    static const struct pickle_value none;
    if (value->kind != PICKLE_TUPLE) {
        return NULL;
    }
    const struct pickle_container *tuple = &pickle->containers[value->number_of];
    if (tuple->count < least || tuple->count > most) {
        return NULL;
    }
    return tuple->count == 0 ? &none : tuple->items;
}

static uint32_t count_of(const struct pickle *pickle, const struct pickle_value *value)
{
    return pickle->containers[value->number_of].count;
}

static int is_text(const struct pickle_value *value, const char *text)
{
    return value->kind == PICKLE_TEXT && is(text, value->text, value->number_of);
}

static int is_count(const struct pickle_value *value)
{
    return value->kind == PICKLE_INTEGER && value->integer >= 0;
}

enum voco_status rebuild_storage(struct pickle_value *value, struct pickle *pickle,
                                 const struct pickle_value *id, const char *path)
{
    const struct pickle_value *items = items_of(pickle, id, 5, 5);
    if (items == NULL || !is_text(&items[0], "storage") || items[1].kind != PICKLE_STORAGE_TYPE ||
        items[2].kind != PICKLE_TEXT || items[3].kind != PICKLE_TEXT || !is_count(&items[4])) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has a persistent id that is none of a storage", path);
    }
    void *list = pickle->storages;
    const enum voco_status status =
        grow(&list, pickle->storage_count, &pickle->storage_capacity, sizeof *pickle->storages, path);
    pickle->storages = list;
    if (status != VOCO_OK) {
        return status;
    }
    *value = (struct pickle_value){.kind = PICKLE_STORAGE, .number_of = (uint32_t)pickle->storage_count};
    pickle->storages[pickle->storage_count++] =
        (struct pickle_storage){.key = items[2].text,
                                .key_bytes = items[2].number_of,
                                .typed = items[1].integer != 0,
                                .type = (enum safetensors_type)items[1].number_of,
                                .count = (uint64_t)items[4].integer};
    return VOCO_OK;
}

/* Shape and strides, each of which is a tuple of whole numbers. */
static enum voco_status take_axes(struct pickle_tensor *tensor, const struct pickle *pickle,
                                  const struct pickle_value *shape, const struct pickle_value *stride,
                                  const char *path)
{
    const struct pickle_value *sizes = items_of(pickle, shape, 0, UINT32_MAX);
    const struct pickle_value *steps = items_of(pickle, stride, 0, UINT32_MAX);
    if (sizes == NULL || steps == NULL || count_of(pickle, shape) != count_of(pickle, stride)) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has a tensor without a shape and as many strides", path);
    }
    const uint32_t rank = count_of(pickle, shape);
    if (rank > safetensors_max_rank) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has a tensor of %u axes, more than %d", path, rank,
                    (int)safetensors_max_rank);
    }
    tensor->rank = (int)rank;
    for (uint32_t i = 0; i < rank; i++) {
        if (!is_count(&sizes[i]) || !is_count(&steps[i])) {
            return fail(VOCO_BAD_INPUT,
                        "%s: the pickle has a tensor whose shape or strides are not whole numbers", path);
        }
        tensor->shape[i] = sizes[i].integer;
        tensor->stride[i] = steps[i].integer;
    }
    return VOCO_OK;
}

/* Fills count and reach; the storage's count, in elements of the tensor, must be enough. */
static enum voco_status measure(struct pickle_tensor *tensor, uint64_t stored, const char *path)
{
    char shape[160];
    (void)safetensors_shape_text(shape, sizeof shape, tensor->rank, tensor->shape);
    uint64_t bytes = safetensors_type_size(tensor->type);
    uint64_t reach = 1;
    int fits = 1;
    int empty = 0;
    tensor->count = 1;
    for (int i = 0; i < tensor->rank; i++) {
        const uint64_t axis = (uint64_t)tensor->shape[i];
        uint64_t span = 0;
        empty = empty || axis == 0;
        fits = fits && (axis == 0 || (!__builtin_mul_overflow(bytes, axis, &bytes) && bytes <= INT64_MAX &&
                                      !__builtin_mul_overflow(axis - 1, (uint64_t)tensor->stride[i], &span) &&
                                      !__builtin_add_overflow(reach, span, &reach)));
        tensor->count *= axis; /* wraps only where bytes did */
    }
    if (!fits) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has a tensor %s that is too large to exist", path, shape);
    }
    tensor->reach = empty ? 0 : reach;
    tensor->count = empty ? 0 : tensor->count;
    if (tensor->first > stored || tensor->reach > stored - tensor->first) {
        const uint64_t end = tensor->first + tensor->reach;
        return fail(VOCO_BAD_INPUT,
                    "%s: the pickle has a tensor %s that needs elements %llu to %llu of a storage of %llu",
                    path, shape, (unsigned long long)tensor->first, (unsigned long long)end,
                    (unsigned long long)stored);
    }
    return VOCO_OK;
}

/* (storage, first, size, stride, requires_grad, backward_hooks[, dtype][, metadata]) */
static enum voco_status rebuild_tensor(struct pickle_value *value, struct pickle *pickle,
                                       const struct pickle_value *arguments, int with_dtype, const char *path)
{
    const uint32_t needed = with_dtype ? 7 : 6;
    const struct pickle_value *items = items_of(pickle, arguments, needed, needed + 1);
    if (items == NULL || items[0].kind != PICKLE_STORAGE || !is_count(&items[1]) ||
        (with_dtype && items[6].kind != PICKLE_DTYPE)) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has a tensor without a storage and a place in it", path);
    }
    const struct pickle_value *metadata = &items[needed];
    if (count_of(pickle, arguments) > needed && metadata->kind != PICKLE_NONE &&
        !(metadata->kind == PICKLE_DICT && count_of(pickle, metadata) == 0)) {
        return fail(VOCO_UNSUPPORTED,
                    "%s: the pickle has a tensor with pending conjugation or negation; save its clone()",
                    path);
    }
    const struct pickle_storage *storage = &pickle->storages[items[0].number_of];
    struct pickle_tensor tensor = {.storage = items[0].number_of,
                                   .type =
                                       with_dtype ? (enum safetensors_type)items[6].number_of : storage->type,
                                   .first = (uint64_t)items[1].integer};
    if (with_dtype == storage->typed) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has a tensor of a storage without a type", path);
    }
    enum voco_status status = take_axes(&tensor, pickle, &items[2], &items[3], path);
    if (status == VOCO_OK) {
        status = measure(
            &tensor, storage->typed ? storage->count : storage->count / safetensors_type_size(tensor.type),
            path);
    }
    void *list = pickle->tensors;
    if (status == VOCO_OK) {
        status = grow(&list, pickle->tensor_count, &pickle->tensor_capacity, sizeof *pickle->tensors, path);
        pickle->tensors = list;
    }
    if (status == VOCO_OK) {
        *value = (struct pickle_value){.kind = PICKLE_TENSOR, .number_of = (uint32_t)pickle->tensor_count};
        pickle->tensors[pickle->tensor_count++] = tensor;
    }
    return status;
}

enum voco_status rebuild_call(struct pickle_value *value, struct pickle *pickle,
                              const struct pickle_value *function, const struct pickle_value *arguments,
                              const char *path)
{
    if (function->kind != PICKLE_FUNCTION) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle calls what is no function", path);
    }
    const struct pickle_value *items = NULL;
    switch ((enum function)function->number_of) {
    case ORDERED_DICT:
        if (items_of(pickle, arguments, 0, 0) != NULL) {
            return pickle_new_container(value, pickle, PICKLE_DICT, path);
        }
        break;
    case SIZE:
        items = items_of(pickle, arguments, 1, 1);
        if (items != NULL && items[0].kind == PICKLE_TUPLE) {
            *value = items[0];
            return VOCO_OK;
        }
        break;
    case TENSOR_V2:
        return rebuild_tensor(value, pickle, arguments, 0, path);
    case TENSOR_V3:
        return rebuild_tensor(value, pickle, arguments, 1, path);
    case PARAMETER: /* (tensor, requires_grad, backward_hooks) */
        items = items_of(pickle, arguments, 3, 3);
        if (items != NULL && items[0].kind == PICKLE_TENSOR) {
            *value = items[0];
            return VOCO_OK;
        }
        break;
    }
    return fail(VOCO_BAD_INPUT, "%s: the pickle calls '%s.%s' with arguments that it does not take", path,
                functions[function->number_of].module, functions[function->number_of].name);
}
