#include "train/step.h"

#include "base/clock.h"
#include "base/error.h"
#include "train/memory_plan.h"
#include "train/shared_step.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Activations of consecutive crops that wait on the arena for backward. */
struct kept_chunk {
    struct encoder_activations *activations;
    size_t mark; /* of the arena, before them */
};

static void begin_phase(const struct train_step *step, enum step_phase phase)
{
    if (step->phase_begins != NULL) {
        step->phase_begins(step->phase_context, phase);
    }
}

struct train_step_settings train_step_settings_of(const struct recipe *recipe, int crops)
{
    return (struct train_step_settings){
        .drop = {.mode = recipe->drop, .rate = recipe->drop_rate, .seed = recipe->seed},
        .teacher_decay = recipe->ema_decay,
        .beta1 = recipe->beta1,
        .beta2 = recipe->beta2,
        .epsilon = recipe->epsilon,
        .weight_decay = recipe->weight_decay,
        .clip_norm = recipe->clip_norm,
        .crops_at_once = crops_at_once_of(recipe, crops),
    };
}

/* ---- passes over a batch ---- */

static size_t crop_size(const struct batch_pass *pass)
{
    const size_t side = (size_t)pass->model->config.roi;
    return side * side * side;
}

static enum voco_status check_size(const struct batch *batch, const struct model *model)
{
    if (batch->roi != model->config.roi) {
        return fail(VOCO_BAD_INPUT, "the batch holds crops of %d voxels an axis, the model takes %d",
                    batch->roi, model->config.roi);
    }
    return VOCO_OK;
}

enum voco_status pass_begin(struct batch_pass *pass)
{
    const struct batch *batch = pass->batch;
    pass->rows = batch->volumes * (batch->crops + batch->bases);
    const size_t rows = (size_t)pass->rows, width = (size_t)pass->model->config.projector;
    const size_t pairs = (size_t)batch->volumes * (size_t)batch->crops * (size_t)batch->bases;
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    pass->embedding = arena_push(pass->arena, rows * features * sizeof(real));
    pass->student = arena_push(pass->arena, rows * width * sizeof(real));
    pass->teacher = arena_push(pass->arena, rows * width * sizeof(real));
    pass->dstudent = arena_push(pass->arena, rows * width * sizeof(real));
    pass->similarity = arena_push(pass->arena, pairs * sizeof(real));
    if (pass->arena->exhausted) {
        return fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", pass->rows);
    }
    return VOCO_OK;
}

static int chunk_count(const struct batch_pass *pass)
{
    return (pass->rows + pass->crops_at_once - 1) / pass->crops_at_once;
}

static int chunk_crops(const struct batch_pass *pass, int chunk)
{
    const int left = pass->rows - chunk * pass->crops_at_once;
    return left < pass->crops_at_once ? left : pass->crops_at_once;
}

/* kept as in encoder_forward. */
static enum voco_status forward_chunk(const struct batch_pass *pass, int chunk,
                                      struct encoder_activations **kept)
{
    const size_t first = (size_t)chunk * (size_t)pass->crops_at_once;
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    return encoder_forward(pass->model, pass->compute, pass->arena, pass->params,
                           pass->embedding + first * features, pass->batch->voxels + first * crop_size(pass),
                           chunk_crops(pass, chunk), kept);
}

/* The last `count` chunks keep their activations, in kept (count). */
static enum voco_status forward_all(const struct batch_pass *pass, struct kept_chunk *kept, int count)
{
    const int chunks = chunk_count(pass);
    enum voco_status status = VOCO_OK;
    for (int chunk = 0; chunk < chunks && status == VOCO_OK; chunk++) {
        const int place = chunk - (chunks - count);
        if (place >= 0) {
            kept[place].mark = arena_mark(pass->arena);
        }
        status = forward_chunk(pass, chunk, place >= 0 ? &kept[place].activations : NULL);
    }
    return status;
}

/* From the last chunk to the first, where the listener is told; kept as forward_all left it. Releases the
 * kept activations. */
