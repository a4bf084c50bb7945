#include "data/augment.h"

#include "base/vector_clones.h"

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

static void mirror(struct crop_transform *transform, int axis, int roi)
{
    transform->origin += (roi - 1) * transform->step[axis];
    transform->step[axis] = -transform->step[axis];
}

/* rot90 puts m[j][n-1-i] at [i][j]: a quarter turn sends (x, y) to (n-1-y, x). */
struct crop_transform crop_transform_of(const struct crop_change *change, float scale, int roi)
{
    const ptrdiff_t along_x = (ptrdiff_t)roi * roi;
    const ptrdiff_t along_y = roi;
    const int swapped = change->quarter_turns % 2 != 0;
    struct crop_transform transform = {.step = {swapped ? along_y : along_x, swapped ? along_x : along_y, 1},
                                       .scale = scale,
                                       .shift = change->shift};
    if (change->quarter_turns == 2 || change->quarter_turns == 3) {
        mirror(&transform, 0, roi);
    }
    if (change->quarter_turns == 1 || change->quarter_turns == 2) {
        mirror(&transform, 1, roi);
    }
    for (int axis = 0; axis < 3; axis++) {
        if (change->flip[axis]) {
            mirror(&transform, axis, roi);
        }
    }
    return transform;
}

/* Rows along z stay rows: a turn in the x-y plane only moves them, a flip of z turns them round. */
#define COPY_ROWS(in_type)                                                                                   \
    do {                                                                                                     \
        const in_type *in = part->voxels;                                                                    \
        const float scale = transform->scale, shift = transform->shift;                                      \
        const ptrdiff_t *step = transform->step;                                                             \
        const int length = part->extent[2];                                                                  \
        for (int x = 0; x < part->extent[0]; x++) {                                                          \
            for (int y = 0; y < part->extent[1]; y++) {                                                      \
                const in_type *row = in + x * part->stride[0] + y * part->stride[1];                         \
                float *to = out + x * step[0] + y * step[1];                                                 \
                if (step[2] > 0) {                                                                           \
                    for (int z = 0; z < length; z++) {                                                       \
                        to[z] = (float)row[z] * scale + shift;                                               \
                    }                                                                                        \
                } else {                                                                                     \
                    to -= length - 1;                                                                        \
                    for (int z = 0; z < length; z++) {                                                       \
                        to[z] = (float)row[length - 1 - z] * scale + shift;                                  \
                    }                                                                                        \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

VECTOR_CLONES static void copy_bytes(float *restrict out, const struct crop_part *part,
                                     const struct crop_transform *transform)
{
    COPY_ROWS(uint8_t);
}

VECTOR_CLONES static void copy_words(float *restrict out, const struct crop_part *part,
                                     const struct crop_transform *transform)
{
    COPY_ROWS(uint16_t);
}

void copy_crop_part(float *out, const struct crop_part *part, const struct crop_transform *transform)
{
    float *first = out + transform->origin; /* where the part's first voxel goes */
    for (int axis = 0; axis < 3; axis++) {
        first += part->at[axis] * transform->step[axis];
    }
    if (part->voxel_bytes == 1) {
        copy_bytes(first, part, transform);
    } else {
        copy_words(first, part, transform);
    }
}

static void widen(uint16_t *restrict out, const uint8_t *restrict row, int length)
{
    for (int z = 0; z < length; z++) {
        out[z] = row[z];
    }
}

void copy_stored_part(void *out, int voxel_bytes, int roi, const struct crop_part *part)
{
    const int length = part->extent[2];
    for (int x = 0; x < part->extent[0]; x++) {
        for (int y = 0; y < part->extent[1]; y++) {
            const char *row =
                (const char *)part->voxels + (x * part->stride[0] + y * part->stride[1]) * part->voxel_bytes;
            char *to =
                (char *)out +
                (((ptrdiff_t)(part->at[0] + x) * roi + part->at[1] + y) * roi + part->at[2]) * voxel_bytes;
            if (voxel_bytes == part->voxel_bytes) {
                memcpy(to, row, (size_t)length * (size_t)voxel_bytes);
            } else {
                widen((uint16_t *)(void *)to, (const uint8_t *)row, length);
            }
        }
    }
}
