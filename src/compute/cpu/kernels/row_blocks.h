/* How the norms over space go through n grids of `space` rows of channels: in blocks of rows, which are what
 * threads share out and what stays in the first-level cache while one vector of channels after the other
 * passes over it. Sums over a block are made in float, and merged in double (channel_sums.h). */
#ifndef COMPUTE_CPU_KERNELS_ROW_BLOCKS_H
#define COMPUTE_CPU_KERNELS_ROW_BLOCKS_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/channel_sums.h"
#include "compute/cpu/kernels/vector.h"

struct row_blocks {
    int n, channels;
    size_t space, grid_blocks, count;
    int kinds;    /* sums of each channel */
    float *sums;  /* (count, kinds, whole vectors of channels) */
    size_t *rows; /* (count) */
};

struct row_block {
    size_t grid;
    size_t first; /* row among all */
    int rows;
    float *sums; /* (kinds, whole vectors of channels), to be written */
};

/* Cuts the grids, and takes scratch memory for the sums and for `more` bytes behind them, which *behind is
 * pointed at. 0 where there is none. */
int KERNEL(cut_row_blocks)(struct compute *c, struct row_blocks *blocks, int n, size_t space, int channels,
                           int kinds, size_t more, void **behind);

typedef void block_work(const void *pass, const struct row_block *block);

/* Calls `work` for every block, on all threads. */
void KERNEL(work_on_row_blocks)(struct compute *c, const struct row_blocks *blocks, block_work *work,
                                const void *pass);

/* The sums of a grid's blocks from kind `first` on. */
struct block_sums KERNEL(sums_of_grid)(const struct row_blocks *blocks, size_t grid, int first);

static inline size_t whole_channels(int channels)
{
    return (size_t)(channels + lanes - 1) / lanes * lanes;
}

static inline int vector_length(int channel, int channels)
{
    return channels - channel < lanes ? channels - channel : lanes;
}

#endif
