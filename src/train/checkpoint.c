#include "train/checkpoint.h"

#include "base/error.h"
#include "base/log.h"
#include "formats/safetensors.h"
#include "model/checkpoint_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(real) == sizeof(float), "checkpoints hold float32");

enum { tensor_name_size = parameter_name_size + 32 };

/* The buffer that belongs to a name of moment_names. */
static real *moment_of(const struct training_state *state, int moment)
{
    real *const moments[moment_count] = {state->exp_avg, state->exp_avg_sq, state->max_exp_avg_sq};
    return moments[moment];
}

static void moment_tensor_name(char name[tensor_name_size], int moment, const struct parameter *parameter)
{
    (void)snprintf(name, tensor_name_size, "optimizer.%s.%s", moment_names[moment], parameter->name);
}

/* ---- writing; the writer remembers the first failure, so it is looked at once, at commit ---- */

static void put_number(struct safetensors_writer *writer, const char *key, long long value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", value);
    (void)safetensors_writer_metadata(writer, key, text);
}

static void put_metadata(struct safetensors_writer *writer, const struct model_config *config,
                         const struct training_state *state, const struct recipe *recipe,
                         const char *recipe_text)
{
    (void)safetensors_writer_metadata(writer, "format", checkpoint_format);
    (void)safetensors_writer_metadata(writer, "voco", VOCO_VERSION);
    put_number(writer, "feature_size", config->feature_size);
    put_number(writer, "roi", config->roi);
    put_number(writer, "projector", config->projector);
    (void)safetensors_writer_metadata(writer, "patch_merging", patch_merging_name(config->patch_merging));
    put_number(writer, "step", state->step);
    put_number(writer, "optimizer_step", state->optimizer_step);
    put_number(writer, "seed", (long long)recipe->seed);
    (void)safetensors_writer_metadata(writer, "config", recipe_text);
}

/* The int64 buffers come first, as larger types must. */
static void declare_tensors(struct safetensors_writer *writer, const struct parameter_table *table)
{
    static const int64_t index_shape[] = {relative_position_tokens, relative_position_tokens};
    char name[tensor_name_size];
    for (int i = 0; i < table->count; i++) {
        if (parameter_buffer_after(name, &table->entries[i])) {
            (void)safetensors_writer_declare(writer, name, SAFETENSORS_I64, 2, index_shape);
        }
    }
    for (int moment = -1; moment < moment_count; moment++) {
        for (int i = 0; i < table->count; i++) {
            const struct parameter *p = &table->entries[i];
            if (moment >= 0 && p->group == GROUP_TEACHER) {
                continue;
            }
            if (moment >= 0) {
                moment_tensor_name(name, moment, p);
            }
            (void)safetensors_writer_declare(writer, moment < 0 ? p->name : name, SAFETENSORS_F32, p->rank,
                                             p->shape);
        }
    }
}

/* The elements of a bucket that are in a parameter, from `values` (bucket->count) to the file. */
static void put_bucket(struct safetensors_writer *writer, const struct parameter_table *table,
                       const struct gradient_bucket *bucket, const real *values)
{
    const size_t end = bucket->offset + bucket->count;
    for (int i = 0; i < table->count && table->entries[i].offset < end; i++) {
        const struct parameter *p = &table->entries[i];
        const size_t first = p->offset > bucket->offset ? p->offset : bucket->offset;
        const size_t last = p->offset + p->count < end ? p->offset + p->count : end;
        if (first < last) {
            (void)safetensors_writer_put_piece(writer, values + (first - bucket->offset),
                                               (last - first) * sizeof *values);
        }
    }
}

/* A moment that lies in parts with the ranks, on its way through `room` (bucket_elements). Ranks without a
 * writer only give. */
static void put_shared_moment(struct safetensors_writer *writer, const struct parameter_table *table,
                              const real *own, const struct gradient_exchange *exchange, real *room)
{
    for (int b = 0; b < exchange->count; b++) {
        gradient_exchange_gather(exchange, &exchange->buckets[b], own, room);
        if (writer != NULL) {
            put_bucket(writer, table, &exchange->buckets[b], room);
        }
    }
}

