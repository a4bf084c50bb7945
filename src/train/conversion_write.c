/* Writing what a conversion has planned. */
#include "base/error.h"
#include "model/input_channels.h"
#include "model/patch_merging_order.h"
#include "train/conversion_plan.h"
#include "train/recipe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- metadata ---- */

struct metadata {
    struct stored_scalar *entries; /* (count) texts */
    size_t count;
    char *config;        /* the recipe with the new order, where it changed */
    char numbers[8][32]; /* the texts of added numbers */
    size_t number_count;
};

static void add_text(struct metadata *metadata, const char *key, const char *text)
{
    metadata->entries[metadata->count++] =
        (struct stored_scalar){.name = key, .kind = STORED_TEXT, .text = text};
}

static void add_number(struct metadata *metadata, const char *key, int number)
{
    char *text = metadata->numbers[metadata->number_count++];
    (void)snprintf(text, sizeof metadata->numbers[0], "%d", number);
    add_text(metadata, key, text);
}

/* The recipe of a checkpoint, with the order that its weights are given. */
static enum voco_status rewrite_recipe(struct metadata *metadata, const struct conversion *conversion)
{
    char room[stored_network_text_size];
    const char *text = stored_network_metadata(&conversion->from, "config", room);
    if (text == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: its metadata lacks config", conversion->from.path);
    }
    struct recipe recipe;
    const enum voco_status status = recipe_from_text(&recipe, text, conversion->from.path);
    if (status != VOCO_OK) {
        return status;
    }
    recipe.model.patch_merging = conversion->to_order;
    metadata->config = recipe_to_text(&recipe);
    return metadata->config != NULL ? VOCO_OK
                                    : fail(VOCO_NO_MEMORY, "%s: out of memory", conversion->from.path);
}

/* A checkpoint's own metadata, entry by entry; numbers of a .pt become texts, which `rooms` hold. */
static enum voco_status keep_metadata(struct metadata *metadata, const struct conversion *conversion,
                                      char (*rooms)[stored_network_text_size])
{
    const struct tensor_file *file = &conversion->from.file;
    const size_t skip = file->format == TENSOR_FILE_PT ? strlen("voco.") : 0;
    const int reordered = conversion->change != ORDER_KEPT;
    enum voco_status status = reordered ? rewrite_recipe(metadata, conversion) : VOCO_OK;
    for (size_t i = 0; status == VOCO_OK && i < file->scalar_count; i++) {
        const char *name = file->scalars[i].name;
        if (skip > 0 && strncmp(name, "voco.", skip) != 0) {
            continue;
        }
        const char *key = name + skip;
        const char *text = stored_network_metadata(&conversion->from, key, rooms[i]);
        if (reordered && strcmp(key, "config") == 0) {
            text = metadata->config;
        } else if (reordered && strcmp(key, "patch_merging") == 0) {
            text = patch_merging_name(conversion->to_order);
        }
        if (text != NULL) {
            add_text(metadata, key, text);
        }
    }
    return status;
}

static void describe_weights(struct metadata *metadata, const struct conversion *conversion,
                             char room[stored_network_text_size])
{
    const struct model_config *config = &conversion->from.config;
    add_text(metadata, "format", "pt");
    add_text(metadata, "voco", VOCO_VERSION);
    add_number(metadata, "feature_size", config->feature_size);
    add_number(metadata, "roi", config->roi);
    if (conversion->names == NAMES_VOCO && config->projector > 0) {
        add_number(metadata, "projector", config->projector);
    }
    add_text(metadata, "patch_merging", patch_merging_name(conversion->to_order));
    if (conversion->in_channels != 1) {
        add_number(metadata, "in_channels", conversion->in_channels);
    }
    const char *step = stored_network_metadata(&conversion->from, "step", room);
    if (step != NULL) {
        add_text(metadata, "step", step);
    }
}

/* ---- values ---- */

