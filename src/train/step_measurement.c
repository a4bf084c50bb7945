#include "train/step_measurement.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/processors.h"
#include "compute/timed_compute.h"
#include "data/loader.h"
#include "data/phantom_shard.h"
#include "train/cache_plan.h"
#include "train/machine.h"
#include "train/run_memory.h"
#include "train/step.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { batches_timed = 5 };

/* The first step creates what later ones reuse. Where a device makes recordings, the second one is recorded
 * (train/step_recording.h). */
static int warm_up_steps(const struct compute *c)
{
    return c->record_begin != NULL ? 2 : 1;
}

/* What one step took. */
struct step_account {
    double seconds, cpu_seconds, waited;
    struct step_seconds phases;
    struct operation_total totals[step_phases][operation_kinds];
};

/* Everything that lives as long as a measurement. */
struct run {
    const struct recipe *recipe;
    const struct step_measurement_settings *settings;
    struct shard phantom;
    struct model model;
    struct training_state state;
    struct compute compute;
    struct timed_compute timer;
    struct train_step step;
    struct loader *loader;
    const struct batch *ahead; /* the next step's batch, on its way; NULL: not yet */
    struct step_result asked;  /* of the last step, where its update is not settled yet */
    int is_asked;
    struct step_account *accounts; /* (steps) */
    struct step_account *current;
    struct step_account warm_up;
    struct step_account waited; /* of the step in which each operation is waited for, see timed_compute.h */
    uint64_t free_memory;       /* of separate memory, before anything of the run was there */
};

/* ---- data ---- */

/* Where windows are cropped, a volume is larger than the window and they begin anywhere in its chunks. */
static enum voco_status open_phantom(struct run *r)
{
    struct cache_settings settings;
    enum voco_status status = cache_settings_of_recipe(&settings, r->recipe);
    if (status != VOCO_OK) {
        return status;
    }
    const int more = settings.preset.window == WINDOW_CROP ? r->recipe->model.roi / 2 : 0;
    const int size[3] = {settings.window[0] + more, settings.window[1] + more, settings.window[2] + more};
    return phantom_shard_open(&r->phantom, &settings.preset, size, settings.levels, r->recipe->seed, 0,
                              r->settings->threads > 0 ? r->settings->threads : processor_count());
}

static struct batch_source source_of(struct run *r)
{
    return (struct batch_source){.shards = &r->phantom,
                                 .count = 1,
                                 .volumes = r->recipe->volumes,
                                 .form = machine_voxel_form(&r->compute, r->phantom.levels),
                                 .memory = machine_batch_memory(&r->compute),
                                 .sampling = r->recipe->sampling,
                                 .augmentation = r->recipe->augmentation,
                                 .seed = r->recipe->seed};
}

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum voco_status time_batches(double *seconds_per_batch, struct run *r)
{
    double seconds[batches_timed];
    const struct batch_source source = source_of(r);
    struct batch_maker maker = {0};
    struct batch batch = {0};
    enum voco_status status = batch_source_check(&source);
    if (status == VOCO_OK) {
        status = batch_source_create_batch(&batch, &source);
    }
    if (status == VOCO_OK) {
        status = make_batch(&batch, &source, &maker, 0);
    }
    for (int k = 0; k < batches_timed && status == VOCO_OK; k++) {
        const double began = seconds_now();
        status = make_batch(&batch, &source, &maker, (uint64_t)k);
        seconds[k] = seconds_now() - began;
    }
    if (status == VOCO_OK) {
        qsort(seconds, batches_timed, sizeof *seconds, compare_numbers);
        *seconds_per_batch = seconds[batches_timed / 2];
    }
    batch_maker_free(&maker);
    batch_free(&batch);
    return status;
}

/* ---- steps ---- */

static void enter_phase(void *context, enum step_phase phase)
{
    struct run *r = context;
    r->timer.totals = r->current->totals[phase];
}

static enum voco_status open_step(struct run *r)
{
    const struct recipe *recipe = r->recipe;
    const int bases = sampling_bases(&recipe->sampling);
    const int crops = recipe->volumes * (recipe->sampling.crops + bases);
    const struct memory_limit limit = memory_limit_of(recipe->memory);
    struct train_step_settings settings = train_step_settings_of(recipe, crops);
    struct memory_demand demand = {
        .projection =
            train_step_projection_bytes(&recipe->model, recipe->volumes, recipe->sampling.crops, bases),
        .crops = crops,
        .crops_at_once = settings.crops_at_once,
    };
    settings.crops_at_once = 1;
    enum voco_status status = model_create(&r->model, &recipe->model);
    if (status == VOCO_OK) {
        status = training_state_create(&r->state, &r->model.table);
    }
    if (status == VOCO_OK) {
        status = machine_open(&r->compute, recipe->compute, r->settings->threads, recipe->precision);
    }
    if (status == VOCO_OK && r->compute.separate_memory) {
        r->free_memory = r->compute.free_memory(&r->compute);
    }
    if (status == VOCO_OK) {
        const struct batch_source source = source_of(r);
        demand.batches = loader_memory(&source, recipe->loader_threads, recipe->loader_ahead);
        demand.travelling = batch_source_crop_bytes(&source);
        training_state_place(&r->state, &r->model.table, &r->compute);
        parameters_initialise(r->state.params, &r->model.table, recipe->seed);
        status = train_step_create(&r->step, &r->model, &r->compute, &r->state, &settings);
    }
    if (status == VOCO_OK && r->settings->activation_budget > 0) {
        status = train_step_resize(&r->step, demand.crops_at_once, r->settings->activation_budget);
    } else if (status == VOCO_OK) {
        struct memory_plan plan;
        status = plan_run_memory(&plan, &demand, &r->step, &limit);
    }
    if (status == VOCO_OK) {
        timed_compute_open(&r->timer, &r->compute, r->warm_up.totals[0]);
    }
    if (status == VOCO_OK && !r->compute.separate_memory) {
        r->step.compute = &r->timer.compute;
    }
    r->step.phase_begins = enter_phase;
    r->step.phase_context = r;
    return status;
}

