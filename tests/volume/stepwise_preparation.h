/* Preparation one step after the other on a whole volume, in plain loops: what the streaming engine must
 * agree with. Memory that is not there aborts. */
#ifndef TESTS_VOLUME_STEPWISE_PREPARATION_H
#define TESTS_VOLUME_STEPWISE_PREPARATION_H

#include "volume/prepare.h"

/* Permutes and flips the axes so that they run as closely as possible to the right, to the front and up. */
void orient_to_ras(struct volume *volume);

/* Trilinear interpolation in double at a position in voxels, the border repeated beyond it. */
double value_at(const float *data, const int size[3], const double position[3]);

/* To the voxels of plan_resampling. Fails as that does. */
enum voco_status resample_to_spacing(struct volume *volume, const double spacing[3]);

/* Keeps the box only; it is not empty and lies within the volume. */
void crop_to_bounds(struct volume *volume, const int first[3], const int end[3]);

/* Zeros on both sides of each axis that has fewer voxels than least[axis]: floor(half) of them before, the
 * rest after, as MONAI's SpatialPad does. */
void pad_to_at_least(struct volume *volume, const int least[3]);

/* prepare_volume in these steps. */
enum voco_status prepare_stepwise(struct volume *out, const char *path, const struct preset *preset,
                                  const int at_least[3]);

#endif
