#include "train/step.h"

#include "base/clock.h"
#include "base/error.h"
#include "compute/compute_arena.h"
#include "compute/gradient_scale.h"
#include "train/batch_pass.h"
#include "train/memory_plan.h"
#include "train/shared_step.h"
#include "train/step_arrays.h"
#include "train/step_crops.h"
#include "train/step_recording.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Enough to fill a GPU, see docs/cuda.md. On a processor two crops share the weights of the deep layers,
 * which are larger than their activations. */
enum { gpu_crops_at_once = 64, cpu_crops_at_once = 2 };

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

/* ---- memory ---- */

int crops_at_once_of(const struct recipe *recipe, int crops)
{
    const int on_gpu = strcmp(recipe->compute, "cuda") == 0;
    return recipe->crops_at_once > 0 ? recipe->crops_at_once
                                     : equal_passes(crops, on_gpu ? gpu_crops_at_once : cpu_crops_at_once);
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
    const struct arena_mark mark = arena_mark(arena);
    if (crops == NULL || embedding == NULL) {
        return fail(VOCO_NO_MEMORY, "%zu crops do not fit into the arena", n);
    }
    step->compute->zero(step->compute, crops, voxels);
    enum voco_status status =
        encoder_forward(model, step->compute, arena, step->arrays.params, embedding, crops, (int)n, &kept);
    if (status == VOCO_OK) {
        step->crop_kept = (arena_mark(arena).used - mark.used + n - 1) / n;
        step->compute->zero(step->compute, embedding, n * features);
        status = encoder_backward(model, step->compute, arena, step->gradients, step->arrays.params,
                                  embedding, crops, (int)n, kept);
        step->crop_peak = (arena->peak - mark.used + n - 1) / n;
    }
    step->compute->wait(step->compute);
    return status != VOCO_OK ? status : compute_status(step->compute);
}

/* How many of the batch's chunks keep their activations: the last one always does, since backward begins with
 * it. */
static int chunks_to_keep(const struct train_step *step, const struct batch_pass *pass)
{
    const size_t at_once = (size_t)pass->crops_at_once, budget = step->settings.activation_budget;
    const size_t peak = at_once * step->crop_peak, kept = at_once * step->crop_kept;
    const size_t more = budget > peak ? (budget - peak) / kept : 0;
    const int chunks = pass_chunks(pass);
    return more >= (size_t)chunks ? chunks : 1 + (int)more < chunks ? 1 + (int)more : chunks;
}

/* Address space: the encoder's activations are below 16 tensors of (R^3, C) a crop (src/model/encoder.c), and
 * what is kept lies within the budget. The rest of a batch is small. */
static size_t address_space(const struct train_step *step)
{
    const struct model_config *config = &step->model->config;
    const size_t side = (size_t)config->roi, rest = (size_t)4 << 30;
    const size_t crop = 16 * side * side * side * (size_t)config->feature_size * sizeof(real);
    return step->settings.activation_budget + (size_t)step->settings.crops_at_once * crop + rest;
}

/* What will be used, once that is known: in separate memory, what is reserved is taken. */
static size_t exact_memory(const struct train_step *step)
{
    const size_t passes = (size_t)step->settings.crops_at_once * step->crop_peak;
    const size_t budget = step->settings.activation_budget, alignment = (size_t)1 << 20;
    return (budget > passes ? budget : passes) + step->batch_room + alignment;
}

/* Whether what a batch needs beside the encoder's activations is known. */
static int takes_exact_memory(const struct train_step *step)
{
    return step->compute->separate_memory && step->batch_room > 0;
}

static enum voco_status open_arena(struct train_step *step, size_t bytes)
{
    (void)train_step_bring(step, NULL);
    step->crops = (struct travelling_crops){0};
    step_recordings_forget(step->recordings);
    compute_arena_close(&step->arena, step->compute);
    return compute_arena_open(&step->arena, step->compute, bytes);
}

