#include "train/run_memory.h"

#include "base/byte_size.h"
#include "base/error.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "compute/compute_arena.h"

#include <string.h>

/* For what is not measured: buffers that come and go, the pieces that memory falls into. */
static const uint64_t margin = (uint64_t)24 << 20;

/* Of a device's memory, for the same. */
static const uint64_t device_margin = (uint64_t)1 << 30;

/* Everything as long as the parameters or a part of them: parameters, three moments, gradient, the teacher as
 * it was. */
static uint64_t state_bytes(const struct parameter_table *table, size_t moments)
{
    return (2 * (uint64_t)table->total + 3 * (uint64_t)moments) * sizeof(real);
}

struct memory_limit memory_limit_of(uint64_t setting)
{
    return memory_limit_among(setting, 1);
}

struct memory_limit memory_limit_among(uint64_t setting, int processes)
{
    if (setting > 0) {
        return (struct memory_limit){setting, 1};
    }
    return (struct memory_limit){memory_resident() + memory_available() / 4 * 3 / (uint64_t)processes, 0};
}

/* As --memory takes it. */
static unsigned long long in_mebibytes(uint64_t bytes)
{
    return (bytes + ((uint64_t)1 << 20) - 1) >> 20;
}

/* The limit to name for what was measured: another run may measure a little more. */
static uint64_t sure_to_hold(uint64_t measured)
{
    return measured + measured / 32;
}

enum voco_status check_memory_for_state(const struct memory_limit *limit, const struct model *model,
                                        size_t moments)
{
    const uint64_t state = state_bytes(&model->table, moments), before = memory_resident() + margin;
    if (!limit->asked_for || before + state <= limit->bytes) {
        return VOCO_OK;
    }
    /* src/model/encoder.c: a crop's activations are 10.4 tensors of (R^3, C) */
    const uint64_t side = (uint64_t)model->config.roi;
    const uint64_t crop = 11 * side * side * side * (uint64_t)model->config.feature_size * sizeof(real);
    char size[byte_size_room], of_state[byte_size_room];
    return fail(
        VOCO_BAD_INPUT,
        "%s of memory are too little: parameters, moments and gradient of this model take %s; the least "
        "is about %lluM",
        format_memory_size(size, limit->bytes), format_memory_size(of_state, state),
        in_mebibytes(before + state + crop));
}

/* Passes of so many crops, and what the process has afterwards without their activations. */
static enum voco_status measure(struct memory_demand *demand, struct train_step *step, int crops)
{
    const enum voco_status status = train_step_resize(step, crops, 0);
    compute_arena_close(&step->arena, step->compute);
    memory_give_back();
    demand->resident = memory_resident() + margin;
    demand->crop_kept = step->crop_kept;
    demand->crop_peak = step->crop_peak;
    return status;
}

/* Plans with what passes of at most `at_once` crops take, and those with what they leave of the batch.
 * Nothing stays of passes of another size that came before. */
static enum voco_status plan_passes(struct memory_plan *plan, struct memory_demand *demand,
                                    struct train_step *step, int at_once)
{
    const int rest = demand->crops % at_once;
    enum voco_status status = compute_restart(step->compute);
    if (status == VOCO_OK && rest > 0) {
        status = measure(demand, step, rest);
    }
    if (status == VOCO_OK) {
        status = measure(demand, step, at_once);
    }
    demand->crops_at_once = at_once;
    memory_plan_make(plan, demand);
    return status;
}

/* Passes of 1 crop show what can be expected to fit; passes of that size show whether it does. */
static enum voco_status measure_and_plan(struct memory_plan *plan, struct memory_demand *demand,
                                         struct train_step *step)
{
    const int wanted = demand->crops_at_once;
    enum voco_status status = measure(demand, step, 1);
    memory_plan_make(plan, demand);
    const uint64_t least = plan->least;
    int at_once = plan->crops_at_once;
    int settled = at_once == 1;
    while (status == VOCO_OK && !settled) {
        status = plan_passes(plan, demand, step, at_once);
        settled = at_once == 1 || (plan->fits && plan->crops_at_once == at_once);
        at_once = settled ? at_once : equal_passes(demand->crops, at_once - 1);
    }
    demand->crops_at_once = wanted;
    plan->least = least;
    return status;
}

/* Passes of so many crops on a device, and of what they leave of the batch. */
static enum voco_status pass_on_device(struct train_step *step, const struct memory_demand *demand,
                                       int at_once)
{
    const int rest = demand->crops % at_once;
    enum voco_status status = rest > 0 ? train_step_resize(step, rest, 0) : VOCO_OK;
    return status == VOCO_OK ? train_step_resize(step, at_once, 0) : status;
}

/* Of a device's memory: what is left when passes have taken what they need for good goes to activations. The
 * loader's batches and chunks are the host's. */
