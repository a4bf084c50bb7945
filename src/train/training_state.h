/* What a training run is between two steps: parameters, moments and counts, the host's. A step changes it
 * (train/step.h), a checkpoint keeps it (train/checkpoint.h). */
#ifndef TRAIN_TRAINING_STATE_H
#define TRAIN_TRAINING_STATE_H

#include "compute/compute.h"
#include "model/parameters.h"

#include <stddef.h>

struct training_state {
    real *params;             /* (table.total) */
    real *exp_avg;            /* (moments) the three moments of AdamW with AMSGrad */
    real *exp_avg_sq;         /* (moments) */
    real *max_exp_avg_sq;     /* (moments) */
    size_t moments;           /* table.trained; less where each rank keeps its own (gradient_exchange.h) */
    long long step;           /* steps done, which is the number of the next */
    long long optimizer_step; /* updates made: fewer where steps were skipped */
};

/* Allocates zeroed buffers for a model; VOCO_NO_MEMORY. Free with training_state_free. */
enum voco_status training_state_create(struct training_state *state, const struct parameter_table *table);
void training_state_free(struct training_state *state);

/* The same with moments of so many elements. */
enum voco_status training_state_create_part(struct training_state *state, const struct parameter_table *table,
                                            size_t moments);

/* Writes zeros over a new state: until then its pages lie nowhere, afterwards near the threads of `compute`
 * that will update them. */
void training_state_place(const struct training_state *state, const struct parameter_table *table,
                          struct compute *compute);

#endif