enum voco_status train_step_create(struct train_step *step, const struct model *model,
                                   struct compute *compute, struct training_state *state,
                                   const struct train_step_settings *settings)
{
    *step = (struct train_step){.model = model, .compute = compute, .state = state, .settings = *settings};
    step->recordings = step_recordings_create(compute);
    enum voco_status status = step_arrays_create(step);
    if (status == VOCO_OK) {
        status = copy_queue_open(&step->copies, compute);
    }
    if (status == VOCO_OK) {
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
    enum voco_status status = VOCO_OK;
    step->settings.crops_at_once = crops_at_once;
    step->settings.activation_budget = activation_budget;
    if (!measured || !takes_exact_memory(step)) {
        status = open_arena(step, address_space(step));
    }
    if (status == VOCO_OK && !measured) {
        status = measure_crops(step);
        arena_reset(&step->arena);
    }
    if (status == VOCO_OK && takes_exact_memory(step)) {
        status = open_arena(step, exact_memory(step));
    }
    return status;
}

/* In the order of src: pass_begin, fill_gradients, ask_projection; there the student's projector
 * keeps 4 arrays, and the teacher's, the loss and the signals take turns. */
size_t train_step_projection_bytes(const struct model_config *config, int volumes, int crops, int bases)
{
    const struct contrast_shape shape = {volumes, crops, bases, config->projector};
    const size_t features = (size_t)model_embedding_size(config), width = (size_t)config->projector;
    const size_t rows = (size_t)volumes * (size_t)(crops + bases);
    const size_t pairs = (size_t)volumes * (size_t)crops * (size_t)bases;
    const size_t smaller = rows < features ? rows : features;
    const size_t always = rows * (4 * features + 7 * width) + 2 * pairs;
    const size_t teacher = 4 * rows * width * sizeof(real);
    const size_t loss = contrast_loss_work(&shape) * sizeof(double);
    const size_t signals = (rows * features + smaller * (smaller + 4)) * sizeof(double);
    const size_t most = teacher > loss ? teacher : loss;
    const size_t little = (size_t)1 << 16; /* moments, terms, bookkeeping, alignment */
    return always * sizeof(real) + (most > signals ? most : signals) + little;
}

void train_step_join(struct train_step *step, struct gradient_exchange *exchange)
{
    step->exchange = exchange;
    exchange->on_device = step->compute->separate_memory;
}

void train_step_free(struct train_step *step)
{
    step_recordings_free(step->recordings);
    copy_queue_close(&step->copies);
    if (step->compute != NULL) {
        compute_arena_close(&step->arena, step->compute);
    }
    step_arrays_free(step);
    *step = (struct train_step){0};
}

/* ---- the step ---- */

static real *teacher_of(const struct train_step *step)
{
    const struct parameter_table *table = &step->model->table;
    return step->arrays.params + table->backbone + table->teacher_distance;
}

static size_t teacher_size(const struct train_step *step)
{
    return step->model->table.total - step->model->table.trained;
}

static void move_teacher(struct train_step *step)
{
    struct compute *c = step->compute;
    real *teacher = teacher_of(step);
    c->moving_average(c, teacher, step->previous_teacher, step->arrays.params + step->model->table.backbone,
                      (real)step->settings.teacher_decay, teacher_size(step));
    c->parameters_changed(c);
}

static void undo_teacher(struct train_step *step)
{
    step->compute->copy(step->compute, teacher_of(step), step->previous_teacher,
                        teacher_size(step) * sizeof(real));
    step->compute->parameters_changed(step->compute);
}

/* Draws the mask, while a device is at work on what was queued, as that of the rows of the whole batch. */
static void send_mask(const struct train_step *step, const struct batch_pass *pass)
{
    const struct batch_share *share = &step->settings.share;
    const struct batch *batch = pass->batch;
    const struct drop *drop = &step->settings.drop;
    const uint64_t number = (uint64_t)step->state->step;
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    const size_t randoms = (size_t)batch->volumes * (size_t)batch->crops, rows = (size_t)pass->rows;
    const int whole = share->volumes == 0 || share->volumes == batch->volumes;
    drop_mask(pass->host.mask, drop, number, whole ? 0 : first_random_row(share, batch), randoms, features);
    drop_mask(pass->host.mask + randoms * features, drop, number,
              whole ? randoms : first_base_row(share, batch), rows - randoms, features);
    pass_send(pass, pass->mask, pass->host.mask, rows * features * sizeof(real));
}

/* What the passes of a step work on. */
struct passes {
    struct train_step *step;
    const struct batch_pass *pass;
    real *dembedding;        /* (N, E) */
    struct kept_chunk *kept; /* (kept_chunks) */
    int kept_chunks;
};

static enum voco_status ask_forward(void *context)
{
    const struct passes *p = context;
    struct compute *c = p->pass->compute;
    c->zero(c, p->step->gradients, p->step->model->table.trained);
    return pass_forward(p->pass, p->kept, p->kept_chunks);
}

/* Projectors and loss on the embeddings, and back. */
static enum voco_status ask_projection(void *context)
{
    const struct passes *p = context;
    const struct batch_pass *pass = p->pass;
    struct compute *c = pass->compute;
    const size_t values = (size_t)pass->rows * (size_t)model_embedding_size(&pass->model->config);
    const struct arena_mark mark = arena_mark(pass->arena);
    struct projector_activations *kept = NULL;
    real *dropped = arena_push(pass->arena, values * sizeof *dropped);
    if (dropped == NULL) {
        return fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", pass->rows);
    }
    c->apply_mask(c, dropped, pass->embedding, pass->mask, values);
    enum voco_status status = pass_project(pass, GROUP_STUDENT, pass->student, dropped, &kept);
    if (status == VOCO_OK) {
        status = pass_project(pass, GROUP_TEACHER, pass->teacher, pass->embedding, NULL);
    }
    if (status == VOCO_OK) {
        status = pass_loss(pass);
    }
    if (status == VOCO_OK) {
        status = projector_backward(pass->model, c, pass->arena, p->step->gradients, pass->params,
                                    GROUP_STUDENT, p->dembedding, pass->dstudent, dropped, pass->rows, kept);
    }
    if (status == VOCO_OK) {
        c->apply_mask(c, p->dembedding, p->dembedding, pass->mask, values);
    }
    arena_release(pass->arena, mark);
    return status;
}

static void send_part(void *context, int part)
{
    struct train_step *step = context;
    gradient_exchange_start(step->exchange, step->gradients, part);
}

static enum voco_status ask_backward(void *context)
{
    const struct passes *p = context;
    const struct backward_listener listener = {send_part, p->step};
    return pass_backward(p->pass, p->step->gradients, p->dembedding, p->kept, p->kept_chunks,
                         p->step->exchange != NULL ? &listener : NULL);
}

/* From then on loss and signals can be measured, while operations that are asked for later go on. */
static enum voco_status own_embeddings_to_gradient(struct passes *passes)
{
    const struct batch_pass *pass = passes->pass;
    send_mask(passes->step, pass);
    pass_send_labels(pass);
    const enum voco_status status =
        step_recordings_pass(passes->step->recordings, PASS_PROJECTION, pass->arena, ask_projection, passes);
    copies_follow_operations(pass->copies);
    return status;
}

/* The same on the embeddings of all ranks, of which dembedding gets the own. */
static enum voco_status all_embeddings_to_gradient(const struct passes *own, struct step_result *result)
{
    struct train_step *step = own->step;
    const struct batch_pass *pass = own->pass;
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    const struct arena_mark mark = arena_mark(pass->arena);
    struct batch_pass whole;
    struct batch batch;
    enum voco_status status = gather_pass(&whole, &batch, step, pass, result);
    real *of_all = arena_push(pass->arena, (size_t)whole.rows * features * sizeof *of_all);
    if (status == VOCO_OK && of_all == NULL) {
        status = fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", whole.rows);
    }
    if (status == VOCO_OK) {
        struct passes passes = {.step = step, .pass = &whole, .dembedding = of_all};
        status = own_embeddings_to_gradient(&passes);
    }
    if (status == VOCO_OK) {
        status = pass_fetch_measures(&whole);
    }
    if (status == VOCO_OK) {
        status = pass_measure(&whole, result);
    }
    if (status == VOCO_OK) {
        take_own_rows(step, pass, &whole, own->dembedding, of_all);
        leave_student_to_first(step);
    }
    arena_release(pass->arena, mark);
    return status;
}

static int is_together(const struct train_step *step)
{
    return step->exchange != NULL && step->settings.sync_bn;
}

static enum voco_status embeddings_to_gradient(struct passes *passes, struct step_result *result)
{
    struct train_step *step = passes->step;
    double since = seconds_now();
    const double waited = result->seconds.communication;
    const enum voco_status status =
        is_together(step) ? all_embeddings_to_gradient(passes, result) : own_embeddings_to_gradient(passes);
    if (status == VOCO_OK && step->exchange != NULL) {
        send_part(step, backbone_parts);
    }
    count_time(&result->seconds.projector_and_loss, &since);
    result->seconds.projector_and_loss -= result->seconds.communication - waited;
    return status;
}

/* A step of one process, whose operations are not told apart, is always the same. */
static void begin_recording(struct train_step *step, const struct batch_pass *pass, int kept_chunks)
{
    const struct batch *batch = pass->batch;
    const struct pass_places places = {
        .voxels = pass->voxels,
        .embedding = pass->embedding,
        .volumes = batch->volumes,
        .crops = batch->crops,
        .bases = batch->bases,
        .crops_at_once = pass->crops_at_once,
        .kept_chunks = kept_chunks,
    };
    const int recorded = step->exchange == NULL && step->compute->record_begin != NULL;
    step_recordings_begin(step->recordings, recorded ? &places : NULL);
}

/* Forward, loss, backward, with the teacher where it is. */
static enum voco_status fill_gradients(struct train_step *step, struct batch_pass *pass,
                                       struct step_result *result, const struct batch_outputs *outputs)
{
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    const int count = chunks_to_keep(step, pass);
    double since = seconds_now();
    struct passes passes = {
        .step = step,
        .pass = pass,
        .dembedding = arena_push(pass->arena, (size_t)pass->rows * features * sizeof(real)),
        .kept = arena_push_host(pass->arena, (size_t)count * sizeof *passes.kept),
        .kept_chunks = count,
    };
    if (passes.dembedding == NULL || passes.kept == NULL) {
        return fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", pass->rows);
    }
    begin_recording(step, pass, count);
    begin_phase(step, STEP_ENCODER_FORWARD);
    enum voco_status status =
        step_recordings_pass(step->recordings, PASS_FORWARD, pass->arena, ask_forward, &passes);
    if (status == VOCO_OK && is_together(step)) {
        status = pass_fetch_embeddings(pass);
    }
    count_time(&result->seconds.encoder_forward, &since);
    if (status == VOCO_OK) {
        begin_phase(step, STEP_PROJECTOR_AND_LOSS);
        status = embeddings_to_gradient(&passes, result);
        since = seconds_now();
    }
    if (status == VOCO_OK) {
        begin_phase(step, STEP_ENCODER_BACKWARD);
        status = step_recordings_pass(step->recordings, PASS_BACKWARD, pass->arena, ask_backward, &passes);
        count_time(&result->seconds.encoder_backward, &since);
    }
    if (status == VOCO_OK && !is_together(step)) {
        status = pass_fetch_measures(pass);
        count_time(&result->seconds.encoder_backward, &since);
    }
    if (status == VOCO_OK && !is_together(step)) {
        status = pass_measure(pass, result); /* while a device is at work on what was queued */
        count_time(&result->seconds.projector_and_loss, &since);
    }
    if (status == VOCO_OK && step->exchange != NULL) {
        step->compute->wait(step->compute); /* what is then waited for is the other ranks' */
        count_time(&result->seconds.encoder_backward, &since);
        gradient_exchange_finish(step->exchange);
        count_time(&result->seconds.communication, &since);
    }
    return status != VOCO_OK ? status : pass_give_outputs(pass, outputs);
}

enum voco_status train_step_gradients(struct train_step *step, const struct batch *batch,
                                      struct step_result *result, const struct batch_outputs *outputs)
{
    double since = seconds_now();
    const real *voxels = NULL;
    *result = (struct step_result){0};
    begin_phase(step, STEP_ENCODER_FORWARD);
    enum voco_status status = step_crops_take(step, batch, &voxels);
    struct batch_pass pass = {.model = step->model,
                              .compute = step->compute,
                              .copies = &step->copies,
                              .arena = &step->arena,
                              .params = step->arrays.params,
                              .batch = batch,
                              .crops_at_once = step->settings.crops_at_once,
                              .masked = 1,
                              .voxels = voxels};
    if (status == VOCO_OK) {
        status = pass_begin(&pass);
    }
    count_time(&result->seconds.encoder_forward, &since);
    if (status == VOCO_OK) {
        begin_phase(step, STEP_OPTIMISER);
        move_teacher(step);
        count_time(&result->seconds.optimiser, &since);
        status = fill_gradients(step, &pass, result, outputs);
        if (status != VOCO_OK) {
            (void)copy_queue_wait(&step->copies);
            undo_teacher(step);
        }
    }
    step_crops_alone(step);
    return status;
}

/* Squares of a shared step are summed on the host. */
static void find_squares(struct train_step *step, struct step_result *result)
{
    struct compute *c = step->compute;
    if (step->exchange == NULL) {
        c->sum_of_squares(c, step->squares, step->gradients, step->model->table.trained);
    } else {
        *step->host_squares = share_result(step, result);
        if (c->separate_memory) {
            c->to_device(c, step->squares, step->host_squares, sizeof *step->squares);
        }
    }
}

static void take_update(struct train_step *step, double learning_rate, struct step_result *result)
{
    struct compute *c = step->compute;
    const struct adamw_settings adamw = {
        .learning_rate = learning_rate,
        .beta1 = step->settings.beta1,
        .beta2 = step->settings.beta2,
        .epsilon = step->settings.epsilon,
        .weight_decay = step->settings.weight_decay,
        .step = (long)step->state->optimizer_step + 1,
        .clip_norm = step->settings.clip_norm,
    };
    if (step->exchange != NULL && step->exchange->sharded) {
        update_own_slices(step, &adamw, result);
    } else {
        c->adamw_step(c, step->arrays.params, step->arrays.exp_avg, step->arrays.exp_avg_sq,
                      step->arrays.max_exp_avg_sq, step->gradients, step->squares, &adamw,
                      step->model->table.trained);
    }
    c->undo_if_skipped(c, teacher_of(step), step->previous_teacher, step->squares, teacher_size(step));
    c->parameters_changed(c);
}

enum voco_status train_step_ask_update(struct train_step *step, double learning_rate,
                                       struct step_result *result)
{
    double since = seconds_now();
    const double waited = result->seconds.communication;
    begin_phase(step, STEP_OPTIMISER);
    find_squares(step, result);
    if (isfinite(result->loss.total)) {
        take_update(step, learning_rate, result);
    } else {
        undo_teacher(step);
    }
    if (step->compute->separate_memory) {
        copies_follow_operations(&step->copies);
        copy_to_host(&step->copies, step->host_squares, step->squares, sizeof *step->squares);
    }
    const enum voco_status status = compute_status(step->compute);
    if (status != VOCO_OK) {
        undo_teacher(step);
    } else {
        step->state->step += 1;
    }
    count_time(&result->seconds.optimiser, &since);
    result->seconds.optimiser -= result->seconds.communication - waited;
    return status;
}

int train_step_runs_ahead(const struct train_step *step)
{
    return step->compute->separate_memory && step->exchange == NULL;
}

enum voco_status train_step_settle(struct train_step *step, struct step_result *result)
{
    double since = seconds_now();
    const enum voco_status status = copy_queue_wait(&step->copies);
    result->gradient_norm = sqrt(*step->host_squares);
    result->skipped = !isfinite(result->loss.total) || !can_update(*step->host_squares);
    if (status == VOCO_OK) {
        step->state->optimizer_step += !result->skipped;
    }
    count_time(&result->seconds.optimiser, &since);
    return status;
}

enum voco_status train_step_update(struct train_step *step, double learning_rate, struct step_result *result)
{
    const enum voco_status status = train_step_ask_update(step, learning_rate, result);
    return status != VOCO_OK ? status : train_step_settle(step, result);
}

enum voco_status train_step_run(struct train_step *step, const struct batch *batch, double learning_rate,
                                struct step_result *result, const struct batch_outputs *outputs)
{
    const enum voco_status status = train_step_gradients(step, batch, result, outputs);
    return status != VOCO_OK ? status : train_step_update(step, learning_rate, result);
}