static enum voco_status backward_all(const struct batch_pass *pass, real *gradients, const real *dembedding,
                                     const struct kept_chunk *kept, int count,
                                     const struct backward_listener *listener)
{
    const int chunks = chunk_count(pass);
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    enum voco_status status = VOCO_OK;
    for (int chunk = chunks - 1; chunk >= 0 && status == VOCO_OK; chunk--) {
        const int place = chunk - (chunks - count);
        struct kept_chunk own = {.mark = arena_mark(pass->arena)};
        if (place >= 0) {
            own = kept[place];
        } else {
            status = forward_chunk(pass, chunk, &own.activations);
        }
        if (status == VOCO_OK) {
            const size_t first = (size_t)chunk * (size_t)pass->crops_at_once;
            status = encoder_backward_heard(
                pass->model, pass->compute, pass->arena, gradients, pass->params,
                dembedding + first * features, pass->batch->voxels + first * crop_size(pass),
                chunk_crops(pass, chunk), own.activations, chunk == 0 ? listener : NULL);
        }
        arena_release(pass->arena, own.mark);
    }
    return status;
}

/* From projections to the loss and what else is measured. */
static enum voco_status measure(const struct batch_pass *pass, struct step_result *result)
{
    const struct batch *batch = pass->batch;
    const struct loss_shape shape = {batch->volumes, batch->crops, batch->bases,
                                     pass->model->config.projector};
    enum voco_status status = voco_loss(&result->loss, pass->dstudent, pass->similarity, pass->student,
                                        pass->teacher, batch->labels, &shape, pass->arena);
    if (status == VOCO_OK) {
        position_signals_add(&result->positions, pass->similarity, batch->labels,
                             (size_t)batch->volumes * (size_t)batch->crops, batch->bases);
        status = embedding_signals(&result->embeddings, pass->embedding, (size_t)pass->rows,
                                   (size_t)model_embedding_size(&pass->model->config), pass->arena);
    }
    return status;
}

static enum voco_status project(const struct batch_pass *pass, enum parameter_group group, real *z,
                                const real *embedding, struct projector_activations **kept)
{
    return projector_forward(pass->model, pass->compute, pass->arena, pass->params, group, z, embedding,
                             pass->rows, kept);
}

static void copy_out(real *to, const real *from, size_t count)
{
    if (to != NULL) {
        memcpy(to, from, count * sizeof *to);
    }
}

static void give_outputs(const struct batch_pass *pass, const struct batch_outputs *outputs)
{
    const struct batch *batch = pass->batch;
    const size_t rows = (size_t)pass->rows, width = (size_t)pass->model->config.projector;
    if (outputs == NULL) {
        return;
    }
    copy_out(outputs->embedding, pass->embedding, rows * (size_t)model_embedding_size(&pass->model->config));
    copy_out(outputs->student, pass->student, rows * width);
    copy_out(outputs->teacher, pass->teacher, rows * width);
    copy_out(outputs->similarity, pass->similarity,
             (size_t)batch->volumes * (size_t)batch->crops * (size_t)batch->bases);
}

enum voco_status evaluate_batch(const struct model *model, struct compute *compute, struct arena *arena,
                                const real *params, const struct batch *batch, int crops_at_once,
                                struct step_result *result, const struct batch_outputs *outputs)
{
    const size_t mark = arena_mark(arena);
    struct batch_pass pass = {.model = model,
                              .compute = compute,
                              .arena = arena,
                              .params = params,
                              .batch = batch,
                              .crops_at_once = crops_at_once};
    double since = seconds_now();
    *result = (struct step_result){0};
    enum voco_status status = check_size(batch, pass.model);
    if (status == VOCO_OK) {
        status = pass_begin(&pass);
    }
    if (status == VOCO_OK) {
        status = forward_all(&pass, NULL, 0);
        count_time(&result->seconds.encoder_forward, &since);
    }
    if (status == VOCO_OK) {
        status = project(&pass, GROUP_STUDENT, pass.student, pass.embedding, NULL);
    }
    if (status == VOCO_OK) {
        status = project(&pass, GROUP_TEACHER, pass.teacher, pass.embedding, NULL);
    }
    if (status == VOCO_OK) {
        status = measure(&pass, result);
        count_time(&result->seconds.projector_and_loss, &since);
    }
    if (status == VOCO_OK) {
        give_outputs(&pass, outputs);
    }
    arena_release(arena, mark);
    return status;
}

