/* Where the crops of a volume are taken from, and the label that this gives for nothing (voco.md section 1).
 *
 * With R = roi and a base grid of bx x by, the window is bx R x by R x R voxels. It is tiled by K = bx by
 * base crops: base (i, j), i along x, covers x in [iR, (i+1)R), y in [jR, (j+1)R) and all of z, and has index
 * k = by i + j. */
#ifndef DATA_SAMPLING_H
#define DATA_SAMPLING_H

#include "voco/status.h"

#include "base/philox.h"

struct sampling {
    int roi;          /* R, voxels an axis of a crop */
    int crops;        /* S, random crops per volume */
    int base_grid[2]; /* bx, by: base crops along x and y */
};

/* VOCO_BAD_INPUT unless all are at least 1 and the window's and the crops' numbers are within what their
 * indices can hold (2^20 voxels an axis, 2^15 crops a volume). */
enum voco_status sampling_check(const struct sampling *sampling);

/* K. */
int sampling_bases(const struct sampling *sampling);

/* The window's size in voxels: {bx R, by R, R}. A volume must be at least that large. */
void sampling_window_size(int size[3], const struct sampling *sampling);

/* Where the window starts in a volume of `volume_size` voxels: uniform over every start that leaves it
 * inside, on all three axes. `place` says which sample: its seed, step and sample are used. */
void random_window_start(int start[3], const int volume_size[3], const struct sampling *sampling,
                         const struct random_key *place);

/* Where random crop `crop` starts in the window, (x, y): its centre is uniform over the integers in
 * [R/2, bR - R/2) on either axis. A grid of one crop along an axis leaves that axis one start, 0. */
void random_crop_start(int start[2], const struct sampling *sampling, const struct random_key *place,
                       int crop);

/* Where base crop k starts in the window, (x, y). */
void base_crop_start(int start[2], const struct sampling *sampling, int base);

/* label is (K): the area that a crop which starts at `start` in the window shares with each base crop in the
 * x-y plane, divided by R^2. It sums to 1, and at most 4 entries are not zero. */
void position_label(float *label, const int start[2], const struct sampling *sampling);

#endif
