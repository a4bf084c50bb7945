/* The MLP of a Swin block (mlp_forward, mlp_backward of compute.h): each thread takes blocks of rows through
 * norm, linear layers and GELU in its own caches. Hidden features go by in chunks, so that nothing of the
 * hidden layer's width is written to memory, or kept of more than a block's rows.
 *
 * Rows of a block are whole vectors apart. Behind the last channel and the last feature are zeros, and so are
 * rows behind the last one, up to row_step. */
#ifndef COMPUTE_CPU_KERNELS_MLP_BLOCKS_H
#define COMPUTE_CPU_KERNELS_MLP_BLOCKS_H

#include "compute/compute.h"
#include "compute/cpu/kernels/factor.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/layer_norm_rows.h"
#include "compute/cpu/kernels/row_blocks.h"
#include "compute/cpu/kernels/row_products.h"
#include "compute/cpu/kernels/vector.h"

struct mlp_blocks {
    int channels, hidden;
    int pitch;       /* channels in whole vectors */
    int chunk;       /* hidden features at a time, in whole vectors */
    int rows;        /* of a block, a multiple of row_step; the last one may have less */
    size_t count;    /* blocks */
    size_t all_rows; /* of all blocks */
};

/* Blocks of at most `most` rows, of which threads get equally many where they can; chunks of at most
 * `panels` panels. */
static inline struct mlp_blocks mlp_blocks(const struct mlp *mlp, size_t rows, int threads, int most,
                                           int panels)
{
    struct mlp_blocks b = {.channels = mlp->channels, .hidden = mlp->hidden, .all_rows = rows};
    b.pitch = (int)whole_channels(b.channels);
    const int hidden = (int)whole_channels(b.hidden), widest = panels * panel_vectors * lanes;
    b.chunk = hidden < widest ? hidden : widest;
    const size_t each = (rows + threads - 1) / threads, of_thread = (each + most - 1) / most;
    const size_t of_block = (each + of_thread - 1) / of_thread;
    b.rows = (int)((of_block + row_step - 1) / row_step * row_step);
    b.count = (rows + b.rows - 1) / b.rows;
    return b;
}

/* Hidden features of the chunk that begins at `from`. */
static inline int chunk_width(const struct mlp_blocks *b, int from)
{
    return b->hidden - from < b->chunk ? b->hidden - from : b->chunk;
}

static inline int rows_of_block(const struct mlp_blocks *b, size_t block)
{
    const size_t left = b->all_rows - block * b->rows;
    return left < (size_t)b->rows ? (int)left : b->rows;
}

static inline int whole_rows(int rows)
{
    return (rows + row_step - 1) / row_step * row_step;
}

/* The norm of a block's rows, and rows of zeros behind; the moments are left in `moments`. */
static inline void normalise_rows(factor *to, struct row_moments *moments, const activation *x, int rows,
                                  const struct mlp_blocks *b, const struct mlp *mlp)
{
    for (int first = 0; first < rows; first += moment_rows) {
        const int count = rows - first < moment_rows ? rows - first : moment_rows;
        moments_of_rows(moments + first, x + (size_t)first * b->channels, count, b->channels);
    }
    for (int ch = 0; ch < b->channels; ch += lanes) {
        const int count = vector_length(ch, b->channels);
        const vec weight = load_part(mlp->norm_weight + ch, count),
                  bias = load_part(mlp->norm_bias + ch, count);
        for (int r = 0; r < rows; r++) {
            const vec value = load_activations_up_to(x + (size_t)r * b->channels + ch, count);
            store_factor_row(to + (size_t)r * b->pitch + ch,
                             (value - moments[r].average) * moments[r].scale * weight + bias);
        }
    }
    memset(to + (size_t)rows * b->pitch, 0, (size_t)(whole_rows(rows) - rows) * b->pitch * sizeof *to);
}

/* out (rows, hidden features of a chunk) = begin (of the chunk, NULL: zeros) + inp (rows, channels) times the
 * chunk's columns of a weight. */
static inline void widen_rows(float *out, const float *begin, const factor *inp, const factor *weights,
                              const struct mlp_blocks *b, int from, int rows)
{
    const int width = chunk_width(b, from);
    const struct row_product product = {.out = out,
                                        .out_pitch = whole_channels(width),
                                        .begin = begin,
                                        .inp = inp,
                                        .inp_pitch = b->pitch,
                                        .weights = weights,
                                        .weight_inner = b->channels,
                                        .rows = rows,
                                        .inner = b->channels,
                                        .column = from,
                                        .outer = width};
    KERNEL(multiply_rows)(&product);
}

/* out (rows, channels) = begin (the same, may be out; NULL: zeros) + inp (rows, hidden features of a chunk)
 * times the chunk's rows of a weight. */
static inline void narrow_rows(float *out, const float *begin, const factor *inp, const factor *weights,
                               const struct mlp_blocks *b, int from, int rows)
{
    const int width = chunk_width(b, from);
    const struct row_product product = {.out = out,
                                        .out_pitch = b->pitch,
                                        .begin = begin,
                                        .begin_pitch = b->pitch,
                                        .inp = inp,
                                        .inp_pitch = whole_channels(width),
                                        .weights = weights,
                                        .weight_inner = b->hidden,
                                        .first = from,
                                        .rows = rows,
                                        .inner = width,
                                        .outer = b->channels};
    KERNEL(multiply_rows)(&product);
}

/* Has the rows of a block on their way into the cache while another one is computed. */
static inline void fetch_rows(const activation *x, size_t rows, int channels)
{
    const char *bytes = (const char *)x;
    for (size_t k = 0; k < rows * channels * sizeof *x; k += 64) {
        __builtin_prefetch(bytes + k, 0, 2);
    }
}

/* A copy of `count` floats in whole vectors, filled up with zeros. */
static inline const float *in_whole_vectors(float *to, const float *from, int count)
{
    memset(to, 0, whole_channels(count) * sizeof *to);
    return memcpy(to, from, count * sizeof *to);
}

#endif