/* ---- memory ---- */

int crops_at_once_of(const struct recipe *recipe, int crops)
{
    return recipe->crops_at_once > 0 ? recipe->crops_at_once : equal_passes(crops, 2);
}

/* Passes crops_at_once crops of zeros forward and backward to see what they take. */
static enum voco_status measure_crops(struct train_step *step)
{
    const struct model *model = step->model;
    struct arena *arena = &step->arena;
    const size_t side = (size_t)model->config.roi, features = (size_t)model_embedding_size(&model->config);
    const size_t n = (size_t)step->settings.crops_at_once, voxels = n * side * side * side;
    real *crops = arena_push(arena, voxels * sizeof *crops);
    real *embedding = arena_push(arena, n * features * sizeof *embedding);
    struct encoder_activations *kept = NULL;
    const size_t mark = arena_mark(arena);
    if (crops == NULL || embedding == NULL) {
        return fail(VOCO_NO_MEMORY, "%zu crops do not fit into the arena", n);
    }
    memset(crops, 0, voxels * sizeof *crops);
    enum voco_status status =
        encoder_forward(model, step->compute, arena, step->state->params, embedding, crops, (int)n, &kept);
    if (status == VOCO_OK) {
        step->crop_kept = (arena_mark(arena) - mark + n - 1) / n;
        memset(embedding, 0, n * features * sizeof *embedding);
        status = encoder_backward(model, step->compute, arena, step->gradients, step->state->params,
                                  embedding, crops, (int)n, kept);
        step->crop_peak = (arena->peak - mark + n - 1) / n;
    }
    return status;
}

/* How many of the batch's chunks keep their activations: the last one always does, since backward begins with
 * it. */
static int chunks_to_keep(const struct train_step *step, const struct batch_pass *pass)
{
    const size_t at_once = (size_t)pass->crops_at_once, budget = step->settings.activation_budget;
    const size_t peak = at_once * step->crop_peak, kept = at_once * step->crop_kept;
    const size_t more = budget > peak ? (budget - peak) / kept : 0;
    const int chunks = chunk_count(pass);
    return more >= (size_t)chunks ? chunks : 1 + (int)more < chunks ? 1 + (int)more : chunks;
}

/* Address space: the encoder's activations are below 16 tensors of (R^3, C) a crop (src/model/encoder.c), and
 * what is kept lies within the budget. The rest of a batch is small. */
static enum voco_status open_arena(struct train_step *step)
{
    const struct model_config *config = &step->model->config;
    const size_t side = (size_t)config->roi, rest = (size_t)4 << 30;
    const size_t crop = 16 * side * side * side * (size_t)config->feature_size * sizeof(real);
    arena_close(&step->arena);
    return arena_open(&step->arena,
                      step->settings.activation_budget + (size_t)step->settings.crops_at_once * crop + rest);
}

enum voco_status train_step_create(struct train_step *step, const struct model *model,
                                   struct compute *compute, struct training_state *state,
                                   const struct train_step_settings *settings)
{
    const struct parameter_table *table = &model->table;
    const size_t teacher = table->total - table->trained;
    *step = (struct train_step){.model = model, .compute = compute, .state = state, .settings = *settings};
    enum voco_status status = VOCO_OK;
    step->gradients = calloc(table->trained, sizeof(real));
    step->previous_teacher = calloc(teacher, sizeof(real));
    if (step->gradients == NULL || step->previous_teacher == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for the gradient of %zu parameters", table->trained);
    }
    if (status == VOCO_OK) {
        compute->zero(compute, step->gradients, table->trained);
        compute->zero(compute, step->previous_teacher, teacher);
        compute->parameters_changed(compute);
        step->settings.crops_at_once = 0; /* not measured yet */
        status = train_step_resize(step, settings->crops_at_once, settings->activation_budget);
    }
    if (status != VOCO_OK) {
        train_step_free(step);
    }
    return status;
}

