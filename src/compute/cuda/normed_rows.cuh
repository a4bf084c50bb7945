/* Rows of normed_channels channels in bf16, a layer norm, and what products on tensor cores take of them: for
 * kernels that keep the norm's result to themselves. */
#ifndef COMPUTE_CUDA_NORMED_ROWS_CUH
#define COMPUTE_CUDA_NORMED_ROWS_CUH

#include "compute/cuda/tensor_core.cuh"

enum {
    normed_channels = 48,
    normed_steps = normed_channels / 16, /* of the tensor cores, over channels */
    normed_tiles = normed_channels / 8,  /* of 8 channels */
    normed_pairs = normed_channels / 2,
    /* In shared memory; an odd multiple of 16 bytes: rows of a fragment lie in different banks. */
    normed_pitch = normed_channels + 8,
    normed_tile = 64, /* rows */
};

/* ---- 16 rows in a warp's registers, as the left factor of products ---- */

/* Registers 0 and 2 of a step are of row lane / 4, 1 and 3 of the row 8 below. row: the lane's upper one. */
static __device__ __forceinline__ void load_normed_rows(uint32_t x[normed_steps][4], const bf16 *from,
                                                        size_t row, size_t rows, int t)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const size_t at = row + (size_t)(8 * half);
        const bf16 *own = from + at * normed_channels + 2 * t;
#pragma unroll
        for (int k = 0; k < normed_steps; k++) {
            x[k][half] = at < rows ? *reinterpret_cast<const uint32_t *>(own + 16 * k) : 0;
            x[k][half + 2] = at < rows ? *reinterpret_cast<const uint32_t *>(own + 16 * k + 8) : 0;
        }
    }
}

/* Over the four lanes of a row. */
static __device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(whole_warp, x, 1);
    return x + __shfl_xor_sync(whole_warp, x, 2);
}

/* xhat = (x - mean) rstd */
static __device__ __forceinline__ void normalise_rows_kept(uint32_t xhat[normed_steps][4],
                                                           const uint32_t x[normed_steps][4])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = 0, square = 0;
#pragma unroll
        for (int k = 0; k < 2 * normed_steps; k++) {
            const uint32_t pair = x[k / 2][half + k % 2 * 2];
            sum += low_of(pair) + high_of(pair);
        }
        const float mean = quad_sum(sum) * (1.0f / normed_channels);
#pragma unroll
        for (int k = 0; k < 2 * normed_steps; k++) {
            const uint32_t pair = x[k / 2][half + k % 2 * 2];
            const float low = low_of(pair) - mean, high = high_of(pair) - mean;
            square += low * low;
            square += high * high;
        }
        const float variance = quad_sum(square) * (1.0f / normed_channels);
        const float rstd = rsqrtf(variance + (float)normalisation_epsilon);
#pragma unroll
        for (int k = 0; k < 2 * normed_steps; k++) {
            const uint32_t pair = x[k / 2][half + k % 2 * 2];
            xhat[k / 2][half + k % 2 * 2] =
                pack_bf16((low_of(pair) - mean) * rstd, (high_of(pair) - mean) * rstd);
        }
    }
}

/* bias + xhat weight, for the 16 features from `first` on, in two tiles of 8: weight (features,
 * normed_channels) at normed_pitch and bias in shared memory. */
static __device__ __forceinline__ void multiply_normed_rows(float sum[2][4],
                                                            const uint32_t xhat[normed_steps][4],
                                                            const bf16 *weight, const float *bias, int first,
                                                            int lane)
{
    const bf16 *from = weight + (first + lane / 16 * 8 + lane % 8) * normed_pitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const float2 two = *reinterpret_cast<const float2 *>(bias + first + 8 * j + 2 * (lane % 4));
        sum[j][0] = sum[j][2] = two.x;
        sum[j][1] = sum[j][3] = two.y;
    }
#pragma unroll
    for (int k = 0; k < normed_steps; k++) {
        uint32_t b[4];
        load_matrices(b, from + 16 * k);
        multiply_add_bf16(sum[0], xhat[k], b);
        multiply_add_bf16(sum[1], xhat[k], b + 2);
    }
}

/* ---- normed_tile rows in shared memory, at normed_pitch ---- */

/* Begins to copy the rows from `first` on; zeros behind the last. */
static __device__ __forceinline__ void load_normed_tile(bf16 *to, const bf16 *from, size_t first, size_t rows,
                                                        int thread, int threads)
{
    const int pieces = normed_channels / 8;
    for (int k = thread; k < normed_tile * pieces; k += threads) {
        const int row = k / pieces, at = k % pieces * 8;
        const int valid = first + (size_t)row < rows;
        copy_async(to + row * normed_pitch + at,
                   from + (valid ? (first + (size_t)row) * normed_channels + (size_t)at : 0), valid);
    }
}

/* Half of a row becomes xhat, in the same order whoever holds it; the other half is the neighbouring lane's.
 * Returns rstd. */
