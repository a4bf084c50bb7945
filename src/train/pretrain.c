#include "train/pretrain.h"

#include "base/atomic_file.h"
#include "base/byte_size.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "data/loader.h"
#include "train/checkpoint.h"
#include "train/initial_weights.h"
#include "train/machine.h"
#include "train/metrics_log.h"
#include "train/run_folder.h"
#include "train/run_memory.h"
#include "train/schedule.h"
#include "train/step.h"
#include "train/stored_batch.h"
#include "train/tensorboard_log.h"
#include "train/volumes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything that lives as long as a run. */
struct run {
    const struct pretrain_options *options;
    struct pretrain_report *report;
    struct run_folder folder;
    struct memory_limit limit;
    struct prepared_volumes volumes;
    struct model model;
    struct training_state state;
    struct compute compute;
    struct train_step step;
    uint64_t chunk_cache; /* bytes that the plan leaves for it */
    struct chunk_cache *chunks;
    struct loader *loader;
    struct metrics_log metrics;
    int initialised; /* with the weights of options->init */
    struct tensorboard_log tensorboard;
    long long first_step; /* of this life */
    double started;
    double last_progress;
    struct step_seconds seconds; /* sums over this life, without its first step */
    double step_seconds;
};

static int asked_to_stop(const struct run *run)
{
    return run->options->stop != NULL && *run->options->stop;
}

/* run.json as it must be: of a new run from the options, else as it was, with what the user overrides. */
static enum voco_status settle_folder(struct run *run)
{
    const struct pretrain_options *options = run->options;
    const int exists = run_folder_exists(options->out);
    enum voco_status status = VOCO_OK;
    if (exists && !options->resume && options->dump_batch < 0) {
        return fail(VOCO_BAD_INPUT,
                    "%s: a run is here already: add --resume to go on with it, or choose another --out",
                    options->out);
    }
    if (exists && options->resume) {
        status = run_folder_read(&run->folder, options->out);
    } else if (options->data == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: there is no run here to go on with; to begin one, name the data",
                    options->out);
    } else {
        run->folder.recipe = options->recipe;
    }
    if (status == VOCO_OK && options->override != NULL) {
        status = options->override(&run->folder.recipe, exists, options->context);
    }
    if (status == VOCO_OK) {
        status = recipe_check(&run->folder.recipe);
    }
    if (status == VOCO_OK) {
        status = run_folder_place(&run->folder, options->out, options->data, options->cache);
    }
    return status;
}

/* Before volumes are prepared: whether the weights to begin with are there and fit. */
static enum voco_status check_initial_weights(const struct run *run)
{
    const struct pretrain_options *options = run->options;
    char path[checkpoint_path_size] = "";
    if (options->init == NULL || options->dump_batch >= 0) {
        return VOCO_OK;
    }
    const enum voco_status status = checkpoint_newest(path, options->out);
    return status != VOCO_OK || path[0] != '\0'
               ? status
               : initial_weights_check(options->init, options->init_partial, &run->folder.recipe.model);
}

static enum voco_status prepare(struct run *run)
{
    enum voco_status status =
        prepared_volumes_open(&run->volumes, run->folder.data, run->folder.cache, &run->folder.recipe,
                              VOLUMES_TRAINING_AND_HELD_OUT, run->options->stop);
    run->report->volumes = run->volumes.training.count;
    run->report->bad_volumes =
        run->volumes.training.preparation.failure_count + run->volumes.held_out.preparation.failure_count;
    return status;
}

static struct batch_source source_of(const struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    return (struct batch_source){.paths = run->volumes.training.samples,
                                 .count = run->volumes.training.sample_count,
                                 .chunks = run->chunks,
                                 .volumes = recipe->volumes,
                                 .sampling = recipe->sampling,
                                 .augmentation = recipe->augmentation,
                                 .seed = recipe->seed};
}

