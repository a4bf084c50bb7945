#include "info_kinds.h"

#include "base/error.h"
#include "train/checkpoint.h"

#include <stdio.h>
#include <string.h>

static json_t *tensor_list(const struct tensor_file *file)
{
    json_t *list = json_array();
    for (size_t i = 0; i < file->count; i++) {
        const struct stored_tensor *tensor = &file->tensors[i];
        json_t *shape = json_array();
        for (int axis = 0; axis < tensor->rank; axis++) {
            (void)json_array_append_new(shape, json_integer(tensor->shape[axis]));
        }
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", tensor->name, "dtype",
                                                    safetensors_type_name(tensor->type), "shape", shape));
    }
    return list;
}

static json_t *format_name(const struct tensor_file *file)
{
    return json_string(file->format == TENSOR_FILE_PT ? "PyTorch .pt" : "safetensors");
}

/* ---- a network ---- */

static long long elements_of(const struct stored_network *stored, enum parameter_group group)
{
    long long elements = 0;
    for (int i = 0; i < stored->table.count; i++) {
        const int is_there = stored->table.entries[i].group == group && stored->parameters[i] != NULL;
        elements += is_there ? (long long)stored->parameters[i]->count : 0;
    }
    return elements;
}

static void add_model(json_t *report, const struct stored_network *stored)
{
    const struct model_config *config = &stored->config;
    json_t *model = json_pack("{s:i, s:i}", "feature_size", config->feature_size, "roi", config->roi);
    if (config->projector > 0) {
        add(model, "projector", json_integer(config->projector));
    }
    if (stored->in_channels != 1) {
        add(model, "in_channels", json_integer(stored->in_channels));
    }
    add(model, "patch_merging",
        json_sprintf("%s%s", patch_merging_name(config->patch_merging),
                     stored->says_patch_merging ? "" : ", as the file does not say another"));
    add(report, "model", model);
}

static void add_groups(json_t *report, const struct stored_network *stored)
{
    static const char *const keys[] = {
        [GROUP_BACKBONE] = "backbone", [GROUP_STUDENT] = "student", [GROUP_TEACHER] = "teacher"};
    json_t *parameters = json_object(), *missing = json_object();
    const int last = stored->config.projector > 0 ? GROUP_TEACHER : GROUP_BACKBONE;
    for (int group = GROUP_BACKBONE; group <= last; group++) {
        const int lacks = stored_network_missing(stored, (enum parameter_group)group);
        add(parameters, keys[group], json_integer(elements_of(stored, (enum parameter_group)group)));
        if (lacks > 0) {
            add(missing, keys[group], json_integer(lacks));
        }
    }
    add(report, "parameters", parameters);
    if (json_object_size(missing) > 0) {
        add(report, "tensors_missing", missing);
    } else {
        json_decref(missing);
    }
    if (stored->unexpected_count > 0) {
        add(report, "tensors_of_others", json_integer((json_int_t)stored->unexpected_count));
    }
}

/* What a checkpoint of voco says beside its weights. */
static enum voco_status add_progress(json_t *report, const char *path)
{
    struct checkpoint checkpoint;
    const enum voco_status status = checkpoint_open(&checkpoint, path);
    if (status == VOCO_OK) {
        add(report, "steps_done", json_integer(checkpoint.step));
        add(report, "updates", json_integer(checkpoint.optimizer_step));
        add(report, "written_by", json_sprintf("voco %s", checkpoint.version));
        add(report, "recipe", recipe_to_json(&checkpoint.recipe));
        checkpoint_close(&checkpoint);
    }
    return status;
}

static enum voco_status describe_network(json_t *report, const struct stored_network *stored)
{
    const char *kind = stored->config.projector > 0 ? "weights" : "encoder";
    add(report, "kind", json_string(stored->is_checkpoint ? "checkpoint" : kind));
    add(report, "format", format_name(&stored->file));
    add(report, "bytes", json_integer((json_int_t)stored->file.size));
    add(report, "names",
        json_sprintf("%s%s%s", name_space_name(stored->space), stored->prefix[0] != '\0' ? ", behind " : "",
                     stored->prefix));
    add_model(report, stored);
    add_groups(report, stored);
    return stored->is_checkpoint ? add_progress(report, stored->path) : VOCO_OK;
}

/* ---- any other tensors ---- */

static json_t *scalar_value(const struct stored_scalar *scalar)
{
    switch (scalar->kind) {
    case STORED_BOOL:
        return json_boolean(scalar->integer);
    case STORED_INTEGER:
        return json_integer(scalar->integer);
    case STORED_NUMBER:
        return json_real(scalar->number);
    case STORED_TEXT:
        return json_string(scalar->text);
    default:
        return json_null();
    }
}

/* What the metadata calls the file's format, if that is one of voco's own: "voco-checkpoint-1", say. */
static const char *own_format(const struct tensor_file *file)
{
    const char *name = file->format == TENSOR_FILE_PT ? "voco.format" : "format";
    const struct stored_scalar *format = tensor_file_find_scalar(file, name);
    return format != NULL && format->kind == STORED_TEXT && strncmp(format->text, "voco-", 5) == 0
               ? format->text
               : "";
}

static int begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

static void describe_tensors(json_t *report, const struct tensor_file *file, const char *no_network)
{
    long long elements = 0;
    json_t *values = json_object();
    for (size_t i = 0; i < file->count; i++) {
        elements += (long long)file->tensors[i].count;
    }
    for (size_t i = 0; i < file->scalar_count; i++) {
        add(values, file->scalars[i].name, scalar_value(&file->scalars[i]));
    }
    const char *own = own_format(file);
    add(report, "kind", json_string(begins_with(own, "voco-embeddings-") ? "embeddings" : "tensors"));
    add(report, "format", format_name(file));
    add(report, "bytes", json_integer((json_int_t)file->size));
    add(report, "elements", json_integer(elements));
    if (own[0] == '\0') {
        add(report, "no_encoder", json_string(no_network));
    }
    add(report, "metadata", values);
    add(report, "tensors", tensor_list(file));
}

/* The thread's message without the file's name, which the report has already. */
static const char *reason(const char *path)
{
    const char *message = voco_error_message();
    const size_t length = strlen(path);
    return strncmp(message, path, length) == 0 && strncmp(message + length, ": ", 2) == 0
               ? message + length + 2
               : message;
}

/* A file that holds no network, which `no_network` says; `status` is what it was refused with. */
static enum voco_status describe_other(json_t *report, const char *path, enum voco_status status,
                                       const char *no_network)
{
    struct tensor_file file;
    const enum voco_status opened = tensor_file_open(&file, path);
    if (opened != VOCO_OK) {
        return opened;
    }
    if (begins_with(own_format(&file), "voco-checkpoint-")) {
        status = fail(status, "%s: %s", path, no_network);
    } else {
        describe_tensors(report, &file, no_network);
        status = VOCO_OK;
    }
    tensor_file_close(&file);
    return status;
}

enum voco_status describe_tensor_file(json_t *report, const struct info_request *request)
{
    struct stored_network stored;
    enum voco_status status = stored_network_open(&stored, request->path, NULL);
    if (status == VOCO_IO || status == VOCO_NO_MEMORY) {
        return status;
    }
    if (status != VOCO_OK) {
        char no_network[1024];
        (void)snprintf(no_network, sizeof no_network, "%s", reason(request->path));
        return describe_other(report, request->path, status, no_network);
    }
    status = describe_network(report, &stored);
    if (request->all_tensors) {
        add(report, "tensors", tensor_list(&stored.file));
    }
    stored_network_close(&stored);
    return status;
}
