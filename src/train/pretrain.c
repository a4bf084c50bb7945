#include "train/pretrain.h"

#include "base/byte_size.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "compute/compute_arena.h"
#include "train/pretrain_run.h"
#include "train/schedule.h"
#include "train/stored_batch.h"

#include <stdio.h>

static int asked_to_stop(const struct run *run)
{
    return run->options->stop != NULL && *run->options->stop;
}

/* What the other ranks cannot know of: they are ended. */
static enum voco_status give_up(const struct run *run, enum voco_status status)
{
    if (status != VOCO_OK && is_shared(run)) {
        log_line(LOG_ERROR, "rank %d: %s", run->ranks->rank, voco_error_message());
        ranks_abort(run->ranks);
    }
    return status;
}

/* At most four lines a second, so that a terminal stays readable; the last step is always said. */
static void say_progress(struct run *run, const struct step_metrics *metrics)
{
    const double time = seconds_now();
    const long long total = run->folder.recipe.steps;
    const long long done = metrics->step + 1;
    if (time - run->last_progress < 0.25 && done < total) {
        return;
    }
    run->last_progress = time;
    char left[32];
    const double rate = (time - run->started) / (double)(done - run->first_step);
    log_line(LOG_PROGRESS,
             "step %lld/%lld  loss %.3f (intra %.3f inter %.3f reg %.3f)  position %.2f  correlation %.2f  "
             "rank %.1f  "
             "lr %.1e  %.1f crops/s  %s left",
             done, total, metrics->loss, metrics->intra, metrics->inter, metrics->reg,
             metrics->position_accuracy, metrics->correlation, metrics->effective_rank,
             metrics->learning_rate, metrics->crops_per_second,
             format_duration(left, rate * (double)(total - done)));
}

static void add_seconds(struct run *run, const struct asked_step *asked)
{
    const struct step_seconds *seconds = &asked->result.seconds;
    if (asked->number == run->first_step) {
        return; /* the first step also creates what later ones reuse */
    }
    run->seconds.encoder_forward += seconds->encoder_forward;
    run->seconds.projector_and_loss += seconds->projector_and_loss;
    run->seconds.encoder_backward += seconds->encoder_backward;
    run->seconds.optimiser += seconds->optimiser;
    run->seconds.communication += seconds->communication;
    run->step_seconds += asked->seconds;
}

/* The batch of the next step; run->stopping where there is none because a rank was asked to stop. One look at
 * what all ranks have to say: none begins a step that another does not make. */
static enum voco_status next_batch(struct run *run, const struct batch **batch)
{
    enum { going_on, stop, failed };
    int outcome = asked_to_stop(run) ? stop : going_on;
    enum voco_status status = VOCO_OK;
    if (outcome != stop && run->ahead != NULL) {
        *batch = run->ahead;
    } else if (outcome != stop) {
        status = loader_next(run->loader, batch);
    }
    run->ahead = NULL;
    outcome = status != VOCO_OK ? failed : outcome;
    ranks_largest(run->ranks, &outcome);
    run->stopping = outcome == stop || *batch == NULL; /* which only one that stops lacks */
    return outcome == failed ? ranks_agree(run->ranks, status) : VOCO_OK;
}

/* The next step's crops travel while a device computes. What fails comes again when that step is due. */
static void look_ahead(struct run *run)
{
    if (run->compute.separate_memory && run->state.step + 1 < run->folder.recipe.steps &&
        loader_next(run->loader, &run->ahead) == VOCO_OK) {
        (void)train_step_bring(&run->step, run->ahead);
    }
}

static struct step_metrics metrics_of(const struct asked_step *asked)
{
    const struct step_result *result = &asked->result;
    return (struct step_metrics){.step = asked->number,
                                 .loss = result->loss.total,
                                 .intra = result->loss.intra,
                                 .inter = result->loss.inter,
                                 .reg = result->loss.reg,
                                 .position_accuracy = position_accuracy(&result->positions),
                                 .correlation = position_correlation(&result->positions),
                                 .feature_spread = result->embeddings.spread,
                                 .effective_rank = result->embeddings.effective_rank,
                                 .learning_rate = asked->learning_rate,
                                 .grad_norm = result->gradient_norm,
                                 .skipped = result->skipped,
                                 .seconds = asked->seconds,
                                 .crops_per_second = asked->crops / asked->seconds,
                                 .communication_seconds = result->seconds.communication};
}

