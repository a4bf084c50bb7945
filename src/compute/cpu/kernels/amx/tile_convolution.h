/* 3^3 convolutions of stride 1 as products of tiles: 27 products a voxel, where Winograd's algorithm
 * (../winograd.h) makes do with 8, but nothing else: with AMX products are so cheap that its transforms would
 * cost more than they save.
 *
 * Three taps along w and all channels lie side by side in a padded strip (strips.h), so a run of 3
 * channels elements at each of 9 places is the neighbourhood of an output; 16 outputs are a tile's rows. */
#ifndef COMPUTE_CPU_KERNELS_AMX_TILE_CONVOLUTION_H
#define COMPUTE_CPU_KERNELS_AMX_TILE_CONVOLUTION_H

#include "compute/cpu/kernels/amx/strips.h"

int KERNEL(tile_convolution_fits)(const struct conv3d_shape *shape);

/* As struct kernels has them (cpu_state.h). */
void KERNEL(tile_convolution_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                      const activation *inp, const struct norm_activation *norm,
                                      const float *weight, const struct conv3d_shape *shape);
void KERNEL(tile_convolution_input_gradient)(struct compute *c, activation *dinp, float *shift, float *factor,
                                             const activation *dout, const float *weight,
                                             const activation *inp, const struct norm_activation *norm,
                                             const struct conv3d_shape *shape);
void KERNEL(tile_convolution_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                              const activation *inp, const struct norm_activation *norm,
                                              const struct conv3d_shape *shape);

/* The weights as tiles: (tiles of outer channels, 9 places, steps, 16, 16, 2), where a step is tile_depth of
 * the 3 inner elements of a run, and what lies behind the run is zero. backward: taps are mirrored and the
 * roles of channels exchanged. weight (out_channels, in_channels, 27). */
void KERNEL(tile_weights)(activation *to, const float *weight, int in_channels, int out_channels,
                          int backward, int threads);

enum { run_places = plane_taps * plane_taps, tile_elements = tile_rows * tile_depth };

static inline int run_steps(int inner)
{
    return (plane_taps * inner + tile_depth - 1) / tile_depth;
}

/* Elements of a step that are multiplied: all, unless a single step has more than the run. */
static inline int run_depth(int inner)
{
    const int run = plane_taps * inner;
    return run < tile_depth ? (run + 1) / 2 * 2 : tile_depth;
}

static inline int channel_tiles(int channels)
{
    return (channels + tile_columns - 1) / tile_columns;
}

static inline size_t tile_weights_length(int inner, int outer)
{
    return (size_t)channel_tiles(outer) * run_places * run_steps(inner) * tile_elements;
}

/* What is made of the outputs on their way to memory, and two sums for each channel over a block of them. */
enum output_sums {
    NO_SUMS,
    MOMENTS,      /* the mean, and the squared deviations from it */
    NORM_GRADIENT /* outputs are taken back through an activation, g: sums of g and of g (x - mean) */
};

struct convolution_output {
    activation *x; /* (n, d, h, w, channels) */
    int channels;
    enum output_sums sums;
    const activation *normed; /* NORM_GRADIENT: (n, d, h, w, channels), what norm and activation read */
    const struct norm_activation *norm;
};

/* Positions [first, first + count) of a padded strip. */
struct position_block {
    struct strip strip;
    int first, count;
};

/* Writes a block from floats (positions, whole tiles of channels), and its sums (2, whole tiles of channels).
 * Returns how many voxels it has. */
size_t KERNEL(write_outputs)(const struct convolution_output *output, float *sums, const float *from,
                             const struct position_block *block, const struct strip_sizes *sizes);

#endif
