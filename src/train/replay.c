#include "train/replay.h"

#include "base/error.h"
#include "formats/safetensors.h"
#include "train/checkpoint.h"
#include "train/machine.h"
#include "train/run_memory.h"
#include "train/stored_batch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { most_samples = 256, tensor_name_size = parameter_name_size + 48 };

/* Everything that lives as long as a replay. */
struct replayer {
    const struct replay_options *options;
    struct batch batch;
    struct checkpoint checkpoint;
    struct model model;
    struct compute compute;
    struct training_state state;
    struct train_step step;
    struct safetensors gradients;
    struct safetensors_writer *writer;
    struct batch_outputs outputs; /* embedding, student, teacher */
};

static const char *tensor_name(char name[tensor_name_size], int step, const char *kind, const char *parameter)
{
    (void)snprintf(name, tensor_name_size, "step%d/%s%s%s", step, kind, parameter != NULL ? "/" : "",
                   parameter != NULL ? parameter : "");
    return name;
}

static size_t sample_count(const struct parameter *parameter)
{
    return parameter->count < most_samples ? parameter->count : most_samples;
}

static void sample_values(float *samples, const float *values, size_t size)
{
    const size_t count = size < most_samples ? size : most_samples;
    const double pitch = count > 1 ? (double)(size - 1) / (double)(count - 1) : 0;
    for (size_t i = 0; i < count; i++) {
        samples[i] = values[i + 1 < count ? (size_t)((double)i * pitch) : size - 1];
    }
}

/* ---- reading ---- */

static enum voco_status read_state(struct replayer *r)
{
    enum voco_status status = training_state_create(&r->state, &r->model.table);
    if (status != VOCO_OK) {
        return status;
    }
    training_state_place(&r->state, &r->model.table, &r->compute);
    return r->checkpoint.resumable ? checkpoint_read_state(&r->checkpoint, &r->model, &r->state)
                                   : checkpoint_read_params(&r->checkpoint, &r->model.table, r->state.params);
}

/* Whether the file of gradients holds this step's. */
static int has_gradients(const struct replayer *r, int step)
{
    char name[tensor_name_size];
    return safetensors_find(&r->gradients, tensor_name(name, step, "grad", r->model.table.entries[0].name)) !=
           NULL;
}

static enum voco_status open_compute(struct replayer *r)
{
    const struct replay_options *options = r->options;
    enum compute_precision precision = r->checkpoint.recipe.precision;
    enum voco_status status = VOCO_OK;
    if (options->precision != NULL) {
        status = compute_precision_from_name(&precision, options->precision);
    }
    if (status == VOCO_OK) {
        status = machine_open(&r->compute, options->compute != NULL ? options->compute : "cpu",
                              options->threads, precision);
    }
    return status;
}

static enum voco_status read_inputs(struct replayer *r, const struct memory_limit *limit)
{
    const struct replay_options *options = r->options;
    enum voco_status status = stored_batch_read(&r->batch, options->batch);
    if (status == VOCO_OK) {
        status = checkpoint_open(&r->checkpoint, options->checkpoint);
    }
    if (status == VOCO_OK && r->batch.roi != r->checkpoint.config.roi) {
        status = fail(VOCO_BAD_INPUT, "%s: holds crops of %d voxels an axis, the model in %s takes %d",
                      options->batch, r->batch.roi, options->checkpoint, r->checkpoint.config.roi);
    }
    if (status == VOCO_OK) {
        status = model_create(&r->model, &r->checkpoint.config);
    }
    if (status == VOCO_OK) {
        status = check_memory_for_state(limit, &r->model, r->model.table.trained);
    }
    if (status == VOCO_OK) {
        status = open_compute(r);
    }
    if (status == VOCO_OK) {
        status = read_state(r);
    }
    if (status == VOCO_OK && options->gradients != NULL) {
        status = safetensors_open(&r->gradients, options->gradients);
    }
    if (status == VOCO_OK && options->gradients != NULL && !has_gradients(r, 0)) {
        status = fail(VOCO_BAD_INPUT, "%s: holds no gradients: there is no tensor \"step0/grad/%s\"",
                      options->gradients, r->model.table.entries[0].name);
    }
    return status;
}

