/* 3^3 convolutions between few channels, where a library that blocks channels by 16 wastes most of its work.
 * Lanes are output channels; a tile of voxels along a row shares each vector of weights. */
#ifndef COMPUTE_CPU_KERNELS_NARROW_CONVOLUTION_H
#define COMPUTE_CPU_KERNELS_NARROW_CONVOLUTION_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

enum {
    slab_planes = 6,  /* planes of a sample that are worked on together */
    most_vectors = 6, /* of output channels */
#if defined(__AVX512F__)
    accumulators = 24, /* that registers hold, beside what they are the sums of */
#else
    accumulators = 12,
#endif
};

/* Samples are cut into slabs of planes, the unit that threads share out. A slab's input is copied between
 * margins of zeros, so that no voxel of a row differs from another. */
struct slabs {
    int n, d, h, w;
    int channels;      /* of the padded copy */
    size_t per_sample; /* slabs */
    size_t row;        /* floats of a padded row, (w + 2) channels */
    size_t plane;      /* of a padded plane, (h + 2) rows */
};

static inline struct slabs cut_slabs(const struct conv3d_shape *s, int channels)
{
    struct slabs b = {.n = s->n, .d = s->d, .h = s->h, .w = s->w, .channels = channels};
    b.per_sample = (size_t)(s->d + slab_planes - 1) / slab_planes;
    b.row = (size_t)(s->w + 2) * channels;
    b.plane = (size_t)(s->h + 2) * b.row;
    return b;
}

static inline size_t padded_slab_length(const struct slabs *b)
{
    return (slab_planes + 2) * b->plane;
}

static inline int slab_begin(const struct slabs *b, size_t slab)
{
    return (int)(slab % b->per_sample) * slab_planes;
}

static inline int slab_end(const struct slabs *b, size_t slab)
{
    const int end = slab_begin(b, slab) + slab_planes;
    return end < b->d ? end : b->d;
}

/* Copies the slab's planes and one on each side of it from inp (n, d, h, w, channels), as floats; zeros
 * around. */
void KERNEL(pad_slab)(float *padded, const activation *inp, const struct slabs *b, size_t slab);

#endif
