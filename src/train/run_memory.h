/* Plans a run's memory on this machine (train/memory_plan.h): measures what is there and what passes take,
 * decides, and sets the step up accordingly. */
#ifndef TRAIN_RUN_MEMORY_H
#define TRAIN_RUN_MEMORY_H

#include "train/evaluate.h"
#include "train/memory_plan.h"
#include "train/step.h"

/* The limit for a plan, and whether it was asked for: then it is kept to or refused; a limit of the machine's
 * own is only a guide. */
struct memory_limit {
    uint64_t bytes;
    int asked_for;
};

/* `setting`; where that is 0, three quarters of what this process has and may still take. */
struct memory_limit memory_limit_of(uint64_t setting);

/* The same for one of so many processes on this machine that begin at the same time: where `setting` is 0, of
 * what is free its share. */
struct memory_limit memory_limit_among(uint64_t setting, int processes);

/* Before parameters, moments and gradient are allocated: VOCO_BAD_INPUT where already they are more than what
 * was asked for, with an estimate of the least. `moments`: elements of each moment, as in struct
 * training_state. */
enum voco_status check_memory_for_state(const struct memory_limit *limit, const struct model *model,
                                        size_t moments);

/* Of demand, the caller fills batches, chunk_cache, evaluation, projection, travelling, crops and
 * crops_at_once. `step`
 * was made for 1 crop at once; it is resized as planned, after passes of every size that the run will make:
 * of 1 crop, crops_at_once and what these leave of the batch. Where operations work in separate memory it is
 * that memory which is planned. Where the limit was asked for and does not hold the least, VOCO_BAD_INPUT
 * says how much that would be. Says the plan through the log. */
enum voco_status plan_run_memory(struct memory_plan *plan, struct memory_demand *demand,
                                 struct train_step *step, const struct memory_limit *limit);

/* What the process takes at most where so many crops pass forward at once: measured with crops of zeros, and
 * `beside` what else it will hold. *activations: what of it the passes alone take. */
enum voco_status measure_forward_memory(uint64_t *need, uint64_t *activations, const struct model *model,
                                        struct compute *compute, const real *params, int crops,
                                        uint64_t beside);

/* For an evaluation on so many volumes, with parameters loaded: passes crops forward to see what that takes.
 * Where settings->crops_at_once do not fit they become 1, which is said. VOCO_BAD_INPUT where 1 does not fit
 * into a limit that was asked for. */
enum voco_status fit_evaluation_memory(struct evaluation_settings *settings, const struct model *model,
                                       struct compute *compute, const real *params, size_t volumes,
                                       const struct memory_limit *limit);

#endif
