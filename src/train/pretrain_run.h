/* A run of pretrain() at work, in files by subject: pretrain_start.c brings it to its first step,
 * pretrain_save.c writes its checkpoints, pretrain.c trains. Private to src/train. */
#ifndef TRAIN_PRETRAIN_RUN_H
#define TRAIN_PRETRAIN_RUN_H

#include "data/loader.h"
#include "train/checkpoint.h"
#include "train/metrics_log.h"
#include "train/pretrain.h"
#include "train/run_folder.h"
#include "train/run_memory.h"
#include "train/step.h"
#include "train/tensorboard_log.h"
#include "train/volumes.h"

/* A step whose update was asked for, and may not be settled yet (train_step_settle). */
struct asked_step {
    int is_there;
    long long number;
    int crops; /* of all ranks */
    double learning_rate;
    double seconds; /* that the host was at it */
    struct step_result result;
};

/* Everything that lives as long as a run. */
struct run {
    const struct pretrain_options *options;
    const struct ranks *ranks; /* `joined` */
    struct ranks joined;       /* those of the options, or this process alone; with their GPUs, where they
                                  have some */
    int gpu;                   /* to compute on, where that is asked for */
    struct batch_share share;
    struct gradient_exchange exchange;
    int stopping; /* a rank was asked to stop */
    struct pretrain_report *report;
    struct run_folder folder;
    struct memory_limit limit;
    struct prepared_volumes volumes;
    struct model model;
    struct training_state state;
    struct compute compute;
    struct train_step step;
    struct asked_step asked;
    int skipped_in_row;   /* steps that made no update */
    uint64_t chunk_cache; /* bytes that the plan leaves for it */
    struct chunk_cache *chunks;
    struct loader *loader;
    const struct batch *ahead; /* the next step's batch, on its way; NULL: not yet */
    struct metrics_log metrics;
    int initialised; /* with the weights of options->init */
    struct tensorboard_log tensorboard;
    long long first_step; /* of this life */
    double started;
    double last_progress;
    struct step_seconds seconds; /* sums over this life, without its first step */
    double step_seconds;
};

static inline int is_first(const struct run *run)
{
    return run->ranks->rank == 0;
}

static inline int is_shared(const struct run *run)
{
    return run->ranks->size > 1;
}

/* The run's batches, or this rank's part of them. */
struct batch_source run_batch_source(struct run *run);

/* From the options to the first step, or where a batch is to be dumped to the volumes: all ranks or none get
 * there. */
enum voco_status run_begin(struct run *run);

/* Writes a checkpoint of the present step and removes those that are not to be kept. Collective, with one
 * outcome for all. */
enum voco_status run_save(struct run *run);

#endif
