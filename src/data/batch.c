#include "data/batch.h"

#include "base/error.h"
#include "data/augment.h"

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

/* The product, or 0 where so many elements, of a few bytes each, do not fit the address space. */
static size_t elements_of(const size_t factors[], int count)
{
    size_t elements = 1;
    for (int i = 0; i < count; i++) {
        if (__builtin_mul_overflow(elements, factors[i], &elements)) {
            return 0;
        }
    }
    return elements <= SIZE_MAX / 128 ? elements : 0;
}

/* One that vector loads like; NULL for 0 bytes. */
static void *aligned_array(const struct batch_memory *memory, size_t bytes)
{
    return bytes > 0 ? memory->allocate(memory->context, (bytes + alignment - 1) / alignment * alignment)
                     : NULL;
}

size_t voxel_form_bytes(enum voxel_form form)
{
    static const size_t bytes[] = {[VOXELS_FLOAT] = sizeof(float), [VOXELS_8_BITS] = 1, [VOXELS_16_BITS] = 2};
    return bytes[form];
}

enum voxel_form stored_voxel_form(int levels)
{
    return levels <= UINT8_MAX ? VOXELS_8_BITS : VOXELS_16_BITS;
}

/* Of the transforms, from the crops' first byte. */
static size_t transforms_at(enum voxel_form form, size_t crops, int roi)
{
    const size_t side = (size_t)roi;
    return (crops * side * side * side * voxel_form_bytes(form) + alignment - 1) / alignment * alignment;
}

size_t crops_bytes(enum voxel_form form, size_t crops, int roi)
{
    const size_t side = (size_t)roi;
    return form == VOXELS_FLOAT ? crops * side * side * side * sizeof(float)
                                : transforms_at(form, crops, roi) + crops * sizeof(struct crop_transform);
}

size_t batch_crop_count(const struct batch *batch)
{
    return (size_t)batch->volumes * ((size_t)batch->crops + (size_t)batch->bases);
}

enum voco_status batch_create_in(struct batch *batch, const struct batch_memory *memory, enum voxel_form form,
                                 int volumes, int crops, int bases, int roi)
{
    *batch = (struct batch){.form = form, .memory = memory->allocate != NULL ? *memory : heap};
    if (volumes <= 0 || crops <= 0 || bases <= 0 || roi <= 0) {
        return fail(
            VOCO_BAD_INPUT,
            "a batch of %d volumes with %d random and %d base crops of %d voxels an axis holds nothing",
            volumes, crops, bases, roi);
    }
    const size_t side = (size_t)roi, crops_each = (size_t)crops + (size_t)bases;
    const size_t voxel_factors[] = {(size_t)volumes, crops_each, side, side, side};
    const size_t label_factors[] = {(size_t)volumes, (size_t)crops, (size_t)bases};
    const int fits = elements_of(voxel_factors, 5) > 0;
    void *voxels =
        aligned_array(&batch->memory, fits ? crops_bytes(form, (size_t)volumes * crops_each, roi) : 0);
    batch->voxels = form == VOXELS_FLOAT ? voxels : NULL;
    batch->stored = form == VOXELS_FLOAT ? NULL : voxels;
    batch->labels = aligned_array(&heap, elements_of(label_factors, 3) * sizeof(float));
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
    if (batch->stored != NULL) {
        batch->transforms = (void *)((char *)voxels + transforms_at(form, batch_crop_count(batch), roi));
    }
    return VOCO_OK;
}

enum voco_status batch_create(struct batch *batch, int volumes, int crops, int bases, int roi)
{
    return batch_create_in(batch, &heap, VOXELS_FLOAT, volumes, crops, bases, roi);
}

void batch_free(struct batch *batch)
{
    void *voxels = batch->voxels != NULL ? batch->voxels : batch->stored;
    if (voxels != NULL) {
        batch->memory.release(batch->memory.context, voxels);
    }
    free(batch->labels);
    *batch = (struct batch){0};
}

void *batch_crop(const struct batch *batch, size_t index)
{
    const size_t side = (size_t)batch->roi;
    char *first = batch->voxels != NULL ? (char *)batch->voxels : batch->stored;
    return first + index * side * side * side * voxel_form_bytes(batch->form);
}

void batch_read_crop(float *out, const struct batch *batch, size_t index)
{
    const int roi = batch->roi;
    const size_t side = (size_t)roi, bytes = voxel_form_bytes(batch->form);
    if (batch->form == VOXELS_FLOAT) {
        memcpy(out, batch_crop(batch, index), side * side * side * sizeof *out);
        return;
    }
    const struct crop_part whole = {.voxels = batch_crop(batch, index),
                                    .voxel_bytes = (int)bytes,
                                    .stride = {(ptrdiff_t)(side * side), roi},
                                    .extent = {roi, roi, roi}};
    copy_crop_part(out, &whole, &batch->transforms[index]);
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
    return batch_crop(batch, batch_random_index(batch, volume, crop));
}

float *batch_base_crop(const struct batch *batch, int volume, int base)
{
    return batch_crop(batch, batch_base_index(batch, volume, base));
}
