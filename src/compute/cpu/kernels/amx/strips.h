/* Strips of rows of a grid's planes (h, w), as 3^3 convolutions in tiles read them: with a border, so that
 * each tap is an offset, and small enough that those of neighbouring planes stay in the second-level cache.
 * What lies outside the grid is zero. */
#ifndef COMPUTE_CPU_KERNELS_AMX_STRIPS_H
#define COMPUTE_CPU_KERNELS_AMX_STRIPS_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/amx/tiles.h"
#include "compute/cpu/kernels/factor.h"
#include "compute/cpu/kernels/kernels.h"

enum { border = 2, plane_taps = 3 };

/* A grid is cut along h into strips of `rows` rows, the last one perhaps of fewer. */
struct strip_sizes {
    int n, d, h, w;
    int rows, strips;
};

/* Rows such that `row_bytes` a row, borders counted, come to `bytes` at most. */
static inline struct strip_sizes cut_strips(const struct conv3d_shape *s, size_t row_bytes, size_t bytes)
{
    const int fitting = (int)(bytes / row_bytes) - border, most = fitting < 1 ? 1 : fitting;
    const int least = (s->h + most - 1) / most, rows = (s->h + least - 1) / least;
    return (struct strip_sizes){
        .n = s->n, .d = s->d, .h = s->h, .w = s->w, .rows = rows, .strips = (s->h + rows - 1) / rows};
}

/* One plane of one strip. */
struct strip {
    int grid, depth;
    int first, rows; /* of the grid's h */
};

/* Strips of planes are numbered over grids, strips of a grid, and planes, the fastest. */
static inline struct strip strip_at(const struct strip_sizes *z, size_t index)
{
    const int depth = (int)(index % z->d), first = (int)(index / z->d % z->strips) * z->rows;
    return (struct strip){.grid = (int)(index / z->d / z->strips),
                          .depth = depth,
                          .first = first,
                          .rows = z->h - first < z->rows ? z->h - first : z->rows};
}

static inline size_t strip_count(const struct strip_sizes *z)
{
    return (size_t)z->n * z->strips * z->d;
}

static inline int rounded_up(int count, int unit)
{
    return (count + unit - 1) / unit * unit;
}

/* What is read: x (n, d, h, w, channels), or act((x - mean) rstd) where there is a norm. */
struct strip_source {
    const activation *x;
    int channels;
    const struct norm_activation *norm; /* or NULL */
};

/* Three forms of a strip. What the functions do not write, borders along w and what lies behind, must be zero
 * before and stays so, for all strips of one size. */

/* (rows + 2, w + 2, channels). An output's position is y (w + 2) + x, where its neighbourhood begins; those
 * with x >= w are no voxels, and what is computed for them is not used. Behind, there is room for tiles that
 * begin at the last position. */
static inline int padded_positions(const struct strip_sizes *z, int rows)
{
    return rows * (z->w + border) - border;
}
static inline size_t padded_length(const struct strip_sizes *z, int channels)
{
    const int positions = rounded_up(padded_positions(z, z->rows), 2 * tile_rows);
    return ((size_t)positions + (size_t)border * (z->w + border) + border + 1) * channels + tile_depth;
}
void KERNEL(pad_strip)(activation *to, const struct strip_source *source, const struct strip *strip,
                       const struct strip_sizes *sizes);

/* (3 taps along w, channels rounded up to tile_rows, (rows + 2) w positions), `pitch` between channels: copy
 * k holds what lies k - 1 to the right, so that tiles begin at whole cache lines where w is a multiple of 32.
 * The depth of products is along positions, y w + x. */
static inline size_t transposed_pitch(const struct strip_sizes *z)
{
    const int length = rounded_up(z->rows * z->w, tile_depth) + border * z->w;
    return ((size_t)rounded_up(length, tile_depth) / tile_depth | 1) *
           tile_depth; /* spread over cache sets */
}
static inline size_t transposed_copy_length(const struct strip_sizes *z, int channels)
{
    return rounded_up(channels, tile_rows) * transposed_pitch(z);
}
void KERNEL(transpose_strip)(activation *to, const struct strip_source *source, const struct strip *strip,
                             const struct strip_sizes *sizes);

/* (rows w / 2, channels rounded up to tile_columns, 2), without a border: neighbouring voxels as pairs, up to
 * a whole tile_depth of voxels. */
static inline size_t paired_length(const struct strip_sizes *z, int channels)
{
    return (size_t)rounded_up(z->rows * z->w, tile_depth) * rounded_up(channels, tile_columns);
}
void KERNEL(pair_voxels)(activation *to, const activation *x, int channels, const struct strip *strip,
                         const struct strip_sizes *sizes);

/* The last two forms of plain rows (rows, channels): to (channels, pitch), of which whole 16 rows are
 * written, zeros behind the last; and pairs up to `whole` rows, an even number. */
void KERNEL(transpose_rows)(activation *to, size_t pitch, const activation *from, int channels, int rows);
void KERNEL(pair_rows)(activation *to, const activation *from, int channels, int rows, int whole);

#endif
