/* What tests of a training step begin with. */
#ifndef TESTS_PLAIN_STEP_H
#define TESTS_PLAIN_STEP_H

#include "train/step.h"

/* One crop at a time, nothing kept, no drop; the optimiser of the recipes. */
extern const struct train_step_settings plain_step;

/* Fills the voxels: noise, and in each crop stripes along x of its own. */
void fill_voxels(struct batch *batch);

/* Fills one as stored, with another change for each of 16 crops, and one of floats with what that comes to.
 */
void fill_both(struct batch *stored, struct batch *floats);

#endif
