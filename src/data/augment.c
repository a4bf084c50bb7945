#include "data/augment.h"

#include <stddef.h>
#include <string.h>

const struct augmentation augmentation_default = {
    .flip = {0.2F, 0.2F, 0.2F}, .rotate = 0.2F, .shift = 0.5F, .shift_range = 0.1F};
const struct augmentation augmentation_none;

/* Which number at a crop's place is drawn for what: part of the reproducibility of runs. */
enum augmentation_draw {
    DRAW_FLIP = 0, /* three of them */
    DRAW_ROTATE = 3,
    DRAW_TURNS = 4,
    DRAW_SHIFT = 5,
    DRAW_SHIFT_SIZE = 6,
};

struct crop_change draw_crop_change(const struct augmentation *augmentation, const struct random_key *place,
                                    int crop)
{
    struct random_key key = *place;
    key.purpose = RANDOM_AUGMENTATION;
    key.crop = (uint16_t)crop;
    struct crop_change change = {0};
    for (uint32_t axis = 0; axis < 3; axis++) {
        change.flip[axis] = random_uniform(&key, DRAW_FLIP + axis) < augmentation->flip[axis];
    }
    if (random_uniform(&key, DRAW_ROTATE) < augmentation->rotate) {
        change.quarter_turns = 1 + (int)random_below(&key, DRAW_TURNS, 3);
    }
    if (random_uniform(&key, DRAW_SHIFT) < augmentation->shift) {
        change.shift = (2.0F * random_uniform(&key, DRAW_SHIFT_SIZE) - 1.0F) * augmentation->shift_range;
    }
    return change;
}

/* Where voxel (x, y, z) of the crop goes: out[origin + x step[0] + y step[1] + z step[2]]. */
struct placement {
    ptrdiff_t origin;
    ptrdiff_t step[3];
};

static void mirror(struct placement *placement, int axis, int roi)
{
    placement->origin += (roi - 1) * placement->step[axis];
    placement->step[axis] = -placement->step[axis];
}

/* rot90 puts m[j][n-1-i] at [i][j]: a quarter turn sends (x, y) to (n-1-y, x). */
static struct placement crop_placement(const struct crop_change *change, int roi)
{
    const ptrdiff_t along_x = (ptrdiff_t)roi * roi;
    const ptrdiff_t along_y = roi;
    const int swapped = change->quarter_turns % 2 != 0;
    struct placement placement = {0, {swapped ? along_y : along_x, swapped ? along_x : along_y, 1}};
    if (change->quarter_turns == 2 || change->quarter_turns == 3) {
        mirror(&placement, 0, roi);
    }
    if (change->quarter_turns == 1 || change->quarter_turns == 2) {
        mirror(&placement, 1, roi);
    }
    for (int axis = 0; axis < 3; axis++) {
        if (change->flip[axis]) {
            mirror(&placement, axis, roi);
        }
    }
    return placement;
}

/* The volume has x fastest, the crop z: rows of x are gathered in a tile that stays in the first-level cache,
 * and leave it as rows of z. A tile's row is one cache line, read once and whole. */
enum { tile_side = 32 };

static void copy_tile(float *out, const ptrdiff_t step[3], const uint16_t *in, size_t plane, int width,
                      int depth, float shift)
{
    uint16_t tile[tile_side][tile_side];
    for (int z = 0; z < depth; z++) {
        memcpy(tile[z], in + (size_t)z * plane, (size_t)width * sizeof(uint16_t));
    }
    for (int x = 0; x < width; x++) {
        float *row = out + x * step[0];
        for (int z = 0; z < depth; z++) {
            row[z * step[2]] = (float)tile[z][x] * (1.0F / 65535.0F) + shift;
        }
    }
}

void copy_crop(float *out, int roi, const uint16_t *voxels, const int size[3], const int start[3],
               const struct crop_change *change)
{
    const struct placement placement = crop_placement(change, roi);
    const size_t row = (size_t)size[0];
    const size_t plane = row * (size_t)size[1];
    const uint16_t *corner = voxels + (size_t)start[2] * plane + (size_t)start[1] * row + (size_t)start[0];
    for (int y = 0; y < roi; y++) {
        for (int z = 0; z < roi; z += tile_side) {
            const int depth = roi - z < tile_side ? roi - z : tile_side;
            for (int x = 0; x < roi; x += tile_side) {
                const int width = roi - x < tile_side ? roi - x : tile_side;
                float *target = out + placement.origin + x * placement.step[0] + y * placement.step[1] +
                                z * placement.step[2];
                copy_tile(target, placement.step, corner + (size_t)z * plane + (size_t)y * row + (size_t)x,
                          plane, width, depth, change->shift);
            }
        }
    }
}
