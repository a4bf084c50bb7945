/* A training batch in the network's order (voco.md section 2): V volumes, S random crops and K base crops
 * each. */
#ifndef DATA_BATCH_H
#define DATA_BATCH_H

#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

/* Where a batch's voxels lie: memory from which copies to a device are fast, say. All NULL: the host's heap.
 */
struct batch_memory {
    void *(*allocate)(void *context, size_t bytes); /* aligned to 64; NULL where there is none */
    void (*release)(void *context, void *memory);
    void *context;
};

struct batch {
    int volumes;                /* V */
    int crops;                  /* S, random crops per volume */
    int bases;                  /* K = base_grid[0] * base_grid[1] */
    int roi;                    /* R */
    float *voxels;              /* (V (S + K), R, R, R): all random crops first (volume-major), then all bases
                                   (volume-major); axes x, y, z. NULL in a batch of bfloat16 */
    uint16_t *voxels_bf16;      /* the same as bfloat16; NULL in a batch of floats */
    float *labels;              /* (V, S, K): position labels, each row sums to 1 */
    struct batch_memory memory; /* of the voxels */
};

/* Allocates voxels (of floats) and labels, uninitialised. Free with batch_free. */
enum voco_status batch_create(struct batch *batch, int volumes, int crops, int bases, int roi);

/* The same with voxels in memory of this kind. */
enum voco_status batch_create_in(struct batch *batch, const struct batch_memory *memory, int volumes,
                                 int crops, int bases, int roi);

/* The same as batch_create with voxels of bfloat16. */
enum voco_status batch_create_bf16(struct batch *batch, int volumes, int crops, int bases, int roi);
void batch_free(struct batch *batch);

/* Which crop of the batch random crop s of volume i is, and base k of volume i. */
size_t batch_random_index(const struct batch *batch, int volume, int crop);
size_t batch_base_index(const struct batch *batch, int volume, int base);

/* Where they start in batch->voxels. */
float *batch_random_crop(const struct batch *batch, int volume, int crop);
float *batch_base_crop(const struct batch *batch, int volume, int base);

#endif
