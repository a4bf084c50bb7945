#include "data/augment.h"

#include "base/vector_clones.h"

#include <stddef.h>

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

static uint16_t bf16_of(float value)
{
    union {
        float value;
        uint32_t bits;
    } word = {value};
    return (uint16_t)((word.bits + 0x7fffU + (word.bits >> 16 & 1U)) >> 16); /* no NaN comes here */
}

#define AS_FLOAT(value) (value)

/* Rows along z stay rows: a turn in the x-y plane only moves them, a flip of z turns them round. */
#define COPY_ROWS(in_type, convert)                                                                          \
    do {                                                                                                     \
        const in_type *in = part->voxels;                                                                    \
        const int length = part->extent[2];                                                                  \
        for (int x = 0; x < part->extent[0]; x++) {                                                          \
            for (int y = 0; y < part->extent[1]; y++) {                                                      \
                const in_type *row = in + x * part->stride[0] + y * part->stride[1];                         \
                __typeof__(out) to = out + x * step[0] + y * step[1];                                        \
                if (step[2] > 0) {                                                                           \
                    for (int z = 0; z < length; z++) {                                                       \
                        to[z] = convert((float)row[z] * scale + shift);                                      \
                    }                                                                                        \
                } else {                                                                                     \
                    to -= length - 1;                                                                        \
                    for (int z = 0; z < length; z++) {                                                       \
                        to[z] = convert((float)row[length - 1 - z] * scale + shift);                         \
                    }                                                                                        \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

VECTOR_CLONES static void copy_bytes(float *restrict out, const ptrdiff_t step[3],
                                     const struct crop_part *part, float scale, float shift)
{
    COPY_ROWS(uint8_t, AS_FLOAT);
}

VECTOR_CLONES static void copy_words(float *restrict out, const ptrdiff_t step[3],
                                     const struct crop_part *part, float scale, float shift)
{
    COPY_ROWS(uint16_t, AS_FLOAT);
}

VECTOR_CLONES static void copy_bytes_bf16(uint16_t *restrict out, const ptrdiff_t step[3],
                                          const struct crop_part *part, float scale, float shift)
{
    COPY_ROWS(uint8_t, bf16_of);
}

VECTOR_CLONES static void copy_words_bf16(uint16_t *restrict out, const ptrdiff_t step[3],
                                          const struct crop_part *part, float scale, float shift)
{
    COPY_ROWS(uint16_t, bf16_of);
}

/* Where the part's first voxel goes. */
static ptrdiff_t first_place(const struct placement *placement, const struct crop_part *part)
{
    return placement->origin + part->at[0] * placement->step[0] + part->at[1] * placement->step[1] +
           part->at[2] * placement->step[2];
}

void copy_crop_part(float *out, int roi, const struct crop_part *part, float scale,
                    const struct crop_change *change)
{
    const struct placement placement = crop_placement(change, roi);
    float *first = out + first_place(&placement, part);
    if (part->voxel_bytes == 1) {
        copy_bytes(first, placement.step, part, scale, change->shift);
    } else {
        copy_words(first, placement.step, part, scale, change->shift);
    }
}

void copy_crop_part_bf16(uint16_t *out, int roi, const struct crop_part *part, float scale,
                         const struct crop_change *change)
{
    const struct placement placement = crop_placement(change, roi);
    uint16_t *first = out + first_place(&placement, part);
    if (part->voxel_bytes == 1) {
        copy_bytes_bf16(first, placement.step, part, scale, change->shift);
    } else {
        copy_words_bf16(first, placement.step, part, scale, change->shift);
    }
}
