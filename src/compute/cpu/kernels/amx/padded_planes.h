/* Planes (h, w) of a grid, as 3^3 convolutions in tiles read them: with a border of zeros, so that each tap
 * is an offset. Positions are numbered over rows of w + 2, w fastest; the first of an output lies at the
 * corner of its neighbourhood, so output (y, x) is position y (w + 2) + x and takes in y .. y + 2, x .. x + 2
 * of the padded plane. Positions with x >= w are no voxels; what is computed for them is not used. */
#ifndef COMPUTE_CPU_KERNELS_AMX_PADDED_PLANES_H
#define COMPUTE_CPU_KERNELS_AMX_PADDED_PLANES_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/amx/tiles.h"
#include "compute/cpu/kernels/factor.h"
#include "compute/cpu/kernels/kernels.h"

enum { border = 2, plane_taps = 3 };

struct plane_sizes {
    int n, d, h, w;
    int row;       /* w + 2 */
    int positions; /* up to the last voxel's */
};

static inline struct plane_sizes plane_sizes(const struct conv3d_shape *s)
{
    const int row = s->w + border;
    return (struct plane_sizes){
        .n = s->n, .d = s->d, .h = s->h, .w = s->w, .row = row, .positions = s->h * row - border};
}

static inline int rounded_up(int count, int unit)
{
    return (count + unit - 1) / unit * unit;
}

/* What a plane is made of: x (n, d, h, w, channels), or act((x - mean) rstd) where there is a norm. */
struct plane_source {
    const activation *x;
    int channels;
    const struct norm_activation *norm; /* or NULL */
};

/* Three forms. The border, and what lies behind, must be zero before and stays so. */

/* (positions, channels), with room for tiles that begin anywhere. */
static inline size_t plane_length(const struct plane_sizes *z, int channels)
{
    return ((size_t)rounded_up(z->positions, 2 * tile_rows) + (size_t)border * z->row + border + 1) *
               channels +
           tile_depth;
}
void KERNEL(pad_plane)(activation *to, const struct plane_source *source, int grid, int depth,
                       const struct plane_sizes *sizes);

/* (channels rounded up to tile_rows, positions), `pitch` between channels: the depth of products is along
 * positions. */
static inline size_t transposed_pitch(const struct plane_sizes *z)
{
    const int length = rounded_up(z->positions, tile_depth) + border * z->row + border;
    return ((size_t)rounded_up(length, tile_depth) / tile_depth | 1) *
           tile_depth; /* spread over cache sets */
}
void KERNEL(pad_plane_transposed)(activation *to, const struct plane_source *source, int grid, int depth,
                                  const struct plane_sizes *sizes);

/* (positions / 2, channels rounded up to tile_columns, 2), without border before the first row: neighbouring
 * positions as pairs. */
static inline size_t paired_length(const struct plane_sizes *z, int channels)
{
    return (size_t)rounded_up(z->positions, tile_depth) * rounded_up(channels, tile_columns);
}
void KERNEL(pair_positions)(activation *to, const activation *x, int channels, int grid, int depth,
                            const struct plane_sizes *sizes);

#endif
