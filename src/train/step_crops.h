/* The crops of a step where operations can read them. Private to src/train. */
#ifndef TRAIN_STEP_CROPS_H
#define TRAIN_STEP_CROPS_H

#include "train/step.h"

/* *voxels of the batch as operations that are asked for from now on take them: the batch's own where they can
 * read these and they are floats, else what is made of them here, after they were brought where
 * train_step_bring has not. VOCO_NO_MEMORY where the arena has no room for that. Nothing is made of a batch
 * that is not of the model's crops: the step fails. */
enum voco_status step_crops_take(struct train_step *step, const struct batch *batch, const real **voxels);

/* Empties the step's arena of everything else. */
void step_crops_alone(struct train_step *step);

#endif
