#include "train/stored_network.h"

#include "base/error.h"
#include "model/input_channels.h"
#include "model/patch_merging_order.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char checkpoint_format[] = "voco-checkpoint-1";

enum { published_roi = 64 };

/* ---- which tensors ---- */

/* A set of encoder tensors with one prefix and name space. */
struct candidate {
    const char *name; /* of one of its tensors */
    size_t wrapper;
    enum name_space space;
    int count;
};

enum { most_candidates = 16 };

struct search {
    struct name_index index;
    struct known_name *known; /* (file.count); parameter -1: none of the network's */
    struct candidate candidates[most_candidates];
    int count;
};

static int same_prefix(const char *a, size_t a_length, const char *b, size_t b_length)
{
    return a_length == b_length && strncmp(a, b, a_length) == 0;
}

static void count_candidate(struct search *search, const char *name, const struct known_name *known)
{
    for (int i = 0; i < search->count; i++) {
        struct candidate *c = &search->candidates[i];
        if (c->space == known->space && same_prefix(c->name, c->wrapper, name, known->wrapper)) {
            c->count++;
            return;
        }
    }
    if (search->count < most_candidates) {
        search->candidates[search->count++] = (struct candidate){name, known->wrapper, known->space, 1};
    }
}

static void recognise_all(struct search *search, const struct stored_network *stored, const char *prefix)
{
    for (size_t i = 0; i < stored->file.count; i++) {
        const char *name = stored->file.tensors[i].name;
        struct known_name *known = &search->known[i];
        if (!recognise_name(known, &search->index, name)) {
            known->parameter = -1;
        } else if (search->index.table->entries[known->parameter].group == GROUP_BACKBONE &&
                   !known->is_buffer && known->moment < 0 &&
                   (prefix == NULL || same_prefix(name, known->wrapper, prefix, strlen(prefix)))) {
            count_candidate(search, name, known);
        }
    }
}

/* "prefix" (space, tensors) of every candidate. */
static void list_candidates(char *text, size_t size, const struct search *search)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < search->count && used < size; i++) {
        const struct candidate *c = &search->candidates[i];
        used += (size_t)snprintf(text + used, size - used, "%s\"%.*s\" (%s names, %d tensors)",
                                 i == 0 ? "" : ", ", (int)c->wrapper, c->name, name_space_name(c->space),
                                 c->count);
    }
}

static enum voco_status choose(struct stored_network *stored, const struct search *search, const char *prefix)
{
    const struct candidate *c = &search->candidates[0];
    if (search->count == 0) {
        return prefix != NULL && prefix[0] != '\0'
                   ? fail(VOCO_BAD_INPUT, "%s: holds no encoder behind the prefix \"%s\"", stored->path,
                          prefix)
                   : fail(VOCO_BAD_INPUT,
                          "%s: none of its %zu tensors has a name of the encoder "
                          "(such as backbone.swinViT.patch_embed.proj.weight)",
                          stored->path, stored->file.count);
    }
    if (search->count > 1) {
        char list[1024];
        list_candidates(list, sizeof list, search);
        return fail(VOCO_BAD_INPUT, "%s: holds several encoders, behind %s; --prefix says which to take",
                    stored->path, list);
    }
    if (c->wrapper >= sizeof stored->prefix) {
        return fail(VOCO_BAD_INPUT, "%s: what stands before the encoder's names is too long", stored->path);
    }
    (void)snprintf(stored->prefix, sizeof stored->prefix, "%.*s", (int)c->wrapper, c->name);
    if (prefix == NULL && !is_known_wrapper(c->name, c->wrapper)) {
        return fail(VOCO_BAD_INPUT,
                    "%s: its encoder's names begin with \"%s\", which may mean anything; --prefix %s takes "
                    "them",
                    stored->path, stored->prefix, stored->prefix);
    }
    stored->space = c->space;
    return VOCO_OK;
}

