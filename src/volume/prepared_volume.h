/* A prepared volume in memory on its way into the cache: already at its final precision where that can be, in
 * whatever order its preparation left it, its padding implied. What is asked of it are blocks. */
#ifndef VOLUME_PREPARED_VOLUME_H
#define VOLUME_PREPARED_VOLUME_H

#include "volume/volume.h"

#include <stddef.h>

struct prepared_volume {
    int size[3];         /* voxels along x, y, z (RAS), padding included */
    double spacing[3];   /* mm */
    double affine[3][4]; /* voxel index -> mm in RAS */
    int levels; /* stored = round(levels * value), value in [0, 1]: 255 (bytes), 4095 or 65535 (16-bit words);
                   0: floats, not yet quantised */
    int before[3]; /* voxels of padding before the kept box on each axis */
    int box[3];    /* voxels of the kept box; everything outside it is 0 */
    const void
        *voxels; /* voxel (x, y, z) of the box is element first + x stride[0] + y stride[1] + z stride[2] */
    size_t first;
    ptrdiff_t stride[3]; /* in elements; may be negative */
    void *storage;       /* owned: what `voxels` lies in; NULL where it is borrowed */
};

/* Frees the storage and clears. */
void prepared_volume_free(struct prepared_volume *prepared);

/* A view of a float volume, which must outlive it. */
struct prepared_volume prepared_volume_of(const struct volume *volume);

/* Bytes of one voxel at so many levels: 1 up to 255, else 2. */
size_t stored_voxel_bytes(int levels);

/* Copies the voxels [start, start + extent) to out (extent[0], extent[1], extent[2]), axes x, y, z with z
 * fastest, as bytes or 16-bit words of `levels`. Positions outside the volume, on either side, give 0.
 * `levels` must be that of the volume unless that holds floats, which are quantised here: round(levels *
 * value), values clipped to [0, 1], NaN 0. Returns 1 where any copied voxel is not 0, else 0. */
int prepared_volume_block(void *out, int levels, const struct prepared_volume *prepared, const int start[3],
                          const int extent[3]);

#endif
