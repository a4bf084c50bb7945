/* 3^3 convolutions of stride 1 by Winograd's minimal filtering (Lavin and Gray, "Fast algorithms for
 * convolutional neural networks", 2016), in three dimensions: outputs are cut into tiles of 2^3 voxels. Along
 * an axis two outputs y are a correlation of four inputs d with three taps g,
 *
 *     y = At (G g . Bt d)      Bt = 1  0 -1  0     G =  1   0   0     At = 1 1  1  0
 *                                   0  1  1  0         1/2 1/2 1/2         0 1 -1 -1
 *                                   0 -1  1  0         1/2 -1/2 1/2
 *                                   0  1  0 -1          0   0   1
 *
 * with 4 products instead of 6, in three dimensions with 64 instead of 216. At each of the 64 points the
 * products over all channels are one matrix product, so a tile costs 64 of in_channels x out_channels: 8 for
 * each voxel instead of 27. The weight's gradient is the correlation of four inputs with two output gradients
 * that has three results; it shares Bt, and takes
 *
 *     G = 1/2 of  2  0     At = 1 1  1  0
 *                 1  1          0 1 -1  0
 *                 1 -1          0 1  1 -1
 *                 0  2
 *
 * The input gradient is the convolution of dout with the mirrored taps. All factors are 1/2 or 1, and
 * rounding grows little: the result is about as exact as the direct sum in float
 * (tests/compute/test_fused_convolution.c). With factors in bf16 it is off by 5e-3 of its size, where
 * rounding weights and result alone makes 2.4e-3. */
#ifndef COMPUTE_CPU_KERNELS_WINOGRAD_H
#define COMPUTE_CPU_KERNELS_WINOGRAD_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/channel_sums.h"
#include "compute/cpu/kernels/factor.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

enum {
    tile_side = 2,
    point_side = 4,
    points = point_side * point_side * point_side,
    tiles_together = 48, /* of a block, the unit that threads share out; a multiple of all tile_rows */
#if defined(__AVX512F__)
    panel_vectors = 3, /* columns of a matrix product that registers hold sums of ... */
    product_sums = 24, /* ... and their sums, for several rows */
#else
    panel_vectors = 2,
    product_sums = 12,
#endif
};

/* How n grids of d x h x w voxels are cut into tiles, numbered over all grids, w fastest, and these into
 * blocks that lie within one grid. */
struct tiling {
    int n, d, h, w;
    int tiles_h, tiles_w;
    size_t per_grid; /* tiles */
    int block_tiles; /* of a block, but for a grid's last */
    size_t grid_blocks, blocks;
};

static inline struct tiling cut_tiles(const struct conv3d_shape *s)
{
    enum { step = 8 };
    struct tiling t = {.n = s->n, .d = s->d, .h = s->h, .w = s->w};
    t.tiles_h = (s->h + 1) / tile_side;
    t.tiles_w = (s->w + 1) / tile_side;
    t.per_grid = (size_t)(s->d + 1) / tile_side * t.tiles_h * t.tiles_w;
    const size_t least = (t.per_grid + tiles_together - 1) / tiles_together;
    t.block_tiles = (int)((t.per_grid + least * step - 1) / (least * step)) * step;
    t.grid_blocks = (t.per_grid + t.block_tiles - 1) / t.block_tiles;
    t.blocks = s->n * t.grid_blocks;
    return t;
}

/* Tiles [first, first + count) of a grid. */
struct tile_block {
    size_t grid, first;
    int count;
};

static inline struct tile_block block_of(const struct tiling *t, size_t block)
{
    const size_t first = block % t->grid_blocks * t->block_tiles, left = t->per_grid - first;
    return (struct tile_block){.grid = block / t->grid_blocks,
                               .first = first,
                               .count = left < (size_t)t->block_tiles ? (int)left : t->block_tiles};
}

/* What is read: x (n, d, h, w, channels), or act((x - mean) rstd), see compute.h, where mean and rstd (n,
 * channels) are given. */