/* Depths, heads or blocks that this network does not have. */
static int is_within_transformer(const struct stored_network *stored, const char *name)
{
    static const char *const begins[] = {
        [NAMES_VOCO] = "backbone.swinViT.layers", [NAMES_MONAI] = "swinViT.layers", [NAMES_SWIN] = "layers"};
    const size_t length = strlen(stored->prefix);
    return strncmp(name, stored->prefix, length) == 0 &&
           strncmp(name + length, begins[stored->space], strlen(begins[stored->space])) == 0;
}

static enum voco_status check_position_index(const struct stored_network *stored,
                                             const struct stored_tensor *tensor)
{
    const size_t count = (size_t)relative_position_tokens * relative_position_tokens;
    if (tensor->type != SAFETENSORS_I64 || tensor->count != count) {
        return fail(VOCO_BAD_INPUT, "%s: \"%s\" is not the 343 x 343 int64 index of a window of 7^3",
                    stored->path, tensor->name);
    }
    int64_t *values = malloc(2 * count * sizeof *values);
    if (values == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", stored->path);
    }
    enum voco_status status = tensor_file_read(&stored->file, tensor, values);
    model_relative_position_index(values + count);
    if (status == VOCO_OK && memcmp(values, values + count, count * sizeof *values) != 0) {
        status = fail(VOCO_BAD_INPUT, "%s: \"%s\" is not the index of a window of 7^3", stored->path,
                      tensor->name);
    }
    free(values);
    return status;
}

static enum voco_status place(struct stored_network *stored, const struct stored_tensor *tensor,
                              const struct known_name *known)
{
    const int belongs =
        known->parameter >= 0 && (known->moment >= 0 ? known->wrapper == 0 && stored->is_checkpoint
                                                     : same_prefix(tensor->name, known->wrapper,
                                                                   stored->prefix, strlen(stored->prefix)));
    if (!belongs) {
        if (is_within_transformer(stored, tensor->name)) {
            return fail(VOCO_BAD_INPUT, "%s: \"%s\" belongs to a Swin transformer of another form",
                        stored->path, tensor->name);
        }
        stored->unexpected[stored->unexpected_count++] = tensor;
        return VOCO_OK;
    }
    if (known->is_buffer) {
        return known->moment < 0 ? check_position_index(stored, tensor) : VOCO_OK;
    }
    const struct stored_tensor **to = known->moment < 0 ? stored->parameters : stored->moments[known->moment];
    if (to[known->parameter] != NULL) {
        return fail(VOCO_BAD_INPUT, "%s: \"%s\" and \"%s\" are the same parameter", stored->path,
                    to[known->parameter]->name, tensor->name);
    }
    to[known->parameter] = tensor;
    return VOCO_OK;
}

/* 0 without memory. */
static int make_lists(struct stored_network *stored, struct search *search)
{
    const size_t count = (size_t)stored->table.count;
    int complete = 1;
    stored->parameters = calloc(count, sizeof(void *));
    stored->unexpected = calloc(stored->file.count + 1, sizeof(void *));
    search->known = calloc(stored->file.count + 1, sizeof *search->known);
    for (int moment = 0; moment < moment_count; moment++) {
        stored->moments[moment] = calloc(count, sizeof(void *));
        complete = complete && stored->moments[moment] != NULL;
    }
    return complete && stored->parameters != NULL && stored->unexpected != NULL && search->known != NULL;
}

static enum voco_status find_tensors(struct stored_network *stored, const char *prefix)
{
    struct search search = {0};
    enum voco_status status = name_index_create(&search.index, &stored->table);
    if (status == VOCO_OK && make_lists(stored, &search)) {
        recognise_all(&search, stored, prefix);
        status = choose(stored, &search, prefix);
        for (size_t i = 0; status == VOCO_OK && i < stored->file.count; i++) {
            status = place(stored, &stored->file.tensors[i], &search.known[i]);
        }
    } else if (status == VOCO_OK) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", stored->path);
    }
    free(search.known);
    name_index_free(&search.index);
    return status;
}

/* ---- which sizes ---- */