/* Puts the stored gradients in the place of the step's own. */
static enum voco_status take_gradients(struct replayer *r, int step)
{
    char name[tensor_name_size];
    real *gradients = train_step_host_gradients(&r->step);
    if (gradients == NULL) {
        return VOCO_NO_MEMORY;
    }
    if (r->options->gradients == NULL || (step > 0 && !has_gradients(r, step))) {
        return VOCO_OK;
    }
    for (int i = 0; i < r->model.table.count; i++) {
        const struct parameter *p = &r->model.table.entries[i];
        const struct safetensors_tensor *tensor = NULL;
        if (p->group == GROUP_TEACHER) {
            continue;
        }
        enum voco_status status = safetensors_require(
            &tensor, &r->gradients, tensor_name(name, step, "grad", p->name), p->rank, p->shape);
        if (status == VOCO_OK) {
            status = safetensors_read_floats(&r->gradients, tensor, gradients + p->offset);
        }
        if (status != VOCO_OK) {
            return status;
        }
    }
    train_step_take_gradients(&r->step);
    return VOCO_OK;
}

/* ---- writing; the writer remembers the first failure, so it is looked at once, at commit ---- */

static void declare(struct replayer *r, int step, const char *kind, const char *parameter, int rank,
                    const int64_t *shape)
{
    char name[tensor_name_size];
    (void)safetensors_writer_declare(r->writer, tensor_name(name, step, kind, parameter), SAFETENSORS_F32,
                                     rank, shape);
}

static void declare_step(struct replayer *r, int step)
{
    const struct batch *batch = &r->batch;
    const int64_t rows = (int64_t)batch->volumes * (batch->crops + batch->bases), losses = 4;
    const int64_t embedding[] = {rows, model_embedding_size(&r->model.config)};
    const int64_t projection[] = {rows, r->model.config.projector};
    const struct parameter_table *table = &r->model.table;
    declare(r, step, "loss", NULL, 1, &losses);
    declare(r, step, "embedding", NULL, 2, embedding);
    declare(r, step, "student", NULL, 2, projection);
    declare(r, step, "teacher", NULL, 2, projection);
    for (int i = 0; i < table->count; i++) {
        if (table->entries[i].group != GROUP_TEACHER) {
            declare(r, step, "grad", table->entries[i].name, table->entries[i].rank, table->entries[i].shape);
        }
    }
    for (int i = 0; i < table->count; i++) {
        const int64_t samples = (int64_t)sample_count(&table->entries[i]);
        declare(r, step, "paramsample", table->entries[i].name, 1, &samples);
    }
    for (int i = 0; i < table->count; i++) {
        declare(r, step, "param", table->entries[i].name, table->entries[i].rank, table->entries[i].shape);
    }
}

static void put_metadata(struct replayer *r)
{
    const struct model_config *config = &r->model.config;
    char text[32];
    (void)safetensors_writer_metadata(r->writer, "format", "voco-replay-1");
    (void)snprintf(text, sizeof text, "%d", config->feature_size);
    (void)safetensors_writer_metadata(r->writer, "feature_size", text);
    (void)snprintf(text, sizeof text, "%d", config->roi);
    (void)safetensors_writer_metadata(r->writer, "roi", text);
    (void)snprintf(text, sizeof text, "%d", config->projector);
    (void)safetensors_writer_metadata(r->writer, "projector", text);
    (void)safetensors_writer_metadata(r->writer, "patch_merging", patch_merging_name(config->patch_merging));
    (void)snprintf(text, sizeof text, "%.17g", r->options->learning_rate);
    (void)safetensors_writer_metadata(r->writer, "lr", text);
    (void)snprintf(text, sizeof text, "%.17g", r->step.settings.weight_decay);
    (void)safetensors_writer_metadata(r->writer, "weight_decay", text);
    (void)safetensors_writer_metadata(r->writer, "loss", "total,intra,inter,reg");
    (void)safetensors_writer_metadata(r->writer, "sample",
                                      "indices linspace(0,size-1,min(256,size)) truncated");
}

static enum voco_status begin_output(struct replayer *r)
{
    const enum voco_status status = safetensors_writer_open(&r->writer, r->options->out);
    if (status != VOCO_OK) {
        return status;
    }
    put_metadata(r);
    for (int step = 0; step < r->options->steps; step++) {
        declare_step(r, step);
    }
    return VOCO_OK;
}

static enum voco_status put_forward_and_gradients(struct replayer *r, const struct step_result *result)
{
    const real *gradients = train_step_host_gradients(&r->step);
    const float losses[] = {(float)result->loss.total, (float)result->loss.intra, (float)result->loss.inter,
                            (float)result->loss.reg};
    if (gradients == NULL) {
        return VOCO_NO_MEMORY;
    }
    (void)safetensors_writer_put(r->writer, losses);
    (void)safetensors_writer_put(r->writer, r->outputs.embedding);
    (void)safetensors_writer_put(r->writer, r->outputs.student);
    (void)safetensors_writer_put(r->writer, r->outputs.teacher);
    for (int i = 0; i < r->model.table.count; i++) {
        if (r->model.table.entries[i].group != GROUP_TEACHER) {
            (void)safetensors_writer_put(r->writer, gradients + r->model.table.entries[i].offset);
        }
    }
    return VOCO_OK;
}