static void put_tensors(struct safetensors_writer *writer, const struct parameter_table *table,
                        const struct training_state *state, const int64_t *position_index,
                        const struct gradient_exchange *exchange, real *room)
{
    char name[parameter_name_size];
    for (int i = 0; i < table->count; i++) {
        if (parameter_buffer_after(name, &table->entries[i])) {
            (void)safetensors_writer_put(writer, position_index);
        }
    }
    for (int moment = -1; moment < moment_count; moment++) {
        const real *buffer = moment < 0 ? state->params : moment_of(state, moment);
        if (moment >= 0 && exchange != NULL) {
            put_shared_moment(writer, table, buffer, exchange, room);
            continue;
        }
        for (int i = 0; i < table->count; i++) {
            if (moment < 0 || table->entries[i].group != GROUP_TEACHER) {
                (void)safetensors_writer_put(writer, buffer + table->entries[i].offset);
            }
        }
    }
}

/* What the other ranks give while rank 0 writes, or in vain where it cannot. */
static void give_moments(const struct parameter_table *table, const struct training_state *state,
                         const struct gradient_exchange *exchange, real *room)
{
    for (int moment = 0; moment < moment_count; moment++) {
        put_shared_moment(NULL, table, moment_of(state, moment), exchange, room);
    }
}

static enum voco_status write_file(const char *path, const struct model *model,
                                   const struct training_state *state, const struct recipe *recipe,
                                   const struct gradient_exchange *exchange, real *room)
{
    enum voco_status status = VOCO_OK;
    int given = exchange == NULL;
    struct safetensors_writer *writer = NULL;
    char *recipe_text = recipe_to_text(recipe);
    int64_t *position_index = malloc(sizeof(int64_t) * relative_position_tokens * relative_position_tokens);
    if (recipe_text == NULL || position_index == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    model_relative_position_index(position_index);
    status = safetensors_writer_open(&writer, path);
    if (status != VOCO_OK) {
        goto done;
    }
    put_metadata(writer, &model->config, state, recipe, recipe_text);
    declare_tensors(writer, &model->table);
    given = 1;
    put_tensors(writer, &model->table, state, position_index, exchange, room);
    status = safetensors_writer_commit(writer);
done:
    if (!given) {
        give_moments(&model->table, state, exchange, room);
    }
    free(position_index);
    free(recipe_text);
    return status;
}

enum voco_status checkpoint_save(const char *path, const struct model *model,
                                 const struct training_state *state, const struct recipe *recipe)
{
    return write_file(path, model, state, recipe, NULL, NULL);
}

enum voco_status checkpoint_save_shared(const char *path, const struct model *model,
                                        const struct training_state *state, const struct recipe *recipe,
                                        const struct gradient_exchange *exchange)
{
    int writes = exchange->ranks->rank == 0;
    real *room = writes ? malloc(bucket_elements * sizeof *room) : NULL;
    if (writes && room == NULL) {
        writes = 0;
    }
    int someone = writes;
    ranks_largest(exchange->ranks, &someone);
    enum voco_status status =
        someone ? VOCO_OK : fail(VOCO_NO_MEMORY, "%s: no memory for gathering the moments", path);
    if (writes) {
        status = write_file(path, model, state, recipe, exchange, room);
    } else if (someone) {
        give_moments(&model->table, state, exchange, NULL);
    }
    free(room);
    return status;
}

/* ---- reading ---- */

/* A whole number in [0, most] from the metadata. */
static enum voco_status read_number(long long *value, const struct stored_network *stored, const char *key,
                                    long long most)
{
    char room[stored_network_text_size];
    const char *text = stored_network_metadata(stored, key, room);
    if (text == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: its metadata lacks %s", stored->path, key);
    }
    char *end = NULL;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || *value < 0 || *value > most) {
        return fail(VOCO_BAD_INPUT, "%s: its metadata has %s \"%s\"", stored->path, key, text);
    }
    return VOCO_OK;
}

static enum voco_status read_config(struct checkpoint *checkpoint)
{
    const struct stored_network *stored = &checkpoint->stored;
    struct model_config *config = &checkpoint->config;
    if (stored->in_channels != 1) {
        return fail(VOCO_BAD_INPUT, "%s: takes images of %d channels, voco's have 1", stored->path,
                    stored->in_channels);
    }
    *config = stored->config;
    config->projector = config->projector > 0 ? config->projector : 1;
    const enum voco_status status = model_config_check(config);
    return status == VOCO_OK ? status : add_context(status, "%s", stored->path);
}