/* Says of a step whose update was asked for, if there is one, what became of it. */
static enum voco_status finish_step(struct run *run)
{
    struct asked_step *asked = &run->asked;
    if (!asked->is_there) {
        return VOCO_OK;
    }
    asked->is_there = 0;
    const double since = seconds_now();
    enum voco_status status = give_up(run, train_step_settle(&run->step, &asked->result));
    asked->seconds += seconds_now() - since;
    if (status != VOCO_OK) {
        return status;
    }
    add_seconds(run, asked);
    const struct step_metrics metrics = metrics_of(asked);
    tensorboard_log_append(&run->tensorboard, &metrics);
    if (is_first(run)) {
        status = give_up(run, metrics_log_append(&run->metrics, &metrics));
    }
    if (status != VOCO_OK) {
        return status;
    }
    say_progress(run, &metrics);
    run->skipped_in_row = metrics.skipped ? run->skipped_in_row + 1 : 0;
    if (metrics.skipped) {
        run->report->skipped++;
        log_line(LOG_WARNING, "step %lld was skipped: its loss or gradient is not finite (%d in a row)",
                 metrics.step, run->skipped_in_row);
    }
    if (run->skipped_in_row >= run->folder.recipe.max_skipped) {
        return fail(
            VOCO_DIVERGED,
            "%s: stopped at step %lld: %d steps in a row without a finite loss and gradient; try a lower "
            "learning rate or clip_norm",
            run->options->out, metrics.step + 1, run->skipped_in_row);
    }
    return VOCO_OK;
}

/* The gradients of this step, the end of the one before, and then this one's update. */
static enum voco_status step_on(struct run *run, const struct batch *batch, struct asked_step *step)
{
    enum voco_status status = give_up(run, train_step_gradients(&run->step, batch, &step->result, NULL));
    if (status == VOCO_OK) {
        status = finish_step(run);
    }
    if (status == VOCO_OK) {
        look_ahead(run);
        status = give_up(run, train_step_ask_update(&run->step, step->learning_rate, &step->result));
    }
    return status;
}

/* Leaves run->asked, unless run->stopping. */
static enum voco_status ask_for_step(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    const struct schedule schedule = {.kind = recipe->schedule,
                                      .learning_rate = recipe->learning_rate,
                                      .warmup = recipe->warm_up,
                                      .total = recipe->steps};
    const double began = seconds_now();
    const struct batch *batch = NULL;
    enum voco_status status = next_batch(run, &batch);
    if (status != VOCO_OK || run->stopping) {
        return status;
    }
    struct asked_step step = {.is_there = 1,
                              .number = run->state.step,
                              .crops = recipe->volumes * (batch->crops + batch->bases),
                              .learning_rate = schedule_learning_rate(&schedule, run->state.step)};
    if (step.number == run->first_step) {
        tensorboard_log_crops(&run->tensorboard, step.number, batch);
    }
    status = step_on(run, batch, &step);
    if (status == VOCO_OK) {
        step.seconds = seconds_now() - began;
        run->asked = step;
    }
    return status;
}

static int checkpoint_is_due(const struct run *run)
{
    const long long every = run->folder.recipe.checkpoint_every;
    return every > 0 && run->state.step % every == 0;
}

static enum voco_status train(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    long long saved = run->report->checkpoint[0] != '\0' ? run->state.step : -1;
    run->first_step = run->state.step;
    run->started = seconds_now();
    enum voco_status status = VOCO_OK;
    while (status == VOCO_OK && run->state.step < recipe->steps && !run->stopping) {
        status = ask_for_step(run);
        const int saves = !run->stopping && checkpoint_is_due(run);
        if (status == VOCO_OK && (saves || !train_step_runs_ahead(&run->step))) {
            status = finish_step(run);
        }
        if (status == VOCO_OK && saves) {
            status = run_save(run);
            saved = run->state.step;
        }
    }
    if (status == VOCO_OK) {
        status = finish_step(run);
    }
    if (status == VOCO_OK && saved != run->state.step) {
        status = run_save(run);
    }
    run->report->steps = run->state.step;
    return status;
}