enum voco_status train_step_resize(struct train_step *step, int crops_at_once, size_t activation_budget)
{
    const int measured = step->settings.crops_at_once == crops_at_once;
    step->settings.crops_at_once = crops_at_once;
    step->settings.activation_budget = activation_budget;
    enum voco_status status = open_arena(step);
    if (status == VOCO_OK && !measured) {
        status = measure_crops(step);
        arena_reset(&step->arena);
    }
    return status;
}

/* In the order of src: pass_begin, fill_gradients, embeddings_to_gradient; there the student's projector
 * keeps 4 arrays, and the teacher's, the loss and the signals take turns. */
size_t train_step_projection_bytes(const struct model_config *config, size_t crops, size_t pairs)
{
    const size_t features = (size_t)model_embedding_size(config), width = (size_t)config->projector;
    const size_t smaller = crops < features ? crops : features;
    const size_t always = crops * (3 * features + 7 * width) + pairs;
    const size_t teacher = 4 * crops * width * sizeof(real);
    const size_t loss = (crops * width + 3 * pairs) * sizeof(double);
    const size_t signals = (crops * features + smaller * (smaller + 4)) * sizeof(double);
    const size_t most = teacher > loss ? teacher : loss;
    const size_t little = (size_t)1 << 16; /* moments, bookkeeping, alignment */
    return always * sizeof(real) + (most > signals ? most : signals) + little;
}

void train_step_join(struct train_step *step, struct gradient_exchange *exchange)
{
    step->exchange = exchange;
}

void train_step_free(struct train_step *step)
{
    arena_close(&step->arena);
    free(step->gradients);
    free(step->previous_teacher);
    *step = (struct train_step){0};
}

/* ---- the step ---- */

static real *teacher_of(const struct train_step *step)
{
    const struct parameter_table *table = &step->model->table;
    return step->state->params + table->backbone + table->teacher_distance;
}

static size_t teacher_size(const struct train_step *step)
{
    return step->model->table.total - step->model->table.trained;
}

static void move_teacher(struct train_step *step)
{
    struct compute *c = step->compute;
    real *teacher = teacher_of(step);
    c->moving_average(c, teacher, step->previous_teacher, step->state->params + step->model->table.backbone,
                      (real)step->settings.teacher_decay, teacher_size(step));
    c->parameters_changed(c);
}

static void undo_teacher(struct train_step *step)
{
    memcpy(teacher_of(step), step->previous_teacher, teacher_size(step) * sizeof(real));
    step->compute->parameters_changed(step->compute);
}

/* As the rows of the whole batch. */
static void drop_rows(const struct train_step *step, const struct batch_pass *pass, real *out,
                      const real *inp)
{
    const struct batch_share *share = &step->settings.share;
    const struct batch *batch = pass->batch;
    const struct drop *drop = &step->settings.drop;
    const uint64_t number = (uint64_t)step->state->step;
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    const size_t randoms = (size_t)batch->volumes * (size_t)batch->crops, rows = (size_t)pass->rows;
    if (share->volumes == 0 || share->volumes == batch->volumes) {
        drop_apply(out, inp, drop, number, rows, features);
        return;
    }
    drop_apply_rows(out, inp, drop, number, first_random_row(share, batch), randoms, features);
    drop_apply_rows(out + randoms * features, inp + randoms * features, drop, number,
                    first_base_row(share, batch), rows - randoms, features);
}