static enum voco_status read_progress(struct checkpoint *checkpoint)
{
    const struct stored_network *stored = &checkpoint->stored;
    char room[stored_network_text_size];
    enum voco_status status = read_number(&checkpoint->step, stored, "step", INT64_MAX);
    if (status == VOCO_OK) {
        status = read_number(&checkpoint->optimizer_step, stored, "optimizer_step", checkpoint->step);
    }
    if (status != VOCO_OK) {
        return status;
    }
    const char *config = stored_network_metadata(stored, "config", room);
    if (config == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: its metadata lacks config", stored->path);
    }
    status = recipe_from_text(&checkpoint->recipe, config, stored->path);
    const struct model_config *a = &checkpoint->recipe.model;
    const struct model_config *b = &checkpoint->config;
    if (status == VOCO_OK && (a->feature_size != b->feature_size || a->roi != b->roi ||
                              a->projector != b->projector || a->patch_merging != b->patch_merging)) {
        status = fail(VOCO_BAD_INPUT, "%s: its config and the rest of the file describe different models",
                      stored->path);
    }
    return status;
}

enum voco_status checkpoint_open(struct checkpoint *checkpoint, const char *path)
{
    *checkpoint = (struct checkpoint){0};
    char room[stored_network_text_size];
    enum voco_status status = stored_network_open(&checkpoint->stored, path, NULL);
    if (status == VOCO_OK) {
        status = read_config(checkpoint);
    }
    if (status == VOCO_OK) {
        const char *version = stored_network_metadata(&checkpoint->stored, "voco", room);
        (void)snprintf(checkpoint->version, sizeof checkpoint->version, "%s", version != NULL ? version : "");
        recipe_default(&checkpoint->recipe);
        checkpoint->recipe.model = checkpoint->config;
        checkpoint->recipe.sampling.roi = checkpoint->config.roi;
        checkpoint->resumable = checkpoint->stored.is_checkpoint;
    }
    if (status == VOCO_OK && checkpoint->resumable) {
        status = read_progress(checkpoint);
    }
    if (status != VOCO_OK) {
        checkpoint_close(checkpoint);
    }
    return status;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    stored_network_close(&checkpoint->stored);
    *checkpoint = (struct checkpoint){0};
}

/* Of a moment's tensor what lies in this rank's slices. */
static enum voco_status read_own_part(const struct checkpoint *checkpoint, const struct stored_tensor *tensor,
                                      const struct parameter *p, real *own,
                                      const struct gradient_exchange *exchange)
{
    real *values = malloc(p->count * sizeof *values);
    if (values == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for tensor \"%s\"", checkpoint->stored.path, tensor->name);
    }
    const enum voco_status status = tensor_file_read_floats(&checkpoint->stored.file, tensor, values);
    for (int b = 0; status == VOCO_OK && b < exchange->count; b++) {
        const struct gradient_bucket *bucket = &exchange->buckets[b];
        const size_t bucket_end = bucket->own_first + bucket->own_count, end = p->offset + p->count;
        const size_t first = bucket->own_first > p->offset ? bucket->own_first : p->offset;
        const size_t last = bucket_end < end ? bucket_end : end;
        if (first < last) {
            memcpy(own + bucket->own_moments + (first - bucket->own_first), values + (first - p->offset),
                   (last - first) * sizeof *values);
        }
    }
    free(values);
    return status;
}

void checkpoint_warn_of_patch_merging(const struct checkpoint *checkpoint)
{
    if (!checkpoint->stored.says_patch_merging) {
        log_line(LOG_WARNING,
                 "%s does not say its order of patch merging: %s is taken, that of the published checkpoints",
                 checkpoint->stored.path, patch_merging_name(checkpoint->config.patch_merging));
    }
}

/* That there is a tensor, and of that parameter's shape; `name` is what it is called in a checkpoint. */
static enum voco_status require(const struct checkpoint *checkpoint, const struct stored_tensor *tensor,
                                const char *name, const struct parameter *parameter)
{
    const char *path = checkpoint->stored.path;
    return tensor == NULL ? safetensors_compare_shape(path, name, 0, NULL, parameter->rank, parameter->shape)
                          : safetensors_compare_shape(path, tensor->name, tensor->rank, tensor->shape,
                                                      parameter->rank, parameter->shape);
}

