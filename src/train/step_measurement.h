/* Where the time of a training step goes: takes steps as a run does, on a phantom in memory, and keeps
 * account of each part. */
#ifndef TRAIN_STEP_MEASUREMENT_H
#define TRAIN_STEP_MEASUREMENT_H

#include "compute/compute.h"
#include "compute/cpu/machine_peak.h"
#include "train/recipe.h"
#include "train/step_arithmetic.h"

/* Parts that do not overlap and together are the step. */
enum step_part {
    PART_CONVOLUTION,
    PART_LINEAR,
    PART_ATTENTION,
    PART_NORMS,
    PART_ELEMENTWISE, /* up to here in the encoder, forward and backward: compute/timed_compute.h */
    PART_PROJECTORS_AND_LOSS,
    PART_OPTIMISER, /* and teacher, gradient norm, clipping */
    PART_DATA,      /* what the step waited for its batch */
    PART_REST,
    step_parts
};

struct part_cost {
    double seconds;
    double flops; /* useful arithmetic (train/step_arithmetic.h); 0 where memory traffic is what counts */
    double bytes; /* memory traffic, every array of an operation once; 0 where arithmetic is what counts */
};

struct step_measurement {
    int volumes, crops; /* V, and N = V (S + K), of a step */
    enum compute_precision precision;
    int steps;               /* measured */
    double seconds;          /* of the step that is the median */
    double fastest, slowest; /* seconds of others */
    double cpu_seconds; /* of all threads, loader included, in the step that took the fewest; where others are
                           at work, it says more than `seconds` */
    struct part_cost parts[step_parts]; /* their seconds add up to parts_seconds */
    double parts_seconds;     /* of the median step; where operations are only queued, of one step more in
                                 which each of them is waited for */
    double useful_flops;      /* of a step */
    double repeated_flops;    /* beyond that: forward passes made again because activations were not kept */
    double seconds_per_batch; /* that a loader thread takes to make a batch, nothing kept decoded; median */
    uint64_t peak_memory;     /* bytes that the process has had in memory at most; on a GPU, of its memory */
    struct machine_peak machine;
    double peak_flops; /* of machine: that of the precision, that of float32 where there is none of its own */
};

struct step_measurement_settings {
    int steps;                /* measured, >= 1, after some to warm up */
    int threads;              /* 0: as compute_open takes them */
    size_t activation_budget; /* see train/step.h; 0: as the recipe's memory is planned */
};

/* Of the recipe everything counts that does in a run: model, batch, memory, loader threads. Says through the
 * log how far it is. Fails as what it is made of does; VOCO_DIVERGED where a step's loss or gradient is not
 * finite. */
enum voco_status step_measurement_take(struct step_measurement *measurement, const struct recipe *recipe,
                                       const struct step_measurement_settings *settings);

#endif
