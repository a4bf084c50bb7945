#include "data/batch.h"

#include "base/error.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Floats that fit the address space, in one array that vector loads like. */
static float *aligned_floats(const size_t factors[], int count)
{
    enum { alignment = 64 };
    size_t elements = 1;
    for (int i = 0; i < count; i++) {
        if (__builtin_mul_overflow(elements, factors[i], &elements)) {
            return NULL;
        }
    }
    if (elements > (SIZE_MAX - alignment) / sizeof(float)) {
        return NULL;
    }
    const size_t bytes = (elements * sizeof(float) + alignment - 1) / alignment * alignment;
    return aligned_alloc(alignment, bytes);
}

enum voco_status batch_create(struct batch *batch, int volumes, int crops, int bases, int roi)
{
    *batch = (struct batch){0};
    if (volumes <= 0 || crops <= 0 || bases <= 0 || roi <= 0) {
        return fail(
            VOCO_BAD_INPUT,
            "a batch of %d volumes with %d random and %d base crops of %d voxels an axis holds nothing",
            volumes, crops, bases, roi);
    }
    const size_t side = (size_t)roi;
    const size_t crops_each = (size_t)crops + (size_t)bases;
    const size_t voxel_factors[] = {(size_t)volumes, crops_each, side, side, side};
    const size_t label_factors[] = {(size_t)volumes, (size_t)crops, (size_t)bases};
    batch->voxels = aligned_floats(voxel_factors, 5);
    batch->labels = aligned_floats(label_factors, 3);
    if (batch->voxels == NULL || batch->labels == NULL) {
        batch_free(batch);
        return fail(
            VOCO_NO_MEMORY,
            "a batch of %d volumes with %d random and %d base crops of %d^3 voxels does not fit in memory",
            volumes, crops, bases, roi);
    }
    batch->volumes = volumes;
    batch->crops = crops;
    batch->bases = bases;
    batch->roi = roi;
    return VOCO_OK;
}

void batch_free(struct batch *batch)
{
    free(batch->voxels);
    free(batch->labels);
    *batch = (struct batch){0};
}

static float *crop_at(const struct batch *batch, size_t index)
{
    const size_t side = (size_t)batch->roi;
    return batch->voxels + index * side * side * side;
}

float *batch_random_crop(const struct batch *batch, int volume, int crop)
{
    return crop_at(batch, (size_t)volume * (size_t)batch->crops + (size_t)crop);
}

float *batch_base_crop(const struct batch *batch, int volume, int base)
{
    const size_t random_crops = (size_t)batch->volumes * (size_t)batch->crops;
    return crop_at(batch, random_crops + (size_t)volume * (size_t)batch->bases + (size_t)base);
}
