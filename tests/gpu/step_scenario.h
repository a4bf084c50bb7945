/* Training steps as a run takes them, with what may happen between them, on any implementation: asked for
 * operation by operation, or as recordings (struct compute). */
#ifndef TESTS_GPU_STEP_SCENARIO_H
#define TESTS_GPU_STEP_SCENARIO_H

#include "train/step.h"

enum { scenario_most_steps = 24 };

/* Before step 0 nothing happens, so that 0 is never. */
struct step_scenario {
    struct model_config config;
    enum drop_mode drop;
    int steps;
    int resize_before;            /* one crop more at once, and more activations kept */
    int evaluate_before;          /* on a larger batch */
    int broken;                   /* the step whose batch is not finite, which is skipped */
    int overflows;                /* the step whose gradient is too long, which is skipped as well */
    int ahead;                    /* an update is settled after the next step's gradients */
    int larger_from, larger_till; /* steps on larger batches */
    void (*before)(void *context, int step);
    void *context;
};

/* What steps leave; the host's. */
struct scenario_outcome {
    struct step_result results[scenario_most_steps];
    struct training_state state;
    struct model model;
    int replays; /* of recordings */
};

/* c must be as opened. What fails ends the program. */
void run_scenario(struct scenario_outcome *outcome, struct compute *c, const struct step_scenario *scenario,
                  int recorded);
void free_outcome(struct scenario_outcome *outcome);

/* Prints where they are not, and returns whether they are the same to the bit. */
int same_outcome(const struct scenario_outcome *a, const struct scenario_outcome *b, int steps);

#endif
