/* A pre-training run, from a data list to checkpoints: what `voco pretrain` does.
 *
 * A run is a folder:
 *     run.json                          where the data lies and the resolved recipe, to go on without naming
 * them checkpoint-NNNNNNNN.safetensors   after that many steps (train/checkpoint.h); the newest `keep` stay
 *     metrics.jsonl                     a line per step (train/metrics_log.h)
 *     events.out.tfevents.*             the same for TensorBoard, a file per life (train/tensorboard_log.h)
 *     cache/                            prepared volumes (store/volume_cache.h), unless another folder is
 * named
 *
 * Stopped at any moment, even by SIGKILL, a run goes on from its newest whole checkpoint and ends, on the
 * same machine with the same number of threads, in the same bytes as one that was never stopped: batches are
 * functions of (seed, step), everything else is in the checkpoint.
 *
 * Several ranks (dist/ranks.h) share a run as train/step.h says; all see the same folders. They prepare the
 * volumes together; rank 0 alone writes the run's folder, and says through the log what all of them have to
 * say. What fails on some ranks, a volume that cannot be read for one, ends the run on all of them with one
 * message that names them; what fails in the middle of a step is told by the rank itself (LOG_ERROR), and the
 * job is aborted. A stop that is asked of one rank is taken by all. How many ranks there were is not in a
 * checkpoint: a run may go on with another number of them. */
#ifndef TRAIN_PRETRAIN_H
#define TRAIN_PRETRAIN_H

#include "dist/ranks.h"
#include "train/evaluate.h"
#include "train/recipe.h"

#include <signal.h>

struct pretrain_options {
    const char *data;  /* DATA (data/dataset.h); NULL: what the run in `out` was begun with */
    const char *out;   /* the run's folder */
    const char *cache; /* folder of prepared volumes; NULL: out/cache */
    int resume;        /* go on where `out` stopped; begins a new run where there is nothing yet */
    int threads;       /* of the computation; 0: as OpenMP would */
    /* Changes the recipe before it is used: on resume the run's own recipe, else `recipe`. Called once, may
     * be NULL. */
    enum voco_status (*override)(struct recipe *recipe, int resumed, void *context);
    void *context;
    struct recipe recipe; /* of a new run */
    /* What a new run begins with (train/initial_weights.h): NULL, all drawn from the seed. The run's first
     * checkpoint is then that of step 0. A run that goes on from a checkpoint does not look at it. */
    const char *init;
    int init_partial;
    const struct ranks *ranks; /* NULL: this process is alone */
    long long dump_batch;      /* >= 0: write this step's batch to `out` and do not train; -1: train */
    const volatile sig_atomic_t
        *stop; /* non-zero: finish the step, write a checkpoint, return VOCO_STOPPED; may be NULL */
};

struct pretrain_report {
    char checkpoint[4096]; /* the last one written; of dump_batch the batch; empty: none */
    long long steps;       /* done in all, over the run's lives */
    long long skipped;     /* of them, in this life, without an update: loss or gradient was not finite */
    size_t volumes, bad_volumes;  /* used, and left out because they could not be prepared */
    int evaluated;                /* whether there were held-out volumes to measure on at the end */
    struct evaluation evaluation; /* on them */
};

/* VOCO_OK when all steps of the recipe are done, VOCO_STOPPED when `stop` asked to end (the checkpoint is
 * written), VOCO_DIVERGED after too many steps in a row without a finite loss and gradient; else what went
 * wrong. */
enum voco_status pretrain(const struct pretrain_options *options, struct pretrain_report *report);

#endif