const char *stored_network_metadata(const struct stored_network *stored, const char *key,
                                    char text[stored_network_text_size])
{
    char name[stored_network_text_size];
    (void)snprintf(name, sizeof name, "%s%s", stored->file.format == TENSOR_FILE_PT ? "voco." : "", key);
    const struct stored_scalar *scalar = tensor_file_find_scalar(&stored->file, name);
    if (scalar == NULL) {
        return NULL;
    }
    if (scalar->kind == STORED_INTEGER) {
        (void)snprintf(text, stored_network_text_size, "%lld", (long long)scalar->integer);
        return text;
    }
    return scalar->kind == STORED_TEXT ? scalar->text : NULL;
}

static const struct stored_tensor *found(const struct stored_network *stored, const char *own)
{
    const struct parameter *parameter = parameter_find(&stored->table, own);
    return stored->parameters[parameter - stored->table.entries];
}

static int axis_of(const struct stored_tensor *tensor, int rank, int axis)
{
    return tensor != NULL && tensor->rank == rank && tensor->shape[axis] <= INT_MAX ? (int)tensor->shape[axis]
                                                                                    : 0;
}

static enum voco_status read_number(int *number, const struct stored_network *stored, const char *key)
{
    char room[stored_network_text_size];
    const char *text = stored_network_metadata(stored, key, room);
    char *end = NULL;
    const long value = text == NULL ? *number : strtol(text, &end, 10);
    if (text != NULL && (end == text || *end != '\0' || value < 0 || value > 1 << 20)) {
        return fail(VOCO_BAD_INPUT, "%s: its metadata has %s \"%s\"", stored->path, key, text);
    }
    *number = (int)value;
    return VOCO_OK;
}

/* What a shape says must be what the metadata says. */
static enum voco_status compare_number(const struct stored_network *stored, const char *key, int of_shapes)
{
    int said = of_shapes;
    const enum voco_status status = read_number(&said, stored, key);
    if (status == VOCO_OK && said != of_shapes) {
        return fail(VOCO_BAD_INPUT, "%s: its metadata has %s %d, its tensors %d", stored->path, key, said,
                    of_shapes);
    }
    return status;
}

static enum voco_status find_sizes(struct stored_network *stored)
{
    const struct stored_tensor *embed = found(stored, "backbone.swinViT.patch_embed.proj.weight");
    const struct stored_tensor *bias = found(stored, "backbone.swinViT.patch_embed.proj.bias");
    struct model_config *config = &stored->config;
    config->feature_size = embed != NULL ? axis_of(embed, 5, 0) : axis_of(bias, 1, 0);
    stored->in_channels = embed != NULL ? axis_of(embed, 5, 1) : 1;
    config->roi = published_roi;
    const struct stored_tensor *student = found(stored, "student.layer3.0.bias");
    const struct stored_tensor *teacher = found(stored, "teacher.layer3.0.bias");
    config->projector = axis_of(student != NULL ? student : teacher, 1, 0);
    if (config->feature_size == 0 || stored->in_channels < 1 || stored->in_channels > most_input_channels) {
        return fail(VOCO_BAD_INPUT,
                    "%s: its patch embedding, which gives the network's size, is missing or of a wrong shape",
                    stored->path);
    }
    enum voco_status status = compare_number(stored, "feature_size", config->feature_size);
    if (status == VOCO_OK && config->projector > 0) {
        status = compare_number(stored, "projector", config->projector);
    }
    if (status == VOCO_OK) {
        status = read_number(&config->roi, stored, "roi");
    }
    char room[stored_network_text_size];
    const char *merging = stored_network_metadata(stored, "patch_merging", room);
    stored->says_patch_merging = merging != NULL;
    if (status == VOCO_OK && merging != NULL) {
        status = patch_merging_from_name(&config->patch_merging, merging);
        status = status == VOCO_OK ? VOCO_OK : add_context(status, "%s", stored->path);
    }
    return status;
}

