/* A 3D image in memory and the geometry that places it in the patient. */
#ifndef VOLUME_VOLUME_H
#define VOLUME_VOLUME_H

#include "voco/status.h"

#include <stddef.h>

struct volume {
    int size[3]; /* voxels along x, y, z; x varies fastest: voxel (x, y, z) is data[(z * ny + y) * nx + x] */
    double spacing[3];   /* mm between voxel centres, > 0 */
    double affine[3][4]; /* voxel index (x, y, z, 1) -> mm in RAS (x to the right, y to the front, z up) */
    float *data;         /* owned */
};

/* Frees data and clears. */
void volume_free(struct volume *volume);

/* Voxels in all. */
size_t volume_count(const struct volume *volume);

#endif