struct winograd_input {
    const activation *x;
    int channels;
    const float *mean, *rstd;
    float slope;
};

/* norm: NULL, none. */
static inline struct winograd_input winograd_input(const activation *x, int channels,
                                                   const struct norm_activation *norm)
{
    struct winograd_input input = {.x = x, .channels = channels};
    if (norm != NULL) {
        input.mean = norm->mean;
        input.rstd = norm->rstd;
        input.slope = norm->slope;
    }
    return input;
}

/* What else is made of the voxels that are written, see winograd_outputs. */
enum winograd_sums { WINOGRAD_NO_SUMS, WINOGRAD_MOMENTS, WINOGRAD_NORM_GRADIENT };

struct winograd_output {
    activation *x; /* (n, d, h, w, channels) */
    int channels;
    enum winograd_sums sums;
    struct winograd_input
        norm; /* WINOGRAD_NORM_GRADIENT: the norm and activation behind which x is a gradient */
};

static inline int whole_vectors(int channels)
{
    return (channels + lanes - 1) / lanes;
}

/* Elements between two points of a block's rows (tiles_together, whole vectors of channels); the rest of a
 * cache line keeps the 64 of them out of each other's cache sets. */
static inline size_t point_stride(int channels)
{
    return (size_t)tiles_together * whole_vectors(channels) * lanes + lanes;
}

/* The block's tiles at the 64 points: at (64, tiles, whole vectors of channels), with point_stride. */
void KERNEL(winograd_inputs)(factor *at, const struct winograd_input *input, const struct tile_block *block,
                             const struct tiling *t);
void KERNEL(winograd_output_gradients)(factor *at, const activation *dout, int channels,
                                       const struct tile_block *block, const struct tiling *t);

/* And back: writes the block's voxels, and two sums for each channel, each of whole vectors:
 *   WINOGRAD_MOMENTS: the mean, and the squared deviations from it;
 *   WINOGRAD_NORM_GRADIENT: x is first taken back through the activation, g; sums of g and of g (norm.x -
 * mean). */
void KERNEL(winograd_outputs)(const struct winograd_output *output, float *sums, const float *at,
                              const struct tile_block *block, const struct tiling *t);

/* Voxels of a block. */
size_t KERNEL(winograd_block_voxels)(const struct tile_block *block, const struct tiling *t);

/* Weights at the 64 points, in panels of panel_vectors: (64, panels, inner, vectors of the panel), with
 * factors_together neighbours along inner in each lane. backward: taps are mirrored and the roles of channels
 * exchanged. weight (out_channels, in_channels, 27). */
void KERNEL(winograd_weights)(factor *at, const float *weight, int in_channels, int out_channels,
                              int backward, int threads);
static inline size_t winograd_weights_length(int inner, int outer)
{
    return (size_t)points * whole_groups(inner) * whole_vectors(outer) * lanes;
}

/* dweight (out_channels, in_channels, 27) += the taps of the gradient at the 64 points, each (in_channels,
 * whole vectors of out_channels), summed over the parts, which lie `stride` floats apart. */
void KERNEL(winograd_add_weight_gradient)(float *dweight, const float *at, size_t stride, int parts,
                                          int in_channels, int out_channels, int threads);

/* Of one block, at one point: out (rows, outer) = inp (rows, inner) weights, whose panels are as
 * winograd_weights leaves them. Rows are whole vectors apart; rows is rounded up to what registers hold
 * together. */
void KERNEL(winograd_product)(float *out, const factor *inp, const factor *weights, int rows, int inner,
                              int outer);

/* sums (inner, outer) += inp^T dout over the rows, all three with rows of whole vectors, those of inp and
 * dout in turns (rows_in_turns). */
void KERNEL(winograd_add_products)(float *sums, const factor *inp, const factor *dout, int rows, int inner,
                                   int outer);

#endif
