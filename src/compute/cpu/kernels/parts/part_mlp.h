/* The MLP of a Swin block (mlp_forward, mlp_backward of compute.h) by products of parts: each thread takes
 * blocks of rows through all of it in its second-level cache, and nothing of the hidden layer's width is
 * written to memory. Hidden features go by in chunks, within a chunk two tiles of columns at a time. */
#ifndef COMPUTE_CPU_KERNELS_PARTS_PART_MLP_H
#define COMPUTE_CPU_KERNELS_PARTS_PART_MLP_H

#include "compute/compute.h"
#include "compute/cpu/kernels/parts/part_rows.h"

void KERNEL(part_mlp_forward)(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                              size_t rows);
void KERNEL(part_mlp_backward)(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                               const activation *dout, const activation *x, const struct mlp *mlp,
                               size_t rows);

/* Whether that is faster than layer by layer. */
int KERNEL(part_mlp_fits)(struct compute *c, int channels, int hidden);

enum { row_unit = 4 * tile_rows }; /* blocks are whole ones of these */

struct mlp_sizes {
    int channels, hidden;
    int channel_tiles, hidden_tiles;
    int channel_pitch; /* floats of a row of channels, in whole tiles */
    int chunk;         /* hidden features at a time, a multiple of four tiles */
    int block;         /* rows at a time */
};

/* Blocks of at most `most` rows, of which threads get equally many where they can. */
static inline struct mlp_sizes mlp_sizes(const struct mlp *mlp, size_t rows, int threads, int most, int chunk)
{
    struct mlp_sizes z = {.channels = mlp->channels, .hidden = mlp->hidden};
    z.channel_tiles = tiles_of(z.channels);
    z.hidden_tiles = tiles_of(z.hidden);
    z.channel_pitch = z.channel_tiles * tile_columns;
    const int whole = (z.hidden_tiles + 3) / 4 * 4 * tile_columns;
    z.chunk = chunk < whole ? chunk : whole;
    const size_t each = (rows + threads - 1) / threads, blocks = (each + most - 1) / most;
    const size_t units = (each + blocks * row_unit - 1) / (blocks * row_unit);
    z.block = (int)(units > 0 ? units : 1) * row_unit;
    return z;
}

static inline int row_tiles_of(int rows)
{
    return (rows + row_unit - 1) / row_unit * 4;
}

/* Rows of zeros behind the last one, up to a whole unit: what is computed of them must be finite. */
static inline void clear_rows_behind(part *parts, size_t length, int rows)
{
    const int whole = row_tiles_of(rows) * tile_rows;
    memset(parts + rows * length, 0, (whole - rows) * length * sizeof *parts);
}

/* A copy of `count` floats in whole tiles, filled up with zeros. */
static inline const float *whole_tiles_of(float *to, const float *from, int count)
{
    memset(to, 0, (size_t)tiles_of(count) * tile_columns * sizeof *to);
    return memcpy(to, from, count * sizeof *to);
}

#endif
