/* The flat arrays of a step as operations take them: those of the training state, or copies of them where
 * operations work in separate memory, and the step's own. Private to src/train. */
#ifndef TRAIN_STEP_ARRAYS_H
#define TRAIN_STEP_ARRAYS_H

#include "train/step.h"

/* Fills the arrays of `step`, whose model, compute and state are set. VOCO_NO_MEMORY; free with
 * step_arrays_free. */
enum voco_status step_arrays_create(struct train_step *step);
void step_arrays_free(struct train_step *step);

#endif