/* The model, and memory for its state. */
static enum voco_status create_state(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    memory_give_back();
    run->limit = memory_limit_of(recipe->memory);
    enum voco_status status = model_create(&run->model, &recipe->model);
    if (status == VOCO_OK) {
        status = check_memory_for_state(&run->limit, &run->model);
    }
    if (status == VOCO_OK) {
        status = machine_open(&run->compute, recipe->compute, run->options->threads, recipe->precision);
    }
    if (status == VOCO_OK) {
        status = training_state_create(&run->state, &run->model.table);
    }
    if (status == VOCO_OK) {
        training_state_place(&run->state, &run->model.table, &run->compute);
    }
    return status;
}

/* Parameters and moments: from the newest whole checkpoint where there is one; else drawn anew, and then the
 * initial weights that were asked for. */
static enum voco_status load_state(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    enum voco_status status = VOCO_OK;
    char path[checkpoint_path_size] = "";
    status = checkpoint_remove_temporaries(run->options->out);
    if (status == VOCO_OK) {
        status = checkpoint_newest(path, run->options->out);
    }
    if (status != VOCO_OK) {
        return status;
    }
    if (path[0] == '\0') {
        parameters_initialise(run->state.params, &run->model.table, recipe->seed);
        run->initialised = run->options->init != NULL;
        return run->initialised ? initial_weights_load(run->state.params, &run->model, run->options->init,
                                                       run->options->init_partial)
                                : VOCO_OK;
    }
    struct checkpoint checkpoint;
    status = checkpoint_open(&checkpoint, path);
    if (status == VOCO_OK) {
        status = checkpoint_read_state(&checkpoint, &run->model, &run->state);
    }
    checkpoint_close(&checkpoint);
    if (status == VOCO_OK) {
        snprintf(run->report->checkpoint, sizeof run->report->checkpoint, "%s", path);
        log_line(LOG_INFO, "going on from %s%s", path,
                 run->options->init != NULL ? "; --init is for the beginning and not looked at" : "");
    }
    return status;
}

/* The step, with as many activations kept as memory allows. A run whose memory forces fewer crops at once
 * goes on with these later as well. */
static enum voco_status open_step(struct run *run)
{
    struct recipe *recipe = &run->folder.recipe;
    const struct batch_source source = source_of(run);
    const int bases = sampling_bases(&recipe->sampling);
    const int crops = recipe->volumes * (recipe->sampling.crops + bases);
    const size_t pairs = (size_t)recipe->volumes * (size_t)recipe->sampling.crops * (size_t)bases;
    const struct evaluation_settings evaluation = evaluation_settings_of(recipe);
    struct train_step_settings settings = train_step_settings_of(recipe, crops);
    struct memory_demand demand = {
        .batches = loader_memory(&source, recipe->loader_threads, recipe->loader_ahead),
        .chunk_cache = recipe->chunk_cache,
        .evaluation = run->volumes.held_out.count > 0
                          ? evaluation_memory(&run->model.config, &evaluation, run->volumes.held_out.count)
                          : 0,
        .projection = train_step_projection_bytes(&run->model.config, (size_t)crops, pairs),
        .crops = crops,
        .crops_at_once = settings.crops_at_once,
    };
    struct memory_plan plan;
    settings.crops_at_once = 1;
    enum voco_status status =
        train_step_create(&run->step, &run->model, &run->compute, &run->state, &settings);
    if (status == VOCO_OK) {
        status = plan_run_memory(&plan, &demand, &run->step, &run->limit);
    }
    if (status == VOCO_OK) {
        run->chunk_cache = plan.chunk_cache;
        if (plan.crops_at_once < demand.crops_at_once) {
            recipe->crops_at_once = plan.crops_at_once;
        }
    }
    return status;
}

static enum voco_status open_metrics(struct run *run)
{
    char path[checkpoint_path_size];
    if (snprintf(path, sizeof path, "%s/metrics.jsonl", run->options->out) >= (int)sizeof path) {
        return fail(VOCO_BAD_INPUT, "%s: the name of the run's folder is too long", run->options->out);
    }
    const enum voco_status status = metrics_log_open(&run->metrics, path, run->state.step);
    if (status == VOCO_OK && run->folder.recipe.tensorboard) {
        tensorboard_log_open(&run->tensorboard, run->options->out, run->state.step);
    }
    return status;
}

