#include "data/sampling.h"

#include "base/error.h"

#include <stdlib.h>

enum { longest_axis = 1 << 20, most_crops = 1 << 15 };

enum voco_status sampling_check(const struct sampling *sampling)
{
    const int bx = sampling->base_grid[0];
    const int by = sampling->base_grid[1];
    if (sampling->roi < 1 || sampling->crops < 1 || bx < 1 || by < 1) {
        return fail(VOCO_BAD_INPUT,
                    "%d random crops of %d^3 voxels on a base grid of %d x %d: each must be at least 1",
                    sampling->crops, sampling->roi, bx, by);
    }
    const int widest = bx > by ? bx : by;
    if (sampling->roi > longest_axis / widest) {
        return fail(VOCO_BAD_INPUT, "a base grid of %d x %d crops of %d^3 voxels is longer than %d voxels",
                    bx, by, sampling->roi, longest_axis);
    }
    if (bx > most_crops / by || sampling->crops > most_crops - bx * by) {
        return fail(VOCO_BAD_INPUT,
                    "%d random crops and a base grid of %d x %d are more than %d crops a volume",
                    sampling->crops, bx, by, most_crops);
    }
    return VOCO_OK;
}

int sampling_bases(const struct sampling *sampling)
{
    return sampling->base_grid[0] * sampling->base_grid[1];
}

void sampling_window_size(int size[3], const struct sampling *sampling)
{
    size[0] = sampling->base_grid[0] * sampling->roi;
    size[1] = sampling->base_grid[1] * sampling->roi;
    size[2] = sampling->roi;
}

void random_window_start(int start[3], const int volume_size[3], const struct sampling *sampling,
                         const struct random_key *place)
{
    struct random_key key = *place;
    key.purpose = RANDOM_WINDOW;
    key.crop = 0;
    int window[3];
    sampling_window_size(window, sampling);
    for (uint32_t axis = 0; axis < 3; axis++) {
        start[axis] = (int)random_below(&key, axis, (uint32_t)(volume_size[axis] - window[axis] + 1));
    }
}

void random_crop_start(int start[2], const struct sampling *sampling, const struct random_key *place,
                       int crop)
{
    struct random_key key = *place;
    key.purpose = RANDOM_CROP_CENTRE;
    key.crop = (uint16_t)crop;
    const int half = sampling->roi / 2;
    for (uint32_t axis = 0; axis < 2; axis++) {
        const int centres = sampling->base_grid[axis] * sampling->roi - 2 * half;
        start[axis] = centres > 1 && sampling->base_grid[axis] > 1
                          ? (int)random_below(&key, axis, (uint32_t)centres)
                          : 0;
    }
}

void base_crop_start(int start[2], const struct sampling *sampling, int base)
{
    start[0] = base / sampling->base_grid[1] * sampling->roi;
    start[1] = base % sampling->base_grid[1] * sampling->roi;
}

static int overlap(int start, int other, int length)
{
    const int apart = abs(start - other);
    return apart < length ? length - apart : 0;
}

void position_label(float *label, const int start[2], const struct sampling *sampling)
{
    const int roi = sampling->roi;
    const double area = (double)roi * roi;
    for (int base = 0; base < sampling_bases(sampling); base++) {
        int corner[2];
        base_crop_start(corner, sampling, base);
        const double shared = (double)overlap(start[0], corner[0], roi) * overlap(start[1], corner[1], roi);
        label[base] = (float)(shared / area);
    }
}
