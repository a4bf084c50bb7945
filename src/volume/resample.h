/* Trilinear resizing. */
#ifndef VOLUME_RESAMPLE_H
#define VOLUME_RESAMPLE_H

#include "voco/status.h"

/* To the given size with aligned corners: the first and the last voxel of each axis keep their places (an
 * output of 1 voxel takes the first). out has room for out_size[0] * out_size[1] * out_size[2] floats, inp
 * holds size[0] * size[1] * size[2], x fastest in both; neither array is kept. Fails only with
 * VOCO_NO_MEMORY, for want of one slice of the input. */
enum voco_status resize_trilinear(float *out, const int out_size[3], const float *inp, const int size[3]);

#endif