static enum voco_status check_tensor(const struct stored_network *stored, const struct parameter *parameter,
                                     const struct stored_tensor *tensor)
{
    int64_t shape[parameter_max_rank];
    memcpy(shape, parameter->shape, sizeof shape);
    if (reads_the_image(parameter)) {
        shape[1] = stored->in_channels;
    }
    if (tensor->rank != parameter->rank ||
        memcmp(shape, tensor->shape, (size_t)parameter->rank * sizeof *shape) != 0) {
        char is[96];
        char must_be[96];
        return fail(VOCO_BAD_INPUT, "%s: \"%s\" is %s; in a network of feature size %d it is %s",
                    stored->path, tensor->name,
                    safetensors_shape_text(is, sizeof is, tensor->rank, tensor->shape),
                    stored->config.feature_size,
                    safetensors_shape_text(must_be, sizeof must_be, parameter->rank, shape));
    }
    if (tensor->type != SAFETENSORS_F32 && tensor->type != SAFETENSORS_F64 &&
        tensor->type != SAFETENSORS_F16 && tensor->type != SAFETENSORS_BF16) {
        return fail(VOCO_UNSUPPORTED, "%s: \"%s\" is of type %s", stored->path, tensor->name,
                    safetensors_type_name(tensor->type));
    }
    return VOCO_OK;
}

/* The table of the sizes found, and every tensor's shape against it. */
static enum voco_status check_shapes(struct stored_network *stored)
{
    struct model_config config = stored->config;
    config.projector = config.projector > 0 ? config.projector : 1;
    parameter_table_free(&stored->table);
    enum voco_status status = parameter_table_create(&stored->table, &config);
    if (status != VOCO_OK) {
        return add_context(status, "%s", stored->path);
    }
    for (int i = 0; status == VOCO_OK && i < stored->table.count; i++) {
        const struct parameter *parameter = &stored->table.entries[i];
        if (stored->parameters[i] != NULL) {
            status = check_tensor(stored, parameter, stored->parameters[i]);
        }
        for (int moment = 0; status == VOCO_OK && moment < moment_count; moment++) {
            if (stored->moments[moment][i] != NULL) {
                status = check_tensor(stored, parameter, stored->moments[moment][i]);
            }
        }
    }
    return status;
}

/* ---- the calls ---- */

