/* 3^3 convolutions of stride 1 by Winograd's minimal filtering (Lavin and Gray, "Fast algorithms for
 * convolutional neural networks", 2016) within planes (h, w), and by direct sums over the three planes along
 * d that an output reads.
 *
 * A plane's outputs are cut into tiles of tile_side^2. Along an axis tile_side outputs y are a correlation of
 * point_side = tile_side + 2 inputs d with three taps g, y = At (G g . Bt d), with a product for each of
 * point_side points in place of 3 tile_side products (winograd_points.h has the matrices). In a plane a tile
 * takes point_side^2 products of in_channels x out_channels for each plane along d, three of them: with tiles
 * of 4 that is 6.75 for each voxel instead of 27, and each voxel is 2.25 numbers at the points.
 *
 * At each point the products over all channels and the three planes are one matrix product. A plane is
 * brought to the points once and used three times, so planes are kept in a ring while blocks of outputs move
 * along d.
 *
 * The weight's gradient is the correlation of point_side inputs with tile_side output gradients that has
 * three results: the same points and the same Bt. The input's gradient is the convolution of dout with the
 * mirrored taps.
 *
 * Tiles of 4 take the points 0, +-3/4, +-3/2 and infinity: of the simple sets that were tried they round
 * best, floats to twice the error of the direct sum (tests/compute/test_fused_convolution.c). Factors in
 * bf16, which are rounded at the points, cost more: 1.2e-2 of a result (relative L2, independent voxels)
 * where the direct sum's weights and result cost 2.3e-3. An embedding hardly notices, because it is a mean
 * over voxels: it differs from that in float32 by 1.7e-2 and 1.9e-2 (golden sets), and by 1.6e-2 and 1.7e-2
 * in PyTorch under bf16 autocast. Tiles of 2 took 12 products a voxel in place of 6.75 for 4e-3. */
#ifndef COMPUTE_CPU_KERNELS_WINOGRAD_H
#define COMPUTE_CPU_KERNELS_WINOGRAD_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/channel_sums.h"
#include "compute/cpu/kernels/factor.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/row_products.h"
#include "compute/cpu/kernels/vector.h"

enum {
    tile_side = 4,
    tile_voxels = tile_side * tile_side,
    point_side = tile_side + 2,
    points = point_side * point_side,
    depth_taps = 3,
    plane_taps = 3 * 3,
    taps = depth_taps * plane_taps,
    tiles_together = 64 / tile_side, /* of a block in one plane, at most */
    most_planes = 8,                 /* of a block */
    vectors_together = 8,            /* of channels, that transforms take from a voxel to the next */
};

/* How n grids of d x h x w voxels are cut: each plane into tiles, numbered w fastest, these into runs of
 * block_tiles, and d into parts of `planes`. A block is a run in one part of a grid; blocks are numbered over
 * grids, runs and parts, the fastest. */
struct tiling {
    int n, d, h, w;
    int tiles_h, tiles_w;
    int plane_tiles;
    int block_tiles, runs; /* the last run may be shorter ... */
    int planes, parts;     /* ... and the last part thinner */
    size_t grid_blocks, blocks;
};

static inline int rounded_up_to(int count, int unit)
{
    return (count + unit - 1) / unit * unit;
}

static inline struct tiling cut_tiles(const struct conv3d_shape *s)
{
    /* Tiles that a block should have, all its planes together: weights, or sums of the weight's gradient,
     * pass through the cache for each block. Where they fit into the second level, so should the rest. */
    enum { small = 64 * 64 };
    const int rows = s->in_channels * s->out_channels <= small ? 32 : 64;
    struct tiling t = {.n = s->n, .d = s->d, .h = s->h, .w = s->w};
    t.tiles_h = (s->h + tile_side - 1) / tile_side;
    t.tiles_w = (s->w + tile_side - 1) / tile_side;
    t.plane_tiles = t.tiles_h * t.tiles_w;
    const int least = (t.plane_tiles + tiles_together - 1) / tiles_together;
    t.block_tiles = rounded_up_to((t.plane_tiles + least - 1) / least, row_step);
    t.runs = (t.plane_tiles + t.block_tiles - 1) / t.block_tiles;
    const int wanted = (rows + t.block_tiles - 1) / t.block_tiles, half = (s->d + 1) / 2;
    t.planes = wanted < half ? wanted : half;
    t.planes = t.planes < most_planes ? t.planes : most_planes;
    t.parts = (s->d + t.planes - 1) / t.planes;
    t.grid_blocks = (size_t)t.runs * t.parts;
    t.blocks = s->n * t.grid_blocks;
    return t;
}

/* Tiles [first, first + count) of the planes [depth, depth + planes) of a grid. */
struct tile_block {
    size_t grid;
    int first, count;
    int depth, planes;
};

static inline struct tile_block block_of(const struct tiling *t, size_t block)
{
    const int part = (int)(block % t->parts), run = (int)(block / t->parts % t->runs);
    struct tile_block b = {
        .grid = block / t->grid_blocks, .first = run * t->block_tiles, .depth = part * t->planes};
    const int tiles = t->plane_tiles - b.first, planes = t->d - b.depth;
    b.count = tiles < t->block_tiles ? tiles : t->block_tiles;
    b.planes = planes < t->planes ? planes : t->planes;
    return b;
}

/* Tiles along w of a plane that follow each other, and the first voxel of the first one. */
struct tile_run {
    int y, x;
    int length; /* tiles */
};

