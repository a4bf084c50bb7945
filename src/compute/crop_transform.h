/* What becomes of a crop that is kept as it is stored, side^3 voxels of 8 or 16 bits with z fastest: voxel
 * (x, y, z) goes to element origin + x step[0] + y step[1] + z step[2] of the changed crop, which is scale
 * times the voxel plus shift.
 *
 * step[0] and step[1] are side^2 and side in either order, step[2] is 1, each with either sign: flips, and
 * turns in the x-y plane. A row along z stays one. */
#ifndef COMPUTE_CROP_TRANSFORM_H
#define COMPUTE_CROP_TRANSFORM_H

#include <stddef.h>

struct crop_transform {
    ptrdiff_t origin;
    ptrdiff_t step[3];
    float scale, shift;
};

#endif