/* As in a run: what fails comes again when the step is due. */
static void look_ahead(struct run *r)
{
    if (r->compute.separate_memory && loader_next(r->loader, &r->ahead) == VOCO_OK) {
        (void)train_step_bring(&r->step, r->ahead);
    }
}

static enum voco_status settle(struct run *r)
{
    if (!r->is_asked) {
        return VOCO_OK;
    }
    r->is_asked = 0;
    const enum voco_status status = train_step_settle(&r->step, &r->asked);
    return status == VOCO_OK && r->asked.skipped
               ? fail(VOCO_DIVERGED, "a step's loss or gradient is not finite")
               : status;
}

/* A batch, and a step on it, as in a run. */
static enum voco_status take_step(struct run *r, struct step_account *account)
{
    const struct batch *batch = r->ahead;
    const double waited = loader_waited_seconds(r->loader);
    const double began = seconds_now(), cpu_began = cpu_seconds_now();
    r->current = account;
    enum voco_status status = batch != NULL ? VOCO_OK : loader_next(r->loader, &batch);
    r->ahead = NULL;
    if (status != VOCO_OK) {
        return status;
    }
    struct step_result result;
    status = train_step_gradients(&r->step, batch, &result, NULL);
    if (status == VOCO_OK) {
        status = settle(r);
    }
    if (status == VOCO_OK) {
        look_ahead(r);
        status = train_step_ask_update(&r->step, r->recipe->learning_rate, &result);
    }
    if (status == VOCO_OK) {
        r->asked = result;
        r->is_asked = 1;
    }
    if (status == VOCO_OK && (r->timer.waits || !train_step_runs_ahead(&r->step))) {
        status = settle(r);
        result = r->asked;
    }
    account->seconds = seconds_now() - began;
    account->cpu_seconds = cpu_seconds_now() - cpu_began;
    account->waited = loader_waited_seconds(r->loader) - waited;
    account->phases = result.seconds;
    return status;
}

static enum voco_status take_steps(struct run *r)
{
    const struct batch_source source = source_of(r);
    enum voco_status status =
        loader_open(&r->loader, &source, 0, r->recipe->loader_threads, r->recipe->loader_ahead);
    for (int k = 0; k < warm_up_steps(&r->compute) && status == VOCO_OK; k++) {
        log_line(LOG_PROGRESS, "a step to warm up");
        status = take_step(r, &r->warm_up);
    }
    for (int k = 0; k < r->settings->steps && status == VOCO_OK; k++) {
        log_line(LOG_PROGRESS, "step %d of %d", k + 1, r->settings->steps);
        status = take_step(r, &r->accounts[k]);
    }
    if (status == VOCO_OK) {
        status = settle(r);
    }
    if (status == VOCO_OK && r->compute.separate_memory) { /* in others operations are not told apart */
        r->step.compute = &r->timer.compute;
        r->timer.waits = 1;
        status = take_step(r, &r->waited);
    }
    return status;
}

/* ---- what they say ---- */

static int compare_accounts(const void *a, const void *b)
{
    const double x = ((const struct step_account *)a)->seconds, y = ((const struct step_account *)b)->seconds;
    return (x > y) - (x < y);
}

static double fewest_cpu_seconds(const struct step_account *accounts, int steps)
{
    double fewest = accounts[0].cpu_seconds;
    for (int k = 1; k < steps; k++) {
        fewest = accounts[k].cpu_seconds < fewest ? accounts[k].cpu_seconds : fewest;
    }
    return fewest;
}

static double encoder_flops(const struct step_account *account)
{
    double sum = 0;
    for (int kind = 0; kind < operation_kinds; kind++) {
        sum += account->totals[STEP_ENCODER_FORWARD][kind].flops +
               account->totals[STEP_ENCODER_BACKWARD][kind].flops;
    }
    return sum;
}

