#include "train/pretrain_run.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "base/name_hash.h"
#include "base/processors.h"
#include "train/initial_weights.h"
#include "train/machine.h"
#include "train/rank_gpu.h"
#include "train/run_choices.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    if (status == VOCO_OK && options->dump_batch < 0) {
        status = machine_check(run->folder.recipe.compute, run->folder.recipe.precision);
    }
    if (status == VOCO_OK) {
        const struct recipe *recipe = &run->folder.recipe;
        run->share = batch_share_of(recipe->volumes, run->ranks->rank, run->ranks->size);
        status = batch_share_check(recipe->volumes, run->ranks->size, !recipe->sync_bn);
    }
    if (status == VOCO_OK) {
        status = run_folder_place(&run->folder, options->out, options->data, options->cache);
    }
    return status;
}

/* A GPU of its own for each rank. */
static enum voco_status choose_gpu(struct run *run)
{
    const int wanted = strcmp(run->folder.recipe.compute, "cuda") == 0 && run->options->dump_batch < 0;
    return wanted && is_shared(run) ? rank_gpu_choose(&run->gpu, run->ranks) : VOCO_OK;
}

/* Before volumes are prepared: whether the weights to begin with are there and fit. */
static enum voco_status check_initial_weights(struct run *run)
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
    const struct preparation_team team = {.threads = run->ranks->processors > 0 ? run->ranks->processors
                                                                                : processor_count(),
                                          .processes = run->ranks->host_size};
    enum voco_status status =
        prepared_volumes_open_among(&run->volumes, run->folder.data, run->folder.cache, &run->folder.recipe,
                                    VOLUMES_TRAINING_AND_HELD_OUT, &team, run->options->stop);
    run->report->volumes = run->volumes.training.count;
    run->report->bad_volumes =
        run->volumes.training.preparation.failure_count + run->volumes.held_out.preparation.failure_count;
    return status;
}

/* Whether all ranks have found the same volumes, by the names of their folders in the cache. */
static enum voco_status compare_volumes(struct run *run)
{
    const struct volume_part *training = &run->volumes.training;
    struct name_hash hash;
    name_hash_start(&hash);
    for (size_t i = 0; i < training->sample_count; i++) {
        name_hash_add_text(&hash, training->samples[i]);
    }
    const uint64_t own = name_hash_value(&hash);
    uint64_t of_first = own;
    ranks_broadcast(run->ranks, &of_first, sizeof of_first, 0);
    return own == of_first ? VOCO_OK
                           : fail(VOCO_BAD_INPUT, "found other volumes than rank 0 did (%zu, from %s)",
                                  training->count, run->folder.data);
}

struct batch_source run_batch_source(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    return (struct batch_source){.paths = run->volumes.training.samples,
                                 .count = run->volumes.training.sample_count,
                                 .chunks = run->chunks,
                                 .volumes = recipe->volumes,
                                 .part_first = run->share.first,
                                 .part_volumes = run->share.count,
                                 .form = machine_voxel_form(&run->compute, run->volumes.levels),
                                 .memory = machine_batch_memory(&run->compute),
                                 .sampling = recipe->sampling,
                                 .augmentation = recipe->augmentation,
                                 .seed = recipe->seed};
}

/* Of the computation; 0: as OpenMP would. */
static int threads_of(const struct run *run)
{
    const int asked_for = run->options->threads > 0 || getenv("OMP_NUM_THREADS") != NULL;
    return asked_for ? run->options->threads : run->ranks->processors;
}

