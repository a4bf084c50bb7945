/* A training batch in the network's order (voco.md section 2): V volumes, S random crops and K base crops
 * each. */
#ifndef DATA_BATCH_H
#define DATA_BATCH_H

#include "compute/crop_transform.h"
#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

/* How a batch holds its voxels. */
enum voxel_form {
    VOXELS_FLOAT,  /* as the network takes them, each crop changed (data/augment.h) */
    VOXELS_8_BITS, /* as they are stored, beside what is to become of each crop: a quarter of the bytes */
    VOXELS_16_BITS
};

/* The form that holds voxels of so many levels (store/volume_attributes.h) as they are stored. */
enum voxel_form stored_voxel_form(int levels);

/* Where a batch's voxels lie: memory from which copies to a device are fast, say. All NULL: the host's heap.
 */
struct batch_memory {
    void *(*allocate)(void *context, size_t bytes); /* aligned to 64; NULL where there is none */
    void (*release)(void *context, void *memory);
    void *context;
};

struct batch {
    int volumes; /* V */
    int crops;   /* S, random crops per volume */
    int bases;   /* K = base_grid[0] * base_grid[1] */
    int roi;     /* R */
    enum voxel_form form;
    float *voxels; /* (V (S + K), R, R, R): all random crops first (volume-major), then all bases
                      (volume-major); axes x, y, z. NULL where they are as stored */
    void *stored;  /* the same crops as they are stored, bytes or two-byte words; else NULL */
    struct crop_transform *transforms; /* (V (S + K)): what becomes of these; else NULL */
    float *labels;                     /* (V, S, K): position labels, each row sums to 1 */
    struct batch_memory memory;        /* of voxels, stored, transforms */
};

/* Allocates voxels (of floats) and labels, uninitialised. Free with batch_free. */
enum voco_status batch_create(struct batch *batch, int volumes, int crops, int bases, int roi);

/* The same with voxels of this form in memory of this kind. */
enum voco_status batch_create_in(struct batch *batch, const struct batch_memory *memory, enum voxel_form form,
                                 int volumes, int crops, int bases, int roi);
void batch_free(struct batch *batch);

/* Which crop of the batch random crop s of volume i is, and base k of volume i. */
size_t batch_random_index(const struct batch *batch, int volume, int crop);
size_t batch_base_index(const struct batch *batch, int volume, int base);

/* Where they start in batch->voxels. */
float *batch_random_crop(const struct batch *batch, int volume, int crop);
float *batch_base_crop(const struct batch *batch, int volume, int base);

/* Where a crop's voxels start, whatever their form. */
void *batch_crop(const struct batch *batch, size_t index);

/* out (R, R, R): the crop as the network takes it, whatever its form. */
void batch_read_crop(float *out, const struct batch *batch, size_t index);

/* How many crops, and the bytes of so many in this form. They lie in one piece of memory, from batch->voxels
 * or batch->stored on; there the transforms come last. */
size_t batch_crop_count(const struct batch *batch);
size_t crops_bytes(enum voxel_form form, size_t crops, int roi);

/* Bytes of a voxel. */
size_t voxel_form_bytes(enum voxel_form form);

#endif