/* The run that begins with this tile of a plane and ends with its row or after `most` tiles. */
static inline struct tile_run run_of(int tile, int most, const struct tiling *t)
{
    const int x = tile % t->tiles_w, left = t->tiles_w - x;
    return (struct tile_run){
        .y = tile / t->tiles_w * tile_side, .x = x * tile_side, .length = left < most ? left : most};
}

static inline size_t voxel_at(const struct tiling *t, size_t grid, int z, int y, int x)
{
    return ((grid * t->d + z) * t->h + y) * t->w + x;
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

/* The norm of some channels of a grid. */
struct vector_norm {
    vec mean, rstd;
    float slope;
};

static ALWAYS_INLINE struct vector_norm vector_norm(const struct winograd_input *input, size_t grid,
                                                    int channel, int count)
{
    const size_t place = grid * input->channels + channel;
    return (struct vector_norm){.mean = load_part(input->mean + place, count),
                                .rstd = load_part(input->rstd + place, count),
                                .slope = input->slope};
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

/* Elements between two points of a plane's rows (tiles_together, whole vectors of channels); the rest of a
 * cache line keeps the points out of each other's cache sets. */
static inline size_t point_stride(int channels)
{
    return (size_t)tiles_together * whole_vectors(channels) * lanes + lanes;
}

/* Elements of one plane of a block at the points: (points, tiles, whole vectors of channels). */
static inline size_t plane_length(int channels)
{
    return points * point_stride(channels);
}

/* Planes of the input at the points, for blocks that move along d: as many as a block reads, 2 more than it
 * has. */
struct plane_ring {
    factor *at; /* (slots, plane_length) */
    int slots;
    int next; /* planes before this one, of the block's run, have been brought there */
};

/* Plane z of the input where a block of it has been made ready; NULL outside the grid. */
static inline const factor *ring_plane(const struct plane_ring *ring, int z, int channels,
                                       const struct tiling *t)
{
    return z < 0 || z >= t->d ? NULL : ring->at + z % ring->slots * plane_length(channels);
}

/* Brings what the block reads into the ring. moves_on: it follows on the one before along d. */
void KERNEL(winograd_inputs)(struct plane_ring *ring, const struct winograd_input *input,
                             const struct tile_block *block, const struct tiling *t, int moves_on);

/* Plane z of the block of dout at the points, for the weight's gradient. */
void KERNEL(winograd_output_gradients)(factor *at, const activation *dout, int channels,
                                       const struct tile_block *block, int z, const struct tiling *t);

/* And back: writes the block's voxels from at (planes, plane_length), and two sums for each channel, each of
 * whole vectors:
 *   WINOGRAD_MOMENTS: the mean, and the squared deviations from it;
 *   WINOGRAD_NORM_GRADIENT: x is first taken back through the activation, g; sums of g and of g (norm.x -
 * mean). */
void KERNEL(winograd_outputs)(const struct winograd_output *output, float *sums, const float *at,
                              const struct tile_block *block, const struct tiling *t);

/* Voxels of a block. */
size_t KERNEL(winograd_block_voxels)(const struct tile_block *block, const struct tiling *t);

/* Weights at the points, in panels of panel_vectors: (points, panels, depth_taps, inner, vectors of the
 * panel), with factors_together neighbours along inner in each lane. backward: taps are mirrored and the
 * roles of channels exchanged. weight (out_channels, in_channels, 27). */
void KERNEL(winograd_weights)(factor *at, const float *weight, int in_channels, int out_channels,
                              int backward, int threads);
static inline size_t winograd_weights_length(int inner, int outer)
{
    return (size_t)points * depth_taps * whole_groups(inner) * whole_vectors(outer) * lanes;
}

/* Sums of the weight's gradient at the points: floats from a point to the next, from a tap along d to the
 * next, and from a part that is to be added up to the next. */
struct sums_at_points {
    size_t point, depth, part;
    int parts;
};

/* The taps of one input channel for `count` output channels, at most a vector of them, whose sums begin at
 * `at`; dweight (27), `next` floats from an output channel to the next, += these. */
void KERNEL(winograd_add_taps)(float *dweight, size_t next, int count, const float *at,
                               const struct sums_at_points *layout);

/* dweight (out_channels, in_channels, 27) += the taps of the gradient at the points: (points, depth_taps,
 * in_channels, whole vectors of out_channels), summed over the parts, which lie `stride` floats apart. */
void KERNEL(winograd_add_weight_gradient)(float *dweight, const float *at, size_t stride, int parts,
                                          int in_channels, int out_channels, int threads);

/* Of one plane of a block, at one point: out (rows, outer) = the sum over the taps along d of inp[tap] (rows,
 * inner), NULL: zero, times the weights, whose panels are as winograd_weights leaves them. Rows are whole
 * vectors apart; rows is rounded up to row_step. */
void KERNEL(winograd_product)(float *out, const factor *const inp[depth_taps], const factor *weights,
                              int rows, int inner, int outer);

/* The weight's gradient where its sums at the points are more than the rows that they are summed over, see
 * winograd_gradient_of_small_grids.c. */
int KERNEL(winograd_grids_are_small)(const struct tiling *t, const struct conv3d_shape *s, int threads);
void KERNEL(winograd_gradient_of_small_grids)(struct compute *c, float *dweight, const activation *dout,
                                              const struct winograd_input *input, const struct tiling *t,
                                              int out_channels);

#endif