/* The model, and memory for its state. */
static enum voco_status create_state(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    memory_give_back();
    run->limit = memory_limit_among(recipe->memory, run->ranks->host_size);
    enum voco_status status = model_create(&run->model, &recipe->model);
    if (status == VOCO_OK && is_shared(run)) {
        const double scale = recipe->sync_bn ? 1 : 1.0 / run->ranks->size;
        status = gradient_exchange_create(&run->exchange, run->ranks, &run->model.table, recipe->reduce,
                                          recipe->shard_optimizer, scale);
    }
    if (is_shared(run) && ranks_machines(run->ranks) > 1) {
        log_line(LOG_INFO, "%d processes on %d machines: sums are taken on each machine first",
                 run->ranks->size, ranks_machines(run->ranks));
    }
    const size_t moments = run->exchange.sharded ? run->exchange.own_total : run->model.table.trained;
    if (status == VOCO_OK) {
        status = check_memory_for_state(&run->limit, &run->model, moments);
    }
    if (status == VOCO_OK) {
        status =
            machine_open_on_gpu(&run->compute, recipe->compute, run->gpu, threads_of(run), recipe->precision);
    }
    if (status == VOCO_OK) {
        status = training_state_create_part(&run->state, &run->model.table, moments);
    }
    if (status == VOCO_OK) {
        training_state_place(&run->state, &run->model.table, &run->compute);
    }
    return status;
}

/* Where ranks compute on GPUs, the GPUs are brought together. */
static enum voco_status join_device(struct run *run)
{
    const enum voco_status status = run_choices_load(&run->compute, run->ranks, run->options->out);
    if (status != VOCO_OK) {
        return status;
    }
    return is_shared(run) && run->compute.separate_memory ? ranks_join_device(&run->joined, &run->compute)
                                                          : VOCO_OK;
}

/* The newest whole checkpoint, as rank 0 sees it. */
static enum voco_status find_checkpoint(const struct run *run, char path[checkpoint_path_size])
{
    enum voco_status status = VOCO_OK;
    memset(path, 0, checkpoint_path_size);
    if (is_first(run)) {
        status = checkpoint_remove_temporaries(run->options->out);
    }
    if (is_first(run) && status == VOCO_OK) {
        status = checkpoint_newest(path, run->options->out);
    }
    ranks_broadcast(run->ranks, path, checkpoint_path_size, 0);
    return ranks_agree(run->ranks, status);
}

/* Parameters and moments: from the newest whole checkpoint where there is one; else drawn anew, and then the
 * initial weights that were asked for. */
static enum voco_status load_state(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    enum voco_status status = VOCO_OK;
    char path[checkpoint_path_size] = "";
    status = find_checkpoint(run, path);
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
        status = checkpoint_read_state_part(&checkpoint, &run->model, &run->state,
                                            run->exchange.sharded ? &run->exchange : NULL);
    }
    checkpoint_close(&checkpoint);
    if (status == VOCO_OK) {
        snprintf(run->report->checkpoint, sizeof run->report->checkpoint, "%s", path);
        log_line(LOG_INFO, "going on from %s%s", path,
                 run->options->init != NULL ? "; --init is for the beginning and not looked at" : "");
    }
    return status;
}

/* What a step takes beside the encoder's activations. */
static uint64_t projection_memory(const struct run *run)
{
    const struct sampling *sampling = &run->folder.recipe.sampling;
    const struct model_config *config = &run->model.config;
    const int crops = sampling->crops, bases = sampling_bases(sampling);
    const uint64_t of_own = train_step_projection_bytes(config, run->share.count, crops, bases);
    const int together = is_shared(run) && run->folder.recipe.sync_bn;
    return of_own + gradient_exchange_bytes(run->ranks) +
           (together ? train_step_projection_bytes(config, run->share.volumes, crops, bases) : 0);
}

