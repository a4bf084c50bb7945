/* Crops that slide over a volume.
 *
 * Along an axis they begin at 0, stride, 2 stride, ... as long as they end before the volume does; the last
 * one ends with the volume. Where crops must begin at multiples of `step` (a feature map's tokens), the
 * stride is rounded down to one, but not to 0, and the last crop begins at the next multiple, so that up to
 * step - 1 of its voxels lie outside. Voxels outside are 0, as the padding of a prepared volume is. */
#ifndef ENCODE_SLIDING_CROPS_H
#define ENCODE_SLIDING_CROPS_H

#include "volume/volume.h"

struct sliding_crops {
    int roi;      /* R */
    int stride;   /* between crops, in voxels */
    int last[3];  /* where the last crop of each axis begins */
    int count[3]; /* crops along each axis: ceil(last / stride) + 1 */
};

/* stride >= 1; step 1: crops may begin anywhere. */
void sliding_crops_plan(struct sliding_crops *crops, const int size[3], int roi, int stride, int step);

/* Crops in all. */
size_t sliding_crops_total(const struct sliding_crops *crops);

/* Where crop i begins along an axis. */
int sliding_crop_start(const struct sliding_crops *crops, int axis, int i);

/* The first voxel of crop number `number`; x is the slowest, z the fastest. */
void sliding_crop_place(int start[3], const struct sliding_crops *crops, size_t number);

/* Copies the box of `extent` voxels that begins at `start` into box (extent[0], extent[1], extent[2]) in the
 * network's order: x slowest, z fastest. */
void copy_box(float *box, const struct volume *volume, const int start[3], const int extent[3]);

#endif