/* Fills a flat buffer: with the parameters of the groups up to `last` where moment is -1, else with that
 * moment of the trained ones. Names and their order are the same for every size, so that a parameter has one
 * place in all tables. */
static enum voco_status read_buffer(const struct checkpoint *checkpoint, const struct parameter_table *table,
                                    int moment, enum parameter_group last, real *buffer, int exact,
                                    const struct gradient_exchange *exchange)
{
    const struct stored_network *stored = &checkpoint->stored;
    const struct stored_tensor *const *tensors = moment < 0 ? stored->parameters : stored->moments[moment];
    char name[tensor_name_size];
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        if (p->group > last) {
            continue;
        }
        if (moment >= 0) {
            moment_tensor_name(name, moment, p);
        }
        enum voco_status status = require(checkpoint, tensors[i], moment >= 0 ? name : p->name, p);
        if (status == VOCO_OK && exact && tensors[i]->type != SAFETENSORS_F32) {
            status = fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" is %s; going on exactly needs F32", stored->path,
                          tensors[i]->name, safetensors_type_name(tensors[i]->type));
        }
        if (status == VOCO_OK) {
            status = exchange == NULL ? tensor_file_read_floats(&stored->file, tensors[i], buffer + p->offset)
                                      : read_own_part(checkpoint, tensors[i], p, buffer, exchange);
        }
        if (status != VOCO_OK) {
            return status;
        }
    }
    return VOCO_OK;
}

enum voco_status checkpoint_read_params(const struct checkpoint *checkpoint,
                                        const struct parameter_table *table, real *params)
{
    memset(params, 0, table->total * sizeof *params);
    if (checkpoint->stored.config.projector == 0) {
        return fail(VOCO_BAD_INPUT,
                    "%s: holds an encoder without projectors: it can embed, but similarities "
                    "and losses need projectors",
                    checkpoint->stored.path);
    }
    return read_buffer(checkpoint, table, -1, GROUP_TEACHER, params, 0, NULL);
}

enum voco_status checkpoint_read_encoder(const struct checkpoint *checkpoint,
                                         const struct parameter_table *table, real *params)
{
    memset(params, 0, table->total * sizeof *params);
    return read_buffer(checkpoint, table, -1, GROUP_BACKBONE, params, 0, NULL);
}

enum voco_status checkpoint_read_state(const struct checkpoint *checkpoint, const struct model *model,
                                       struct training_state *state)
{
    return checkpoint_read_state_part(checkpoint, model, state, NULL);
}

enum voco_status checkpoint_read_state_part(const struct checkpoint *checkpoint, const struct model *model,
                                            struct training_state *state,
                                            const struct gradient_exchange *exchange)
{
    const struct parameter_table *table = &model->table;
    const char *path = checkpoint->stored.path;
    if (!checkpoint->resumable) {
        return fail(VOCO_BAD_INPUT, "%s: holds weights only, so training cannot go on from it", path);
    }
    memset(state->params, 0, table->total * sizeof(real));
    enum voco_status status = read_buffer(checkpoint, table, -1, GROUP_TEACHER, state->params, 1, NULL);
    for (int moment = 0; status == VOCO_OK && moment < moment_count; moment++) {
        memset(moment_of(state, moment), 0, state->moments * sizeof(real));
        status = read_buffer(checkpoint, table, moment, GROUP_STUDENT, moment_of(state, moment), 1, exchange);
    }
    if (status != VOCO_OK) {
        return status;
    }
    /* What no shape shows. */
    if (checkpoint->config.roi != model->config.roi) {
        return fail(VOCO_BAD_INPUT, "%s: was trained with roi %d, not %d", path, checkpoint->config.roi,
                    model->config.roi);
    }
    if (checkpoint->config.patch_merging != model->config.patch_merging) {
        return fail(VOCO_BAD_INPUT, "%s: was trained with patch merging %s, not %s", path,
                    patch_merging_name(checkpoint->config.patch_merging),
                    patch_merging_name(model->config.patch_merging));
    }
    state->step = checkpoint->step;
    state->optimizer_step = checkpoint->optimizer_step;
    return VOCO_OK;
}
