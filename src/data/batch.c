#include "data/batch.h"

#include "base/error.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { alignment = 64 };

static void *allocate_on_heap(void *context, size_t bytes)
{
    (void)context;
    return aligned_alloc(alignment, bytes);
}

static void release_to_heap(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static const struct batch_memory heap = {.allocate = allocate_on_heap, .release = release_to_heap};

/* Elements that fit the address space, in one array that vector loads like. */
static void *aligned_array(const struct batch_memory *memory, const size_t factors[], int count,
                           size_t element)
{
    size_t elements = 1;
    for (int i = 0; i < count; i++) {
        if (__builtin_mul_overflow(elements, factors[i], &elements)) {
            return NULL;
        }
    }
    if (elements > (SIZE_MAX - alignment) / element) {
        return NULL;
    }
    const size_t bytes = (elements * element + alignment - 1) / alignment * alignment;
    return memory->allocate(memory->context, bytes);
}

static enum voco_status create(struct batch *batch, const struct batch_memory *memory, int volumes, int crops,
                               int bases, int roi, int bf16)
{
    *batch = (struct batch){.memory = *memory};
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
    void *voxels = aligned_array(memory, voxel_factors, 5, bf16 ? sizeof(uint16_t) : sizeof(float));
    batch->voxels = bf16 ? NULL : voxels;
    batch->voxels_bf16 = bf16 ? voxels : NULL;
    batch->labels = aligned_array(&heap, label_factors, 3, sizeof(float));
    if (voxels == NULL || batch->labels == NULL) {
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

enum voco_status batch_create(struct batch *batch, int volumes, int crops, int bases, int roi)
{
    return create(batch, &heap, volumes, crops, bases, roi, 0);
}

enum voco_status batch_create_in(struct batch *batch, const struct batch_memory *memory, int volumes,
                                 int crops, int bases, int roi)
{
    return create(batch, memory->allocate != NULL ? memory : &heap, volumes, crops, bases, roi, 0);
}

enum voco_status batch_create_bf16(struct batch *batch, int volumes, int crops, int bases, int roi)
{
    return create(batch, &heap, volumes, crops, bases, roi, 1);
}

void batch_free(struct batch *batch)
{
    void *voxels = batch->voxels != NULL ? (void *)batch->voxels : batch->voxels_bf16;
    if (voxels != NULL) {
        const struct batch_memory *memory = batch->memory.release != NULL ? &batch->memory : &heap;
        memory->release(memory->context, voxels);
    }
    free(batch->labels);
    *batch = (struct batch){0};
}

static float *crop_at(const struct batch *batch, size_t index)
{
    const size_t side = (size_t)batch->roi;
    return batch->voxels + index * side * side * side;
}

size_t batch_random_index(const struct batch *batch, int volume, int crop)
{
    return (size_t)volume * (size_t)batch->crops + (size_t)crop;
}

size_t batch_base_index(const struct batch *batch, int volume, int base)
{
    const size_t random_crops = (size_t)batch->volumes * (size_t)batch->crops;
    return random_crops + (size_t)volume * (size_t)batch->bases + (size_t)base;
}

float *batch_random_crop(const struct batch *batch, int volume, int crop)
{
    return crop_at(batch, batch_random_index(batch, volume, crop));
}

float *batch_base_crop(const struct batch *batch, int volume, int base)
{
    return crop_at(batch, batch_base_index(batch, volume, base));
}