static void put_params(struct replayer *r)
{
    const struct parameter_table *table = &r->model.table;
    for (int i = 0; i < table->count; i++) {
        float samples[most_samples];
        sample_values(samples, r->state.params + table->entries[i].offset, table->entries[i].count);
        (void)safetensors_writer_put(r->writer, samples);
    }
    for (int i = 0; i < table->count; i++) {
        (void)safetensors_writer_put(r->writer, r->state.params + table->entries[i].offset);
    }
}

/* ---- the replay ---- */

/* The step, with as many activations kept as memory allows. */
static enum voco_status open_step(struct replayer *r, const struct memory_limit *limit)
{
    const struct batch *batch = &r->batch;
    const int crops = batch->volumes * (batch->crops + batch->bases);
    struct train_step_settings settings = train_step_settings_of(&r->checkpoint.recipe, crops);
    struct memory_demand demand = {
        .projection =
            train_step_projection_bytes(&r->model.config, batch->volumes, batch->crops, batch->bases),
        .travelling = crops_bytes(batch->form, batch_crop_count(batch), batch->roi),
        .crops = crops,
        .crops_at_once = settings.crops_at_once,
    };
    struct memory_plan plan;
    settings.crops_at_once = 1;
    settings.drop.mode = DROP_NONE;
    if (!isnan(r->options->weight_decay)) {
        settings.weight_decay = r->options->weight_decay;
    }
    const enum voco_status status = train_step_create(&r->step, &r->model, &r->compute, &r->state, &settings);
    return status != VOCO_OK ? status : plan_run_memory(&plan, &demand, &r->step, limit);
}

static enum voco_status create_outputs(struct replayer *r)
{
    const size_t rows = (size_t)r->batch.volumes * ((size_t)r->batch.crops + (size_t)r->batch.bases);
    const size_t width = (size_t)r->model.config.projector;
    r->outputs.embedding = calloc(rows, (size_t)model_embedding_size(&r->model.config) * sizeof(real));
    r->outputs.student = calloc(rows, width * sizeof(real));
    r->outputs.teacher = calloc(rows, width * sizeof(real));
    if (r->outputs.embedding == NULL || r->outputs.student == NULL || r->outputs.teacher == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the embeddings of %zu crops", rows);
    }
    return VOCO_OK;
}

static enum voco_status replay_step(struct replayer *r, int step, struct step_result *result)
{
    enum voco_status status = train_step_gradients(&r->step, &r->batch, result, &r->outputs);
    if (status == VOCO_OK) {
        status = put_forward_and_gradients(r, result);
    }
    if (status == VOCO_OK) {
        status = take_gradients(r, step);
    }
    if (status == VOCO_OK) {
        status = train_step_update(&r->step, r->options->learning_rate, result);
    }
    if (status == VOCO_OK) {
        status = train_step_fetch_state(&r->step);
    }
    if (status == VOCO_OK) {
        put_params(r);
    }
    return status;
}

static void free_all(struct replayer *r)
{
    safetensors_writer_discard(r->writer);
    train_step_free(&r->step);
    compute_close(&r->compute);
    free(r->outputs.embedding);
    free(r->outputs.student);
    free(r->outputs.teacher);
    safetensors_close(&r->gradients);
    training_state_free(&r->state);
    model_free(&r->model);
    checkpoint_close(&r->checkpoint);
    batch_free(&r->batch);
}

enum voco_status replay(const struct replay_options *options, struct step_result *results)
{
    struct replayer r = {.options = options};
    if (options->steps < 1 || options->steps > replay_most_steps) {
        return fail(VOCO_BAD_INPUT, "%d steps cannot be replayed, only 1 to %d", options->steps,
                    replay_most_steps);
    }
    const struct memory_limit limit = memory_limit_of(options->memory);
    enum voco_status status = read_inputs(&r, &limit);
    if (status == VOCO_OK) {
        status = create_outputs(&r);
    }
    if (status == VOCO_OK) {
        status = open_step(&r, &limit);
    }
    if (status == VOCO_OK) {
        status = begin_output(&r);
    }
    for (int step = 0; step < options->steps && status == VOCO_OK; step++) {
        status = replay_step(&r, step, &results[step]);
    }
    if (status == VOCO_OK) {
        struct safetensors_writer *writer = r.writer;
        r.writer = NULL;
        status = safetensors_writer_commit(writer);
    }
    free_all(&r);
    return status;
}
