#include "formats/pt_flatten.h"

#include "base/error.h"
#include "formats/pt_types.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a pickle may have beside what its own bytes allow. A value takes a byte or more, and most that are
 * held several times are small tuples; of a name most parts are shared, and take no bytes of their own. */
enum { free_values = 1024, values_per_byte = 2, free_names = 1 << 16, names_per_byte = 32 };

struct walk {
    struct pt *file;
    const struct pickle *pickle;
    uint32_t *sources;
    size_t tensor_capacity, scalar_capacity;
    size_t visited; /* values, containers included */
    size_t most_values;
    size_t text_bytes; /* of names and texts kept */
    size_t most_text;
    char name[pt_max_name + 1];
    size_t length;
};

static enum voco_status refuse(const struct walk *walk, const char *cause)
{
    return fail(VOCO_BAD_INPUT, "%s: \"%.200s\": %s", walk->file->path, walk->name, cause);
}

static enum voco_status no_memory(const struct walk *walk)
{
    return fail(VOCO_NO_MEMORY, "%s: no memory for the names of its tensors", walk->file->path);
}

/* A terminated copy, or NULL and the status. */
static char *keep_text(struct walk *walk, enum voco_status *status, const char *text, size_t length)
{
    if (length > walk->most_text - walk->text_bytes) {
        *status = fail(VOCO_BAD_INPUT, "%s: its names are longer than %zu bytes together", walk->file->path,
                       walk->most_text);
        return NULL;
    }
    if (memchr(text, '\0', length) != NULL) {
        *status = refuse(walk, "a text with a NUL character");
        return NULL;
    }
    char *copy = strndup(text, length);
    if (copy == NULL) {
        *status = no_memory(walk);
        return NULL;
    }
    walk->text_bytes += length;
    return copy;
}

/* Room for one more. */
static int grow(void **list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return 1;
    }
    const size_t wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown = reallocarray(*list, wanted, size);
    if (grown == NULL) {
        return 0;
    }
    *list = grown;
    *capacity = wanted;
    return 1;
}

static enum voco_status add_tensor(struct walk *walk, const struct pickle_value *value)
{
    struct pt *file = walk->file;
    const size_t before = walk->tensor_capacity;
    size_t same = before;
    void *tensors = file->tensors;
    void *sources = walk->sources;
    const int grown = grow(&tensors, file->count, &walk->tensor_capacity, sizeof *file->tensors) &&
                      grow(&sources, file->count, &same, sizeof *walk->sources);
    file->tensors = tensors;
    walk->sources = sources;
    if (!grown) {
        return no_memory(walk);
    }
    enum voco_status status = VOCO_OK;
    char *name = keep_text(walk, &status, walk->name, walk->length);
    if (name == NULL) {
        return status;
    }
    const struct pickle_tensor *found = &walk->pickle->tensors[value->number_of];
    struct stored_tensor *tensor = &file->tensors[file->count];
    *tensor = (struct stored_tensor){.name = name,
                                     .type = found->type,
                                     .rank = found->rank,
                                     .count = (size_t)found->count,
                                     .bytes = (size_t)found->count * safetensors_type_size(found->type)};
    memcpy(tensor->shape, found->shape, sizeof tensor->shape);
    walk->sources[file->count++] = value->number_of;
    return VOCO_OK;
}

/* The text of a scalar, copied; NULL where it has none or `status` says why not. */
static char *scalar_text(struct walk *walk, enum voco_status *status, const struct pickle_value *value)
{
    if (value->kind == PICKLE_TEXT) {
        return keep_text(walk, status, value->text, value->number_of);
    }
    if (value->kind == PICKLE_DTYPE) {
        char text[64];
        const int length =
            snprintf(text, sizeof text, "torch.%s", pt_dtype_name((enum safetensors_type)value->number_of));
        return keep_text(walk, status, text, (size_t)length);
    }
    return NULL;
}

static enum voco_status add_scalar(struct walk *walk, const struct pickle_value *value,
                                   enum stored_scalar_kind kind)
{
    struct pt *file = walk->file;
    void *scalars = file->scalars;
    const int grown = grow(&scalars, file->scalar_count, &walk->scalar_capacity, sizeof *file->scalars);
    file->scalars = scalars;
    if (!grown) {
        return no_memory(walk);
    }
    enum voco_status status = VOCO_OK;
    struct stored_scalar scalar = {.kind = kind};
    if (kind == STORED_BOOL || kind == STORED_INTEGER) {
        scalar.integer = value->integer;
    } else if (kind == STORED_NUMBER) {
        scalar.number = value->number;
    }
    scalar.text = scalar_text(walk, &status, value);
    if (status == VOCO_OK) {
        scalar.name = keep_text(walk, &status, walk->name, walk->length);
    }
    if (status != VOCO_OK) {
        free((char *)scalar.text);
        return status;
    }
    file->scalars[file->scalar_count++] = scalar;
    return VOCO_OK;
}