static enum voco_status read_repeated(float *out, const struct conversion *conversion,
                                      const struct converted_tensor *tensor)
{
    const struct stored_tensor *source = tensor->source;
    float *values = malloc(source->count * sizeof *values);
    enum voco_status status = values == NULL
                                  ? fail(VOCO_NO_MEMORY, "%s: out of memory", conversion->from.path)
                                  : tensor_file_read_floats(&conversion->from.file, source, values);
    if (status == VOCO_OK) {
        const size_t outputs = (size_t)source->shape[0];
        repeat_input_channel(out, values, outputs, source->count / outputs, conversion->in_channels);
    }
    free(values);
    return status;
}

static enum voco_status make_values(void *out, const struct conversion *conversion,
                                    const struct converted_tensor *tensor)
{
    const struct stored_tensor *source = tensor->source;
    enum voco_status status = VOCO_OK;
    switch (tensor->change) {
    case TENSOR_POSITION_INDEX:
        model_relative_position_index(out);
        return VOCO_OK;
    case TENSOR_REPEATED:
        return read_repeated(out, conversion, tensor);
    case TENSOR_ZEROED:
        memset(out, 0, source->bytes);
        return VOCO_OK;
    case TENSOR_COPIED:
        return tensor_file_read(&conversion->from.file, source, out);
    case TENSOR_PERMUTED:
        status = tensor_file_read(&conversion->from.file, source, out);
        break;
    }
    if (status == VOCO_OK) {
        const size_t row = (size_t)source->shape[source->rank - 1];
        patch_merging_permute(out, source->count / row, row / 8, safetensors_type_size(source->type),
                              conversion->from_order, conversion->to_order);
    }
    return status;
}

static size_t bytes_of(const struct converted_tensor *tensor)
{
    size_t bytes = safetensors_type_size(tensor->type);
    for (int axis = 0; axis < tensor->rank; axis++) {
        bytes *= (size_t)tensor->shape[axis];
    }
    return bytes;
}

/* Hands a tensor to one of the writers; there is one tensor in memory. */
static enum voco_status put_tensor(const struct conversion *conversion, const struct converted_tensor *tensor,
                                   struct safetensors_writer *safetensors, struct pt_writer *pt)
{
    void *values = malloc(bytes_of(tensor));
    enum voco_status status =
        values == NULL ? fail(VOCO_NO_MEMORY, "%s: no memory for \"%s\"", conversion->from.path, tensor->name)
                       : make_values(values, conversion, tensor);
    if (status == VOCO_OK) {
        status = pt != NULL ? pt_writer_put(pt, values) : safetensors_writer_put(safetensors, values);
    }
    free(values);
    return status;
}

/* ---- safetensors ---- */

/* Larger types come first, so that every element is aligned. */
static const size_t sizes[] = {8, 4, 2};
enum { size_count = sizeof sizes / sizeof sizes[0] };

static enum voco_status declare_in_safetensors(struct safetensors_writer *writer,
                                               const struct converted_tensor *tensor)
{
    char name[parameter_name_size + 32];
    (void)snprintf(name, sizeof name, "%s%s%s%s", tensor->moment < 0 ? "" : "optimizer.",
                   tensor->moment < 0 ? "" : moment_names[tensor->moment], tensor->moment < 0 ? "" : ".",
                   tensor->name);
    return safetensors_writer_declare(writer, name, tensor->type, tensor->rank, tensor->shape);
}

static enum voco_status write_safetensors(const struct conversion *conversion, const char *path,
                                          const struct metadata *metadata)
{
    struct safetensors_writer *writer = NULL;
    enum voco_status status = safetensors_writer_open(&writer, path);
    for (size_t i = 0; status == VOCO_OK && i < metadata->count; i++) {
        status = safetensors_writer_metadata(writer, metadata->entries[i].name, metadata->entries[i].text);
    }
    for (int declared = 0; declared <= 1; declared++) {
        for (int s = 0; s < size_count; s++) {
            for (size_t i = 0; status == VOCO_OK && i < conversion->count; i++) {
                const struct converted_tensor *tensor = &conversion->tensors[i];
                if (safetensors_type_size(tensor->type) != sizes[s]) {
                    continue;
                }
                status = declared ? put_tensor(conversion, tensor, writer, NULL)
                                  : declare_in_safetensors(writer, tensor);
            }
        }
    }
    if (status != VOCO_OK) {
        safetensors_writer_discard(writer);
        return status;
    }
    return safetensors_writer_commit(writer);
}

