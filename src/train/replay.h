/* Exact optimiser steps on a stored batch: no augmentation, no drop, a constant learning rate. How parity
 * with PyTorch is shown, and how a bad step of a run is looked into. */
#ifndef TRAIN_REPLAY_H
#define TRAIN_REPLAY_H

#include "train/step.h"

struct replay_options {
    const char *batch;      /* train/stored_batch.h */
    const char *checkpoint; /* a training checkpoint, whose moments and steps are gone on from, or weights */
    const char *out;
    const char
        *gradients; /* a file with `step{i}/grad/NAME`, which the optimiser takes in place of its own; NULL:
                       none. It must hold those of step 0; steps that it does not hold use their own. */
    int steps;      /* 1 to replay_most_steps */
    double learning_rate;
    double weight_decay;   /* NAN: the checkpoint's recipe's, 0.01 for weights */
    uint64_t memory;       /* bytes that the process may take; 0: most of what the machine has free */
    int threads;           /* as compute_open has it */
    const char *compute;   /* "cpu", "reference"; NULL: cpu */
    const char *precision; /* compute_precision_names; NULL: the checkpoint's recipe's, float32 for weights */
};

enum { replay_most_steps = 1000 };

/* Reads batch and checkpoint, makes the steps and writes `out`, whole or not at all: safetensors, all F32,
 * with the checkpoint's sizes, lr and weight_decay as metadata and for each step i = 0, 1, ...
 *
 *     step{i}/loss [total, intra, inter, reg], step{i}/embedding (N, E), step{i}/student and step{i}/teacher
 *     (N, D): before the update, after the teacher has moved
 *     step{i}/grad/NAME: of backbone and student, as computed, before clipping
 *     step{i}/paramsample/NAME: after the update, at the flat indices trunc(linspace(0, size - 1, min(256,
 * size))) step{i}/param/NAME: after the update, whole
 *
 * Betas, epsilon, the teacher's decay and clipping are the recipe's (the published ones for weights). A step
 * whose loss or gradient is not finite is written too, with its parameters unchanged. results (steps) is
 * filled. Failures are one line that names the file. */
enum voco_status replay(const struct replay_options *options, struct step_result *results);

#endif