static enum voco_status save(struct run *run)
{
    char path[checkpoint_path_size];
    enum voco_status status = checkpoint_path(path, run->options->out, run->state.step);
    if (status == VOCO_OK) {
        status = checkpoint_save(path, &run->model, &run->state, &run->folder.recipe);
    }
    if (status != VOCO_OK) {
        return status;
    }
    snprintf(run->report->checkpoint, sizeof run->report->checkpoint, "%s", path);
    return checkpoint_prune(run->options->out, run->folder.recipe.keep);
}

/* Initial weights become the run's own before run.json says that there is one: stopped before its first
 * checkpoint, it goes on from them and not from others. */
static enum voco_status save_beginning(struct run *run)
{
    const enum voco_status status = make_folders(run->options->out);
    return status == VOCO_OK ? save(run) : status;
}

/* At most four lines a second, so that a terminal stays readable; the last step is always said. */
static void say_progress(struct run *run, const struct step_metrics *metrics)
{
    const double time = seconds_now();
    const long long total = run->folder.recipe.steps;
    const long long done = run->state.step;
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

static void add_seconds(struct run *run, const struct step_seconds *seconds, double whole)
{
    if (run->state.step - run->first_step == 1) {
        return; /* the first step also creates what later ones reuse */
    }
    run->seconds.encoder_forward += seconds->encoder_forward;
    run->seconds.projector_and_loss += seconds->projector_and_loss;
    run->seconds.encoder_backward += seconds->encoder_backward;
    run->seconds.optimiser += seconds->optimiser;
    run->step_seconds += whole;
}

static enum voco_status one_step(struct run *run, struct step_metrics *metrics)
{
    const struct recipe *recipe = &run->folder.recipe;
    const struct schedule schedule = {.kind = recipe->schedule,
                                      .learning_rate = recipe->learning_rate,
                                      .warmup = recipe->warm_up,
                                      .total = recipe->steps};
    const double began = seconds_now();
    const struct batch *batch = NULL;
    enum voco_status status = loader_next(run->loader, &batch);
    if (status != VOCO_OK) {
        return status;
    }
    const long long number = run->state.step;
    if (number == run->first_step) {
        tensorboard_log_crops(&run->tensorboard, number, batch);
    }
    const double learning_rate = schedule_learning_rate(&schedule, number);
    struct step_result result;
    status = train_step_run(&run->step, batch, learning_rate, &result, NULL);
    if (status != VOCO_OK) {
        return status;
    }
    const double seconds = seconds_now() - began;
    add_seconds(run, &result.seconds, seconds);
    *metrics =
        (struct step_metrics){.step = number,
                              .loss = result.loss.total,
                              .intra = result.loss.intra,
                              .inter = result.loss.inter,
                              .reg = result.loss.reg,
                              .position_accuracy = position_accuracy(&result.positions),
                              .correlation = position_correlation(&result.positions),
                              .feature_spread = result.embeddings.spread,
                              .effective_rank = result.embeddings.effective_rank,
                              .learning_rate = learning_rate,
                              .grad_norm = result.gradient_norm,
                              .skipped = result.skipped,
                              .seconds = seconds,
                              .crops_per_second = batch->volumes * (batch->crops + batch->bases) / seconds};
    tensorboard_log_append(&run->tensorboard, metrics);
    return metrics_log_append(&run->metrics, metrics);
}

static enum voco_status train(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    int skipped_in_row = 0;
    long long saved = run->report->checkpoint[0] != '\0' ? run->state.step : -1;
    run->first_step = run->state.step;
    run->started = seconds_now();
    enum voco_status status = VOCO_OK;
    while (run->state.step < recipe->steps && !asked_to_stop(run)) {
        struct step_metrics metrics;
        status = one_step(run, &metrics);
        if (status != VOCO_OK) {
            return status;
        }
        say_progress(run, &metrics);
        skipped_in_row = metrics.skipped ? skipped_in_row + 1 : 0;
        if (metrics.skipped) {
            run->report->skipped++;
            log_line(LOG_WARNING, "step %lld was skipped: its loss or gradient is not finite (%d in a row)",
                     metrics.step, skipped_in_row);
        }
        if (skipped_in_row >= recipe->max_skipped) {
            return fail(
                VOCO_DIVERGED,
                "%s: stopped at step %lld: %d steps in a row without a finite loss and gradient; try a lower "
                "learning rate or clip_norm",
                run->options->out, run->state.step, skipped_in_row);
        }
        if (recipe->checkpoint_every > 0 && run->state.step % recipe->checkpoint_every == 0) {
            status = save(run);
            saved = run->state.step;
        }
        if (status != VOCO_OK) {
            return status;
        }
    }
    if (saved != run->state.step) {
        status = save(run);
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
                         run->seconds.projector_and_loss + run->seconds.optimiser;
    char peak[byte_size_room];
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
    if (run->volumes.held_out.count == 0) {
        return VOCO_OK;
    }
    const struct evaluation_settings settings = evaluation_settings_of(recipe);
    const enum voco_status status =
        evaluate(&run->report->evaluation, &run->model, &run->compute, &run->step.arena, run->state.params,
                 (const char *const *)run->volumes.held_out.arrays, run->volumes.held_out.count, &settings);
    run->report->evaluated = status == VOCO_OK;
    return status;
}

static enum voco_status dump(struct run *run)
{
    const struct batch_source source = source_of(run);
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

static enum voco_status open_loader(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    const enum voco_status status =
        chunk_cache_open(&run->chunks, run->chunk_cache, chunk_bytes(levels_of_bits(recipe->bits)));
    const struct batch_source source = source_of(run);
    return status != VOCO_OK ? status
                             : loader_open(&run->loader, &source, (uint64_t)run->state.step,
                                           recipe->loader_threads, recipe->loader_ahead);
}

/* The evaluation gets its memory. */
static void close_loader(struct run *run)
{
    loader_close(run->loader);
    chunk_cache_close(run->chunks);
    run->loader = NULL;
    run->chunks = NULL;
    memory_give_back();
}

static enum voco_status live(struct run *run)
{
    enum voco_status status = settle_folder(run);
    if (status == VOCO_OK) {
        status = check_initial_weights(run);
    }
    if (status == VOCO_OK) {
        status = prepare(run);
    }
    if (status == VOCO_OK && run->options->dump_batch >= 0) {
        return dump(run);
    }
    if (status == VOCO_OK) {
        status = create_state(run);
    }
    if (status == VOCO_OK) {
        status = load_state(run);
    }
    if (status == VOCO_OK) {
        status = open_step(run);
    }
    if (status == VOCO_OK && run->initialised) {
        status = save_beginning(run);
    }
    if (status == VOCO_OK) {
        status = run_folder_write(&run->folder, run->options->out);
    }
    if (status == VOCO_OK) {
        status = open_metrics(run);
    }
    if (status == VOCO_OK) {
        status = open_loader(run);
    }
    if (status == VOCO_OK) {
        status = train(run);
    }
    close_loader(run);
    if (status == VOCO_OK) {
        say_costs(run);
        status = run->state.step < run->folder.recipe.steps
                     ? fail(VOCO_STOPPED, "%s: stopped after step %lld", run->options->out, run->state.step)
                     : measure(run);
    }
    return status;
}

enum voco_status pretrain(const struct pretrain_options *options, struct pretrain_report *report)
{
    *report = (struct pretrain_report){0};
    struct run run = {.options = options, .report = report, .metrics.descriptor = -1};
    const enum voco_status status = live(&run);
    prepared_volumes_report(&run.volumes);
    tensorboard_log_close(&run.tensorboard);
    metrics_log_close(&run.metrics);
    train_step_free(&run.step);
    compute_close(&run.compute);
    training_state_free(&run.state);
    model_free(&run.model);
    prepared_volumes_free(&run.volumes);
    run_folder_free(&run.folder);
    return status;
}