/* Appends a part to the name, after a point where it is not the first (`depth` 0). */
static enum voco_status lengthen_name(struct walk *walk, int depth, const char *part, size_t length)
{
    const size_t point = depth > 0 ? 1 : 0;
    if (length > (size_t)pt_max_name - walk->length || walk->length + point + length > pt_max_name) {
        return fail(VOCO_BAD_INPUT, "%s: \"%.200s\": a name of more than %d bytes", walk->file->path,
                    walk->name, (int)pt_max_name);
    }
    if (memchr(part, '\0', length) != NULL) {
        return refuse(walk, "a key with a NUL character");
    }
    memcpy(walk->name + walk->length, ".", point);
    memcpy(walk->name + walk->length + point, part, length);
    walk->length += point + length;
    walk->name[walk->length] = '\0';
    return VOCO_OK;
}

static enum voco_status lengthen_by_key(struct walk *walk, int depth, const struct pickle_value *key)
{
    char digits[32];
    if (key->kind == PICKLE_TEXT) {
        return lengthen_name(walk, depth, key->text, key->number_of);
    }
    if (key->kind == PICKLE_INTEGER) {
        const int length = snprintf(digits, sizeof digits, "%" PRId64, key->integer);
        return lengthen_name(walk, depth, digits, (size_t)length);
    }
    return refuse(walk, "a dict with a key that is neither a text nor an integer");
}

static enum voco_status visit(struct walk *walk, int depth, const struct pickle_value *value);

/* The items of a list, tuple or dict, `depth` of which it lies in. */
static enum voco_status visit_items(struct walk *walk, int depth, const struct pickle_value *value)
{
    if (depth == pt_max_depth) {
        return fail(VOCO_BAD_INPUT, "%s: \"%.200s\": nested more than %d deep", walk->file->path, walk->name,
                    (int)pt_max_depth);
    }
    const struct pickle_container *container = &walk->pickle->containers[value->number_of];
    const size_t length = walk->length;
    const uint32_t stride = value->kind == PICKLE_DICT ? 2 : 1;
    enum voco_status status = VOCO_OK;
    for (uint32_t i = 0; status == VOCO_OK && i < container->count; i += stride) {
        const struct pickle_value index = {PICKLE_INTEGER, 0, {.integer = i}};
        const struct pickle_value *key = stride == 2 ? &container->items[i] : &index;
        status = lengthen_by_key(walk, depth, key);
        if (status == VOCO_OK) {
            status = visit(walk, depth + 1, &container->items[i + stride - 1]);
        }
        walk->length = length;
        walk->name[length] = '\0';
    }
    return status;
}

/* Recursion ends at pt_max_depth; each call counts, so that a list which holds another one many times, which
 * does the same, is not a long way to walk, and does not become many values from few bytes. */
static enum voco_status visit(struct walk *walk, int depth, const struct pickle_value *value)
{
    if (++walk->visited > walk->most_values) {
        return fail(VOCO_BAD_INPUT, "%s: it has more than %zu values", walk->file->path, walk->most_values);
    }
    switch (value->kind) {
    case PICKLE_NONE:
        return add_scalar(walk, value, STORED_NONE);
    case PICKLE_BOOL:
        return add_scalar(walk, value, STORED_BOOL);
    case PICKLE_INTEGER:
        return add_scalar(walk, value, STORED_INTEGER);
    case PICKLE_NUMBER:
        return add_scalar(walk, value, STORED_NUMBER);
    case PICKLE_TEXT:
    case PICKLE_DTYPE:
        return add_scalar(walk, value, STORED_TEXT);
    case PICKLE_TENSOR:
        return add_tensor(walk, value);
    case PICKLE_TUPLE:
    case PICKLE_LIST:
    case PICKLE_DICT:
        return visit_items(walk, depth, value);
    case PICKLE_NOTHING:
    case PICKLE_STORAGE:
    case PICKLE_FUNCTION:
    case PICKLE_STORAGE_TYPE:
        break;
    }
    return refuse(walk, "a storage or a type by itself, which is not part of a checkpoint of tensors");
}

enum voco_status pt_flatten(struct pt *file, uint32_t **sources, const struct pickle *pickle)
{
    const size_t values = free_values + values_per_byte * pickle->size;
    const size_t text = free_names + names_per_byte * pickle->size;
    struct walk walk = {.file = file,
                        .pickle = pickle,
                        .most_values = values < pt_max_values ? values : pt_max_values,
                        .most_text = text < pt_max_names ? text : pt_max_names};
    const enum voco_status status = visit(&walk, 0, &pickle->root);
    if (status != VOCO_OK) {
        free(walk.sources);
        walk.sources = NULL;
    }
    *sources = walk.sources;
    return status;
}