static enum voco_status plan_device_memory(struct memory_plan *plan, struct memory_demand *demand,
                                           struct train_step *step, const struct memory_limit *limit)
{
    struct compute *c = step->compute;
    char text[memory_plan_text_size], size[byte_size_room];
    int at_once = demand->crops_at_once;
    enum voco_status status = pass_on_device(step, demand, at_once);
    while (status == VOCO_NO_MEMORY && at_once > 1) {
        at_once = equal_passes(demand->crops, at_once / 2);
        status = pass_on_device(step, demand, at_once);
    }
    if (status != VOCO_OK) {
        return status;
    }
    compute_arena_close(&step->arena, c);
    const uint64_t free_memory = c->free_memory(c),
                   kept_free = free_memory / 8 < device_margin ? free_memory / 8 : device_margin;
    const uint64_t voxels = (uint64_t)demand->crops * (uint64_t)step->model->config.roi *
                            (uint64_t)step->model->config.roi * (uint64_t)step->model->config.roi;
    const struct memory_demand on_device = {
        .limit = limit->asked_for ? limit->bytes : free_memory - kept_free + demand->state,
        .resident = demand->state,
        .state = demand->state,
        .projection = demand->projection + demand->travelling + voxels * sizeof(real),
        .crop_kept = step->crop_kept,
        .crop_peak = step->crop_peak,
        .crops = demand->crops,
        .crops_at_once = at_once};
    memory_plan_make(plan, &on_device);
    plan->chunk_cache = demand->chunk_cache;
    if (!plan->fits || plan->expected > free_memory + demand->state) {
        return fail(VOCO_NO_MEMORY, "a step needs %.2f GiB of the GPU's memory, and there are %.2f",
                    (double)plan->least / (1 << 30), (double)on_device.limit / (1 << 30));
    }
    log_line(LOG_INFO, "memory of the GPU, %s free: %s", format_byte_size(size, (double)free_memory),
             memory_plan_describe(text, plan, &on_device));
    step->batch_room = on_device.projection;
    return train_step_resize(step, plan->crops_at_once, plan->activations);
}

enum voco_status plan_run_memory(struct memory_plan *plan, struct memory_demand *demand,
                                 struct train_step *step, const struct memory_limit *limit)
{
    char size[byte_size_room], other[byte_size_room], text[memory_plan_text_size];
    demand->limit = limit->bytes;
    demand->state = state_bytes(&step->model->table, step->state->moments);
    if (step->compute->separate_memory) {
        return plan_device_memory(plan, demand, step, limit);
    }
    enum voco_status status = measure_and_plan(plan, demand, step);
    if (status != VOCO_OK) {
        return status;
    }
    if (!plan->fits && limit->asked_for) {
        return fail(VOCO_BAD_INPUT, "%s of memory are too little: the least for this run is %lluM",
                    format_memory_size(size, limit->bytes), in_mebibytes(sure_to_hold(plan->least)));
    }
    if (!plan->fits) {
        log_line(LOG_WARNING, "this machine has %s to give, and the least for this run is %s",
                 format_memory_size(size, limit->bytes), format_memory_size(other, plan->least));
    }
    if (plan->crops_at_once < demand->crops_at_once && plan->crops_at_once < demand->crops) {
        log_line(LOG_WARNING,
                 "only %d of %d crops fit into memory at a time: sums are made in another order than with "
                 "more memory, so the last digits differ",
                 plan->crops_at_once, demand->crops_at_once);
    }
    log_line(LOG_INFO, "memory: %s", memory_plan_describe(text, plan, demand));
    return train_step_resize(step, plan->crops_at_once, plan->activations);
}

enum voco_status measure_forward_memory(uint64_t *need, uint64_t *activations, const struct model *model,
                                        struct compute *compute, const real *params, int crops,
                                        uint64_t beside)
{
    const size_t side = (size_t)model->config.roi, voxels = (size_t)crops * side * side * side;
    struct arena arena;
    *need = *activations = 0;
    if (compute->separate_memory) {
        return VOCO_OK; /* the device's memory is another matter, and its arena says when it is full */
    }
    enum voco_status status = evaluation_arena_open(&arena, compute);
    if (status != VOCO_OK) {
        return status;
    }
    real *batch = arena_push(&arena, voxels * sizeof *batch);
    real *embedding =
        arena_push(&arena, (size_t)crops * (size_t)model_embedding_size(&model->config) * sizeof *embedding);
    if (batch == NULL || embedding == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for %d crops", crops);
    } else {
        memset(batch, 0, voxels * sizeof *batch);
        status = encoder_forward(model, compute, &arena, params, embedding, batch, crops, NULL);
    }
    *activations = arena.peak;
    compute_arena_close(&arena, compute);
    memory_give_back();
    *need = memory_resident() + margin + *activations + beside;
    return status;
}

enum voco_status fit_evaluation_memory(struct evaluation_settings *settings, const struct model *model,
                                       struct compute *compute, const real *params, size_t volumes,
                                       const struct memory_limit *limit)
{
    const uint64_t beside = evaluation_memory(&model->config, settings, volumes);
    char size[byte_size_room];
    uint64_t need = 0, activations = 0;
    enum voco_status status =
        measure_forward_memory(&need, &activations, model, compute, params, settings->crops_at_once, beside);
    if (status == VOCO_OK && need > limit->bytes && settings->crops_at_once > 1) {
        log_line(LOG_WARNING, "only 1 of %d crops fits into memory at a time", settings->crops_at_once);
        settings->crops_at_once = 1;
        status = compute_restart(compute);
        if (status == VOCO_OK) {
            status = measure_forward_memory(&need, &activations, model, compute, params, 1, beside);
        }
    }
    if (status == VOCO_OK && need > limit->bytes && limit->asked_for) {
        status = fail(VOCO_BAD_INPUT, "%s of memory are too little: the least for this evaluation is %lluM",
                      format_memory_size(size, limit->bytes), in_mebibytes(sure_to_hold(need)));
    }
    return status;
}