static void divide_seconds(struct part_cost parts[step_parts], const struct step_account *account)
{
    static const enum operation_kind kind_of[PART_ELEMENTWISE + 1] = {
        [PART_CONVOLUTION] = OPERATION_CONVOLUTION, [PART_LINEAR] = OPERATION_LINEAR,
        [PART_ATTENTION] = OPERATION_ATTENTION,     [PART_NORMS] = OPERATION_NORM,
        [PART_ELEMENTWISE] = OPERATION_ELEMENTWISE,
    };
    for (int part = 0; part <= PART_ELEMENTWISE; part++) {
        const struct operation_total *forward = &account->totals[STEP_ENCODER_FORWARD][kind_of[part]];
        const struct operation_total *backward = &account->totals[STEP_ENCODER_BACKWARD][kind_of[part]];
        parts[part].seconds = forward->seconds + backward->seconds;
        parts[part].bytes = forward->bytes + backward->bytes;
    }
    parts[PART_PROJECTORS_AND_LOSS].seconds = account->phases.projector_and_loss;
    parts[PART_OPTIMISER].seconds = account->phases.optimiser;
    parts[PART_OPTIMISER].bytes = account->totals[STEP_OPTIMISER][OPERATION_OPTIMISER].bytes;
    parts[PART_DATA].seconds = account->waited;
    parts[PART_REST].seconds = account->seconds;
    for (int part = 0; part < PART_REST; part++) {
        parts[PART_REST].seconds -= parts[part].seconds;
    }
}

static void conclude(struct step_measurement *m, const struct run *r)
{
    const struct recipe *recipe = r->recipe;
    const int steps = r->settings->steps;
    qsort(r->accounts, (size_t)steps, sizeof *r->accounts, compare_accounts);
    const struct step_account *median = &r->accounts[(steps - 1) / 2];
    m->volumes = recipe->volumes;
    m->crops = recipe->volumes * (recipe->sampling.crops + sampling_bases(&recipe->sampling));
    m->precision = recipe->precision;
    m->steps = steps;
    m->seconds = median->seconds;
    m->fastest = r->accounts[0].seconds;
    m->slowest = r->accounts[steps - 1].seconds;
    m->cpu_seconds = fewest_cpu_seconds(r->accounts, steps);
    const struct step_account *divided = r->compute.separate_memory ? &r->waited : median;
    divide_seconds(m->parts, divided);
    m->parts_seconds = divided->seconds;
    const struct step_arithmetic useful = step_arithmetic_of(&recipe->model, m->crops);
    m->parts[PART_CONVOLUTION].flops = useful.convolution;
    m->parts[PART_LINEAR].flops = useful.linear;
    m->parts[PART_ATTENTION].flops = useful.attention;
    m->parts[PART_PROJECTORS_AND_LOSS].flops = useful.projectors;
    m->useful_flops = step_arithmetic_sum(&useful);
    m->repeated_flops = encoder_flops(divided) - (m->useful_flops - useful.projectors);
}

static uint64_t most_memory(struct run *r)
{
    struct rusage usage = {0};
    if (r->compute.separate_memory) {
        return r->free_memory - r->compute.free_memory(&r->compute);
    }
    (void)getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

static enum voco_status measure_machine(struct step_measurement *m, struct run *r)
{
    struct compute *c = &r->compute;
    log_line(LOG_PROGRESS, "measuring what the machine can do");
    const enum voco_status status = c->measure_peak != NULL
                                        ? c->measure_peak(c, &m->machine)
                                        : machine_peak_measure(&m->machine, r->settings->threads);
    const double of_precision[] = {[PRECISION_FLOAT32] = m->machine.float32_flops,
                                   [PRECISION_BF16] = m->machine.bf16_flops,
                                   [PRECISION_TF32] = m->machine.tf32_flops};
    m->peak_flops = of_precision[m->precision] > 0 ? of_precision[m->precision] : m->machine.float32_flops;
    return status;
}

enum voco_status step_measurement_take(struct step_measurement *measurement, const struct recipe *recipe,
                                       const struct step_measurement_settings *settings)
{
    *measurement = (struct step_measurement){0};
    struct run r = {.recipe = recipe, .settings = settings, .phantom.file = -1};
    enum voco_status status = VOCO_OK;
    r.accounts = calloc((size_t)settings->steps, sizeof *r.accounts);
    if (r.accounts == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for the account of %d steps", settings->steps);
        goto done;
    }
    status = machine_check(recipe->compute, recipe->precision);
    if (status == VOCO_OK) {
        log_line(LOG_PROGRESS, "drawing a phantom");
        status = open_phantom(&r);
    }
    if (status == VOCO_OK) {
        status = open_step(&r);
    }
    if (status == VOCO_OK) { /* which are of the form that the step takes */
        status = time_batches(&measurement->seconds_per_batch, &r);
    }
    if (status == VOCO_OK) {
        status = take_steps(&r);
    }
    if (status == VOCO_OK) {
        conclude(measurement, &r);
        measurement->peak_memory = most_memory(&r); /* before the machine's measurement takes more */
        train_step_free(&r.step);                   /* its memory may be needed */
        status = measure_machine(measurement, &r);
    }
done:
    train_step_free(&r.step); /* before the batches that may be on their way */
    loader_close(r.loader);
    compute_close(&r.compute);
    training_state_free(&r.state);
    model_free(&r.model);
    shard_close(&r.phantom);
    free(r.accounts);
    return status;
}
