#include "encode/sliding_crops.h"

#include <string.h>

static int rounded_up(int value, int step)
{
    return (value + step - 1) / step * step;
}

void sliding_crops_plan(struct sliding_crops *crops, const int size[3], int roi, int stride, int step)
{
    crops->roi = roi;
    crops->stride = stride < step ? step : stride - stride % step;
    for (int axis = 0; axis < 3; axis++) {
        crops->last[axis] = size[axis] > roi ? rounded_up(size[axis] - roi, step) : 0;
        crops->count[axis] = 1 + crops->last[axis] / crops->stride + (crops->last[axis] % crops->stride > 0);
    }
}

size_t sliding_crops_total(const struct sliding_crops *crops)
{
    return (size_t)crops->count[0] * (size_t)crops->count[1] * (size_t)crops->count[2];
}

int sliding_crop_start(const struct sliding_crops *crops, int axis, int i)
{
    return i < crops->count[axis] - 1 ? i * crops->stride : crops->last[axis];
}

void sliding_crop_place(int start[3], const struct sliding_crops *crops, size_t number)
{
    for (int axis = 2; axis >= 0; axis--) {
        start[axis] = sliding_crop_start(crops, axis, (int)(number % (size_t)crops->count[axis]));
        number /= (size_t)crops->count[axis];
    }
}

/* The part [*first, *end) of an axis of a box that lies inside the volume. */
static void inner_part(int *first, int *end, int start, int extent, int size)
{
    *first = start < 0 ? -start : 0;
    *end = size - start < extent ? size - start : extent;
}

void copy_box(float *box, const struct volume *volume, const int start[3], const int extent[3])
{
    const size_t row = (size_t)volume->size[0], slice = row * (size_t)volume->size[1];
    const size_t line = (size_t)extent[2], plane = line * (size_t)extent[1];
    int first[3], end[3];
    for (int axis = 0; axis < 3; axis++) {
        inner_part(&first[axis], &end[axis], start[axis], extent[axis], volume->size[axis]);
    }
    memset(box, 0, plane * (size_t)extent[0] * sizeof *box);
    for (int x = first[0]; x < end[0]; x++) {
        for (int y = first[1]; y < end[1]; y++) {
            const float *from = volume->data + (size_t)(start[1] + y) * row + (size_t)(start[0] + x);
            float *to = box + (size_t)x * plane + (size_t)y * line;
            for (int z = first[2]; z < end[2]; z++) {
                to[z] = from[(size_t)(start[2] + z) * slice];
            }
        }
    }
}