/* Projectors and loss on the embeddings, and back: dembedding (N, E) is written. */
static enum voco_status own_embeddings_to_gradient(struct train_step *step, const struct batch_pass *pass,
                                                   real *dembedding, struct step_result *result)
{
    const size_t features = (size_t)model_embedding_size(&pass->model->config), rows = (size_t)pass->rows;
    const size_t mark = arena_mark(pass->arena);
    struct projector_activations *kept = NULL;
    real *dropped = arena_push(pass->arena, rows * features * sizeof *dropped);
    if (dropped == NULL) {
        return fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", pass->rows);
    }
    drop_rows(step, pass, dropped, pass->embedding);
    enum voco_status status = project(pass, GROUP_STUDENT, pass->student, dropped, &kept);
    if (status == VOCO_OK) {
        status = project(pass, GROUP_TEACHER, pass->teacher, pass->embedding, NULL);
    }
    if (status == VOCO_OK) {
        status = measure(pass, result);
    }
    if (status == VOCO_OK) {
        status = projector_backward(pass->model, pass->compute, pass->arena, step->gradients, pass->params,
                                    GROUP_STUDENT, dembedding, pass->dstudent, dropped, pass->rows, kept);
        drop_rows(step, pass, dembedding, dembedding);
    }
    arena_release(pass->arena, mark);
    return status;
}

/* The same on the embeddings of all ranks, of which dembedding gets the own. */
static enum voco_status all_embeddings_to_gradient(struct train_step *step, const struct batch_pass *pass,
                                                   real *dembedding, struct step_result *result)
{
    const size_t features = (size_t)model_embedding_size(&pass->model->config),
                 mark = arena_mark(pass->arena);
    struct batch_pass whole;
    struct batch batch;
    enum voco_status status = gather_pass(&whole, &batch, step, pass, result);
    real *of_all = arena_push(pass->arena, (size_t)whole.rows * features * sizeof *of_all);
    if (status == VOCO_OK && of_all == NULL) {
        status = fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", whole.rows);
    }
    if (status == VOCO_OK) {
        status = own_embeddings_to_gradient(step, &whole, of_all, result);
    }
    if (status == VOCO_OK) {
        take_own_rows(step, pass, &whole, dembedding, of_all);
        leave_student_to_first(step);
    }
    arena_release(pass->arena, mark);
    return status;
}

static void send_part(void *context, int part)
{
    struct train_step *step = context;
    gradient_exchange_start(step->exchange, step->gradients, part);
}

static enum voco_status embeddings_to_gradient(struct train_step *step, const struct batch_pass *pass,
                                               real *dembedding, struct step_result *result)
{
    const int together = step->exchange != NULL && step->settings.sync_bn;
    double since = seconds_now();
    const double waited = result->seconds.communication;
    const enum voco_status status = together ? all_embeddings_to_gradient(step, pass, dembedding, result)
                                             : own_embeddings_to_gradient(step, pass, dembedding, result);
    if (status == VOCO_OK && step->exchange != NULL) {
        send_part(step, backbone_parts);
    }
    count_time(&result->seconds.projector_and_loss, &since);
    result->seconds.projector_and_loss -= result->seconds.communication - waited;
    return status;
}

/* Forward, loss, backward, with the teacher where it is. */
static enum voco_status fill_gradients(struct train_step *step, struct batch_pass *pass,
                                       struct step_result *result, const struct batch_outputs *outputs)
{
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    const int count = chunks_to_keep(step, pass);
    double since = seconds_now();
    real *dembedding = arena_push(pass->arena, (size_t)pass->rows * features * sizeof *dembedding);
    struct kept_chunk *kept = arena_push(pass->arena, (size_t)count * sizeof *kept);
    if (dembedding == NULL || kept == NULL) {
        return fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", pass->rows);
    }
    begin_phase(step, STEP_ENCODER_FORWARD);
    step->compute->zero(step->compute, step->gradients, step->model->table.trained);
    enum voco_status status = forward_all(pass, kept, count);
    count_time(&result->seconds.encoder_forward, &since);
    if (status == VOCO_OK) {
        begin_phase(step, STEP_PROJECTOR_AND_LOSS);
        status = embeddings_to_gradient(step, pass, dembedding, result);
        since = seconds_now();
    }
    if (status == VOCO_OK) {
        begin_phase(step, STEP_ENCODER_BACKWARD);
        const struct backward_listener listener = {send_part, step};
        status = backward_all(pass, step->gradients, dembedding, kept, count,
                              step->exchange != NULL ? &listener : NULL);
        count_time(&result->seconds.encoder_backward, &since);
    }
    if (status == VOCO_OK && step->exchange != NULL) {
        gradient_exchange_finish(step->exchange);
        count_time(&result->seconds.communication, &since);
    }
    if (status == VOCO_OK) {
        give_outputs(pass, outputs);
    }
    return status;
}