/* ---- .pt ---- */

/* Whole numbers of the metadata are int in Python, where their text is the one that comes back. */
static struct stored_scalar scalar_of(const struct stored_scalar *entry)
{
    static const char *const numbers[] = {"feature_size",   "roi",  "projector",  "step",
                                          "optimizer_step", "seed", "in_channels"};
    struct stored_scalar scalar = *entry;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(entry->name, numbers[i]) == 0) {
            char again[32];
            errno = 0;
            scalar.integer = strtoll(entry->text, NULL, 10);
            (void)snprintf(again, sizeof again, "%lld", (long long)scalar.integer);
            if (errno == 0 && strcmp(again, entry->text) == 0) {
                scalar.kind = STORED_INTEGER;
                scalar.text = NULL;
            }
        }
    }
    return scalar;
}

/* The tensors of one dict: of the state dict (-1) or of a moment. */
static void declare_in_pt(struct pt_writer *writer, const struct conversion *conversion, int moment)
{
    for (size_t i = 0; i < conversion->count; i++) {
        const struct converted_tensor *tensor = &conversion->tensors[i];
        if (tensor->moment == moment) {
            (void)pt_writer_declare(writer, tensor->name, tensor->type, tensor->rank, tensor->shape);
        }
    }
}

/* The writer remembers the first failure, so it is looked at once, at commit. */
static void declare_dicts(struct pt_writer *writer, const struct conversion *conversion,
                          const struct metadata *metadata)
{
    (void)pt_writer_begin(writer, "state_dict", PT_ORDERED_DICT);
    declare_in_pt(writer, conversion, -1);
    (void)pt_writer_end(writer);
    if (conversion->resumes) {
        (void)pt_writer_begin(writer, "optimizer", PT_DICT);
        for (int moment = 0; moment < moment_count; moment++) {
            (void)pt_writer_begin(writer, moment_names[moment], PT_DICT);
            declare_in_pt(writer, conversion, moment);
            (void)pt_writer_end(writer);
        }
        (void)pt_writer_end(writer);
    }
    (void)pt_writer_begin(writer, "voco", PT_DICT);
    for (size_t i = 0; i < metadata->count; i++) {
        const struct stored_scalar scalar = scalar_of(&metadata->entries[i]);
        (void)pt_writer_scalar(writer, &scalar);
    }
    (void)pt_writer_end(writer);
}

static enum voco_status write_pt(const struct conversion *conversion, const char *path,
                                 const struct metadata *metadata)
{
    struct pt_writer *writer = NULL;
    enum voco_status status = pt_writer_open(&writer, path, PT_DICT);
    if (status != VOCO_OK) {
        return status;
    }
    declare_dicts(writer, conversion, metadata);
    for (size_t i = 0; status == VOCO_OK && i < conversion->count; i++) {
        status = put_tensor(conversion, &conversion->tensors[i], NULL, writer);
    }
    if (status != VOCO_OK) {
        pt_writer_discard(writer);
        return status;
    }
    return pt_writer_commit(writer);
}

enum voco_status conversion_write(const struct conversion *conversion, const char *path,
                                  enum tensor_file_format format)
{
    const size_t scalars = conversion->from.file.scalar_count;
    struct metadata metadata = {.entries = calloc(scalars + 16, sizeof *metadata.entries)};
    char(*rooms)[stored_network_text_size] = calloc(scalars + 1, sizeof *rooms);
    enum voco_status status = VOCO_OK;
    if (metadata.entries == NULL || rooms == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    } else if (conversion->resumes) {
        status = keep_metadata(&metadata, conversion, rooms);
    } else {
        describe_weights(&metadata, conversion, rooms[0]);
    }
    if (status == VOCO_OK) {
        status = format == TENSOR_FILE_PT ? write_pt(conversion, path, &metadata)
                                          : write_safetensors(conversion, path, &metadata);
    }
    free(metadata.config);
    free(metadata.entries);
    free(rooms);
    return status;
}