/* Where the time of a step went, and how much memory the run took. */
static void say_costs(const struct run *run)
{
    const long long counted = run->state.step - run->first_step - 1;
    if (counted < 1) {
        return;
    }
    const double n = (double)counted;
    const double parts = run->seconds.encoder_forward + run->seconds.encoder_backward +
                         run->seconds.projector_and_loss + run->seconds.optimiser +
                         run->seconds.communication;
    if (is_shared(run)) {
        log_line(LOG_INFO, "%d processes: waiting for each other took %.3f s per step, %.1f %% of the time",
                 run->ranks->size, run->seconds.communication / n,
                 100 * run->seconds.communication / run->step_seconds);
    }
    char peak[byte_size_room];
    if (run->compute.separate_memory) { /* its parts overlap */
        log_line(LOG_INFO, "%.3f s per step, the rest (data, log, checkpoints) %.3f of it; peak memory %s",
                 run->step_seconds / n, (run->step_seconds - parts) / n,
                 format_memory_size(peak, memory_peak()));
        return;
    }
    log_line(LOG_INFO,
             "%.3f s per step: encoder forward %.3f, encoder backward %.3f, projectors and loss %.3f, "
             "optimiser and "
             "teacher %.3f, the rest (data, log, checkpoints) %.3f; peak memory %s",
             run->step_seconds / n, run->seconds.encoder_forward / n, run->seconds.encoder_backward / n,
             run->seconds.projector_and_loss / n, run->seconds.optimiser / n, (run->step_seconds - parts) / n,
             format_memory_size(peak, memory_peak()));
}

static enum voco_status measure(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    if (run->volumes.held_out.count == 0 || !is_first(run)) {
        return VOCO_OK;
    }
    const struct evaluation_settings settings = evaluation_settings_of(recipe);
    enum voco_status status = VOCO_OK;
    if (run->compute.separate_memory) { /* the step's crops may still lie on its arena */
        compute_arena_close(&run->step.arena, &run->compute);
        status = evaluation_arena_open(&run->step.arena, &run->compute);
    }
    if (status != VOCO_OK) {
        return status;
    }
    status = evaluate(&run->report->evaluation, &run->model, &run->compute, &run->step.arena,
                      run->step.arrays.params, (const char *const *)run->volumes.held_out.arrays,
                      run->volumes.held_out.count, &settings);
    run->report->evaluated = status == VOCO_OK;
    return status;
}

static enum voco_status dump(struct run *run)
{
    struct batch_source source = run_batch_source(run);
    source.part_first = source.part_volumes = 0;
    struct batch_maker maker = {0};
    struct batch batch = {0};
    enum voco_status status = batch_source_create_batch(&batch, &source);
    if (status == VOCO_OK) {
        status = make_batch(&batch, &source, &maker, (uint64_t)run->options->dump_batch);
    }
    char *path = run->report->checkpoint;
    snprintf(path, sizeof run->report->checkpoint, "%s/batch-%08lld.safetensors", run->options->out,
             run->options->dump_batch);
    if (status == VOCO_OK) {
        status = stored_batch_save(path, &batch, &run->folder.recipe.model);
    }
    batch_maker_free(&maker);
    batch_free(&batch);
    return status;
}

/* The evaluation gets its memory. */
static void close_loader(struct run *run)
{
    (void)train_step_bring(&run->step, NULL);
    loader_close(run->loader);
    chunk_cache_close(run->chunks);
    run->loader = NULL;
    run->chunks = NULL;
    memory_give_back();
}

static enum voco_status live(struct run *run)
{
    enum voco_status status = run_begin(run);
    if (status == VOCO_OK && run->options->dump_batch >= 0) {
        return ranks_agree(run->ranks, is_first(run) ? dump(run) : VOCO_OK);
    }
    if (status == VOCO_OK) {
        status = train(run);
    }
    close_loader(run);
    if (status == VOCO_OK) {
        say_costs(run);
        status = run->state.step < run->folder.recipe.steps
                     ? fail(VOCO_STOPPED, "%s: stopped after step %lld", run->options->out, run->state.step)
                     : ranks_agree(run->ranks, measure(run));
    }
    return status;
}

enum voco_status pretrain(const struct pretrain_options *options, struct pretrain_report *report)
{
    *report = (struct pretrain_report){0};
    struct run run = {.options = options, .report = report, .metrics.descriptor = -1};
    run.joined = options->ranks != NULL ? *options->ranks : ranks_alone();
    run.ranks = &run.joined;
    const enum voco_status status = live(&run);
    prepared_volumes_report(&run.volumes);
    tensorboard_log_close(&run.tensorboard);
    metrics_log_close(&run.metrics);
    train_step_free(&run.step);
    gradient_exchange_free(&run.exchange);
    ranks_leave_device(&run.joined);
    compute_close(&run.compute);
    training_state_free(&run.state);
    model_free(&run.model);
    prepared_volumes_free(&run.volumes);
    run_folder_free(&run.folder);
    return status;
}