enum voco_status train_step_gradients(struct train_step *step, const struct batch *batch,
                                      struct step_result *result, const struct batch_outputs *outputs)
{
    struct batch_pass pass = {.model = step->model,
                              .compute = step->compute,
                              .arena = &step->arena,
                              .params = step->state->params,
                              .batch = batch,
                              .crops_at_once = step->settings.crops_at_once};
    double since = seconds_now();
    *result = (struct step_result){0};
    enum voco_status status = check_size(batch, pass.model);
    if (status == VOCO_OK) {
        status = pass_begin(&pass);
    }
    if (status == VOCO_OK) {
        begin_phase(step, STEP_OPTIMISER);
        move_teacher(step);
        count_time(&result->seconds.optimiser, &since);
        status = fill_gradients(step, &pass, result, outputs);
        if (status != VOCO_OK) {
            undo_teacher(step);
        }
    }
    arena_reset(&step->arena);
    return status;
}

/* What a gradient of this norm is multiplied by, so that it is no longer than clip_norm. */
static double clipping_scale(const struct train_step *step, double norm)
{
    const double most = step->settings.clip_norm;
    return most > 0 && norm > most ? most / norm : 1;
}

enum voco_status train_step_update(struct train_step *step, double learning_rate, struct step_result *result)
{
    struct compute *c = step->compute;
    struct training_state *state = step->state;
    const size_t trained = step->model->table.trained;
    double since = seconds_now();
    const double waited = result->seconds.communication;
    begin_phase(step, STEP_OPTIMISER);
    const double squares =
        step->exchange == NULL ? c->sum_of_squares(c, step->gradients, trained) : share_result(step, result);
    result->gradient_norm = sqrt(squares);
    /* Beyond FLT_MAX the second moment would be infinite and the parameter stuck. */
    result->skipped = !isfinite(result->loss.total) || !(squares <= FLT_MAX);
    if (!result->skipped) {
        const struct adamw_settings adamw = {
            .learning_rate = learning_rate,
            .beta1 = step->settings.beta1,
            .beta2 = step->settings.beta2,
            .epsilon = step->settings.epsilon,
            .weight_decay = step->settings.weight_decay,
            .step = (long)state->optimizer_step + 1,
            .gradient_scale = clipping_scale(step, result->gradient_norm),
        };
        if (step->exchange != NULL && step->exchange->sharded) {
            update_own_slices(step, &adamw, result);
        } else {
            c->adamw_step(c, state->params, state->exp_avg, state->exp_avg_sq, state->max_exp_avg_sq,
                          step->gradients, &adamw, trained);
        }
        c->parameters_changed(c);
    }
    const enum voco_status status = compute_status(c);
    if (status != VOCO_OK || result->skipped) {
        undo_teacher(step);
    }
    if (status == VOCO_OK) {
        state->step += 1;
        state->optimizer_step += !result->skipped;
    }
    count_time(&result->seconds.optimiser, &since);
    result->seconds.optimiser -= result->seconds.communication - waited;
    return status;
}

enum voco_status train_step_run(struct train_step *step, const struct batch *batch, double learning_rate,
                                struct step_result *result, const struct batch_outputs *outputs)
{
    const enum voco_status status = train_step_gradients(step, batch, result, outputs);
    return status != VOCO_OK ? status : train_step_update(step, learning_rate, result);
}
