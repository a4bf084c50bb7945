#include "volume/prepared_volume.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void prepared_volume_free(struct prepared_volume *prepared)
{
    free(prepared->storage);
    *prepared = (struct prepared_volume){0};
}

struct prepared_volume prepared_volume_of(const struct volume *volume)
{
    struct prepared_volume view = {.voxels = volume->data};
    memcpy(view.size, volume->size, sizeof view.size);
    memcpy(view.box, volume->size, sizeof view.box);
    memcpy(view.spacing, volume->spacing, sizeof view.spacing);
    memcpy(view.affine, volume->affine, sizeof view.affine);
    view.stride[0] = 1;
    view.stride[1] = volume->size[0];
    view.stride[2] = (ptrdiff_t)volume->size[0] * volume->size[1];
    return view;
}

size_t stored_voxel_bytes(int levels)
{
    return levels <= UINT8_MAX ? 1 : 2;
}

static uint16_t quantised(float value, float levels)
{
    if (!(value > 0.0F)) {
        return 0;
    }
    return (uint16_t)lrintf((value < 1.0F ? value : 1.0F) * levels);
}

/* A few rows of x (or of whatever is fastest) at a time stay in the cache while they are turned to rows of z.
 */
#define COPY_BLOCK(out_type, in_type, convert)                                                               \
    do {                                                                                                     \
        const in_type *in = (const in_type *)prepared->voxels + first;                                       \
        out_type *to = (out_type *)out + target;                                                             \
        for (int y = 0; y < count[1]; y++) {                                                                 \
            for (int z_tile = 0; z_tile < count[2]; z_tile += tile) {                                        \
                const int z_end = z_tile + tile < count[2] ? z_tile + tile : count[2];                       \
                for (int x = 0; x < count[0]; x++) {                                                         \
                    const in_type *from = in + x * stride[0] + y * stride[1];                                \
                    out_type *row = to + ((ptrdiff_t)x * extent[1] + y) * extent[2];                         \
                    for (int z = z_tile; z < z_end; z++) {                                                   \
                        const in_type voxel = from[z * stride[2]];                                           \
                        row[z] = (out_type)convert;                                                          \
                        any |= row[z];                                                                       \
                    }                                                                                        \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

int prepared_volume_block(void *out, int levels, const struct prepared_volume *prepared, const int start[3],
                          const int extent[3])
{
    enum { tile = 16 };
    const size_t voxels = (size_t)extent[0] * (size_t)extent[1] * (size_t)extent[2];
    const ptrdiff_t *stride = prepared->stride;
    memset(out, 0, voxels * stored_voxel_bytes(levels));
    ptrdiff_t first = (ptrdiff_t)prepared->first;
    int skipped[3];
    int count[3];
    for (int axis = 0; axis < 3; axis++) {
        const int at = start[axis] - prepared->before[axis]; /* of the block's first voxel, in the box */
        const int from = at > 0 ? at : 0;
        const int end = at + extent[axis] < prepared->box[axis] ? at + extent[axis] : prepared->box[axis];
        if (end <= from) {
            return 0;
        }
        skipped[axis] = from - at;
        count[axis] = end - from;
        first += from * stride[axis];
    }
    const ptrdiff_t target = ((ptrdiff_t)skipped[0] * extent[1] + skipped[1]) * extent[2] + skipped[2];
    unsigned any = 0;
    const float scale = (float)levels;
    if (prepared->levels == 0 && stored_voxel_bytes(levels) == 1) {
        COPY_BLOCK(uint8_t, float, quantised(voxel, scale));
    } else if (prepared->levels == 0) {
        COPY_BLOCK(uint16_t, float, quantised(voxel, scale));
    } else if (stored_voxel_bytes(levels) == 1) {
        COPY_BLOCK(uint8_t, uint8_t, voxel);
    } else {
        COPY_BLOCK(uint16_t, uint16_t, voxel);
    }
    return any != 0;
}