enum voco_status stored_network_open(struct stored_network *stored, const char *path, const char *prefix)
{
    /* Names are the same for every size, so that any table finds them. */
    static const struct model_config any_size = {.feature_size = 3, .roi = 48, .projector = 1};
    *stored = (struct stored_network){.path = strdup(path)};
    if (stored->path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = tensor_file_open(&stored->file, path);
    if (status == VOCO_OK) {
        status = parameter_table_create(&stored->table, &any_size);
    }
    if (status == VOCO_OK) {
        char room[stored_network_text_size];
        const char *format = stored_network_metadata(stored, "format", room);
        stored->is_checkpoint = format != NULL && strcmp(format, checkpoint_format) == 0;
        if (format != NULL && !stored->is_checkpoint && strncmp(format, "voco-checkpoint-", 16) == 0) {
            status = fail(VOCO_UNSUPPORTED, "%s: its format is %s, this voco reads %s", path, format,
                          checkpoint_format);
        }
    }
    if (status == VOCO_OK) {
        status = find_tensors(stored, prefix);
    }
    if (status == VOCO_OK) {
        status = find_sizes(stored);
    }
    if (status == VOCO_OK) {
        status = check_shapes(stored);
    }
    if (status != VOCO_OK) {
        stored_network_close(stored);
    }
    return status;
}

void stored_network_close(struct stored_network *stored)
{
    free(stored->parameters);
    for (int moment = 0; moment < moment_count; moment++) {
        free(stored->moments[moment]);
    }
    free(stored->unexpected);
    parameter_table_free(&stored->table);
    tensor_file_close(&stored->file);
    free(stored->path);
    *stored = (struct stored_network){0};
}

int stored_network_missing(const struct stored_network *stored, enum parameter_group group)
{
    int missing = 0;
    for (int i = 0; i < stored->table.count; i++) {
        missing += stored->table.entries[i].group == group && stored->parameters[i] == NULL;
    }
    return missing;
}

enum voco_status stored_network_require(const struct stored_network *stored, enum parameter_group group)
{
    const int missing = stored_network_missing(stored, group);
    int total = 0;
    const char *first = NULL;
    for (int i = 0; i < stored->table.count; i++) {
        const struct parameter *parameter = &stored->table.entries[i];
        total += parameter->group == group;
        if (parameter->group == group && stored->parameters[i] == NULL && first == NULL) {
            first = parameter->name;
        }
    }
    return missing == 0 ? VOCO_OK
                        : fail(VOCO_BAD_INPUT, "%s: lacks %d of %d tensors, such as %s", stored->path,
                               missing, total, first);
}

int stored_network_resumes(const struct stored_network *stored)
{
    int resumes = stored->is_checkpoint && stored->in_channels == 1;
    for (int i = 0; resumes && i < stored->table.count; i++) {
        resumes = stored->parameters[i] != NULL && stored->parameters[i]->type == SAFETENSORS_F32;
        for (int moment = 0; resumes && moment < moment_count; moment++) {
            const struct stored_tensor *tensor = stored->moments[moment][i];
            resumes = stored->table.entries[i].group == GROUP_TEACHER
                          ? 1
                          : tensor != NULL && tensor->type == SAFETENSORS_F32;
        }
    }
    return resumes;
}

enum voco_status stored_network_read_floats(const struct stored_network *stored, int parameter, float *out)
{
    return tensor_file_read_floats(&stored->file, stored->parameters[parameter], out);
}

/* ---- the order of patch merging ---- */

static int merging_parameter(const struct stored_network *stored, int stage, const char *name)
{
    char own[parameter_name_size];
    (void)snprintf(own, sizeof own, "backbone.swinViT.layers%d.0.downsample.%s", stage + 1, name);
    return (int)(parameter_find(&stored->table, own) - stored->table.entries);
}

static enum voco_status merging_function_of(enum merging_function *function,
                                            const struct stored_network *stored, int stage)
{
    const int reduction = merging_parameter(stored, stage, "reduction.weight");
    const int norm = merging_parameter(stored, stage, "norm.weight");
    if (stored->parameters[reduction] == NULL || stored->parameters[norm] == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: lacks %s", stored->path,
                    stored->table.entries[stored->parameters[reduction] == NULL ? reduction : norm].name);
    }
    float *weights = malloc(stored->parameters[reduction]->count * sizeof *weights);
    float *scales = malloc(stored->parameters[norm]->count * sizeof *scales);
    enum voco_status status = weights == NULL || scales == NULL
                                  ? fail(VOCO_NO_MEMORY, "%s: out of memory", stored->path)
                                  : stored_network_read_floats(stored, reduction, weights);
    if (status == VOCO_OK) {
        status = stored_network_read_floats(stored, norm, scales);
    }
    if (status == VOCO_OK) {
        *function = patch_merging_function(weights, scales, stored->config.feature_size << stage,
                                           stored->config.patch_merging);
    }
    free(weights);
    free(scales);
    return status;
}

enum voco_status stored_network_order_change(enum order_change *change, int norms_to_zero[4],
                                             const struct stored_network *stored, enum patch_merging to)
{
    const enum patch_merging from = stored->config.patch_merging;
    memset(norms_to_zero, 0, 4 * sizeof *norms_to_zero);
    *change = from == to ? ORDER_KEPT : ORDER_PERMUTED;
    if (patch_merging_orders_permute(from, to)) {
        return VOCO_OK;
    }
    *change = ORDER_CONSTANT;
    for (int stage = 0; stage < 4; stage++) {
        enum merging_function function = MERGING_VARIES;
        const enum voco_status status = merging_function_of(&function, stored, stage);
        if (status != VOCO_OK) {
            return status;
        }
        if (function == MERGING_VARIES) {
            return fail(
                VOCO_BAD_INPUT,
                "%s: its patch merging is %s, and no weights make the same function of %s: legacy reads "
                "two of the 8 neighbours twice and two never, and its LayerNorm's mean and deviation are "
                "taken over what it reads",
                stored->path, patch_merging_name(from), patch_merging_name(to));
        }
        norms_to_zero[stage] = function == MERGING_CONSTANT;
    }
    return VOCO_OK;
}