static __device__ __forceinline__ float normalise_half_row(uint32_t (&pairs)[normed_pairs / 2])
{
    float sum = 0, square = 0;
#pragma unroll
    for (int k = 0; k < normed_pairs / 2; k++) {
        sum += low_of(pairs[k]) + high_of(pairs[k]);
    }
    const float mean = (sum + __shfl_xor_sync(whole_warp, sum, 1)) * (1.0f / normed_channels);
#pragma unroll
    for (int k = 0; k < normed_pairs / 2; k++) {
        const float low = low_of(pairs[k]) - mean, high = high_of(pairs[k]) - mean;
        square += low * low;
        square += high * high;
    }
    const float variance = (square + __shfl_xor_sync(whole_warp, square, 1)) * (1.0f / normed_channels);
    const float rstd = rsqrtf(variance + (float)normalisation_epsilon);
#pragma unroll
    for (int k = 0; k < normed_pairs / 2; k++) {
        pairs[k] = pack_bf16((low_of(pairs[k]) - mean) * rstd, (high_of(pairs[k]) - mean) * rstd);
    }
    return rstd;
}

/* x becomes xhat; two threads a row, so 2 normed_tile of them, take pairs of channels in turn. */
static __device__ __forceinline__ void normalise_tile(bf16 *x, float *rstds, int thread)
{
    const int row = thread / 2, part = thread % 2;
    uint32_t *own = reinterpret_cast<uint32_t *>(x + row * normed_pitch) + part;
    uint32_t pairs[normed_pairs / 2];
#pragma unroll
    for (int k = 0; k < normed_pairs / 2; k++) {
        pairs[k] = own[2 * k];
    }
    const float rstd = normalise_half_row(pairs);
#pragma unroll
    for (int k = 0; k < normed_pairs / 2; k++) {
        own[2 * k] = pairs[k];
    }
    if (part == 0) {
        rstds[row] = rstd;
    }
}

/* The sums over the tile's rows of a pair of columns, at any pitch. */
static __device__ __forceinline__ void add_column_pair(float sum[2], const bf16 *column, int pitch)
{
#pragma unroll 8
    for (int row = 0; row < normed_tile; row++) {
        const uint32_t pair = *reinterpret_cast<const uint32_t *>(column + row * pitch);
        sum[0] += low_of(pair);
        sum[1] += high_of(pair);
    }
}

/* g += left right, for 16 rows of the tile: left (rows, depth) at left_pitch from the warp's first row on,
 * right (depth, normed_channels) at normed_pitch. */
template <int depth>
static __device__ __forceinline__ void multiply_to_channels(float (&g)[normed_tiles][4], const bf16 *left,
                                                            int left_pitch, const bf16 *right, int lane)
{
    const bf16 *a_from = left + lane % 16 * left_pitch + lane / 16 * 8;
    const bf16 *b_from = right + (lane / 8 % 2 * 8 + lane % 8) * normed_pitch + lane / 16 * 8;
#pragma unroll 2
    for (int k = 0; k < depth; k += 16) {
        uint32_t a[4];
        load_matrices(a, a_from + k);
#pragma unroll
        for (int j = 0; j < normed_tiles; j += 2) {
            uint32_t b[4];
            load_matrices_transposed(b, b_from + k * normed_pitch + 8 * j);
            multiply_add_bf16(g[j], a, b);
            multiply_add_bf16(g[j + 1], a, b + 2);
        }
    }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) + residual, of the 16 rows from `row` of the tile on; all but
 * dx are the tile's, whose first row is `first`. */
static __device__ __forceinline__ void write_input_gradient(bf16 *dx, const float (&g)[normed_tiles][4],
                                                            const bf16 *xhat, const bf16 *residual,
                                                            const float *rstds, int row, size_t first,
                                                            size_t rows, int lane)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int own = row + 8 * half + lane / 4, at = own * normed_pitch + 2 * (lane % 4);
        float total = 0, product = 0;
#pragma unroll
        for (int j = 0; j < normed_tiles; j++) {
            const uint32_t x = *reinterpret_cast<const uint32_t *>(xhat + at + 8 * j);
            total += g[j][2 * half] + g[j][2 * half + 1];
            product += g[j][2 * half] * low_of(x) + g[j][2 * half + 1] * high_of(x);
        }
        const float mean = quad_sum(total) * (1.0f / normed_channels);
        const float product_mean = quad_sum(product) * (1.0f / normed_channels), rstd = rstds[own];
        if (first + (size_t)own >= rows) {
            continue;
        }
        bf16 *to = dx + (first + (size_t)own) * normed_channels + 2 * (lane % 4);
#pragma unroll
        for (int j = 0; j < normed_tiles; j++) {
            const uint32_t x = *reinterpret_cast<const uint32_t *>(xhat + at + 8 * j);
            const uint32_t beside = *reinterpret_cast<const uint32_t *>(residual + at + 8 * j);
            const float low = rstd * (g[j][2 * half] - mean - low_of(x) * product_mean),
                        high = rstd * (g[j][2 * half + 1] - mean - high_of(x) * product_mean);
            *reinterpret_cast<uint32_t *>(to + 8 * j) =
                pack_bf16(low + low_of(beside), high + high_of(beside));
        }
    }
}

#endif