/* The step, with as many activations kept as memory allows. */
static enum voco_status plan_step(struct run *run)
{
    struct recipe *recipe = &run->folder.recipe;
    const struct batch_source source = run_batch_source(run);
    const int bases = sampling_bases(&recipe->sampling);
    const int crops = run->share.count * (recipe->sampling.crops + bases);
    const struct evaluation_settings evaluation = evaluation_settings_of(recipe);
    struct train_step_settings settings = train_step_settings_of(recipe, crops);
    struct memory_demand demand = {
        .batches = loader_memory(&source, recipe->loader_threads, recipe->loader_ahead),
        .chunk_cache = recipe->chunk_cache,
        .evaluation = run->volumes.held_out.count > 0 && is_first(run)
                          ? evaluation_memory(&run->model.config, &evaluation, run->volumes.held_out.count)
                          : 0,
        .projection = projection_memory(run),
        .travelling = batch_source_crop_bytes(&source),
        .crops = crops,
        .crops_at_once = settings.crops_at_once,
    };
    struct memory_plan plan;
    settings.crops_at_once = 1;
    settings.share = run->share;
    settings.sync_bn = recipe->sync_bn;
    train_step_free(&run->step);
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
    if (status == VOCO_OK && is_shared(run)) {
        train_step_join(&run->step, &run->exchange);
    }
    return status;
}

/* A run whose memory forces fewer crops at once goes on with these later as well, and if it does so on one
 * rank, then on all. */
static enum voco_status open_step(struct run *run)
{
    int *at_once = &run->folder.recipe.crops_at_once; /* 0: not forced */
    enum voco_status status = ranks_agree(run->ranks, plan_step(run));
    for (int differs = is_shared(run); status == VOCO_OK && differs;) {
        int fewest = *at_once > 0 ? -*at_once : -INT_MAX;
        ranks_largest(run->ranks, &fewest);
        const int wanted = fewest == -INT_MAX ? 0 : -fewest;
        const int own = *at_once;
        *at_once = wanted;
        status = ranks_agree(run->ranks, own != wanted ? plan_step(run) : VOCO_OK);
        differs = own != wanted;
        ranks_largest(run->ranks, &differs);
    }
    return status;
}

/* The passes that measured memory have chosen ways to compute. Where ranks have chosen differently they
 * settle on one, and what it takes of memory is planned anew. */
static enum voco_status settle_choices(struct run *run)
{
    int changed = 0;
    const enum voco_status status = run_choices_share(&run->compute, run->ranks, &changed);
    return status == VOCO_OK && changed ? open_step(run) : status;
}

static enum voco_status open_metrics(struct run *run)
{
    if (!is_first(run)) {
        return VOCO_OK;
    }
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

/* Initial weights become the run's own before run.json says that there is one: stopped before its first
 * checkpoint, it goes on from them and not from others. */
static enum voco_status save_beginning(struct run *run)
{
    const enum voco_status status = ranks_agree(run->ranks, make_folders(run->options->out));
    return status == VOCO_OK ? run_save(run) : status;
}

static enum voco_status write_folder(struct run *run)
{
    enum voco_status status = run->initialised ? save_beginning(run) : VOCO_OK;
    if (status == VOCO_OK && is_first(run)) {
        status = run_folder_write(&run->folder, run->options->out);
    }
    return status;
}

static enum voco_status open_loader(struct run *run)
{
    const struct recipe *recipe = &run->folder.recipe;
    const enum voco_status status =
        chunk_cache_open(&run->chunks, run->chunk_cache, chunk_bytes(run->volumes.levels));
    const struct batch_source source = run_batch_source(run);
    return status != VOCO_OK ? status
                             : loader_open(&run->loader, &source, (uint64_t)run->state.step,
                                           recipe->loader_threads, recipe->loader_ahead);
}

enum voco_status run_begin(struct run *run)
{
    static enum voco_status (*const phases[])(struct run * run) = {
        settle_folder,   choose_gpu,     check_initial_weights, prepare,
        compare_volumes, create_state,   join_device,           load_state,
        open_step,       settle_choices, write_folder,          open_metrics,
        open_loader,
    };
    enum voco_status status = VOCO_OK;
    for (size_t i = 0; i < sizeof phases / sizeof phases[0] && status == VOCO_OK; i++) {
        if (run->options->dump_batch >= 0 && phases[i] == create_state) {
            break;
        }
        status = ranks_agree(run->ranks, phases[i](run));
    }
    return status;
}
