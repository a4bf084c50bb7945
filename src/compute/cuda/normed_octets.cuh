/* Tiles of normed_tile rows of normed_channels channels in bf16, a layer norm, and what warpgroups' products
 * (warpgroup.cuh) take of them: [octet of channels][row], 16 bytes each, octet_pitch elements from octet to
 * octet. Such a tile is an operand along channels and, transposed, along rows. A warpgroup's 128 threads take
 * a tile, two a row, which have its octets in turn: each normalises what it loaded itself. */
#ifndef COMPUTE_CUDA_NORMED_OCTETS_CUH
#define COMPUTE_CUDA_NORMED_OCTETS_CUH

#include "compute/cuda/normed_rows.cuh"

enum {
    octets = normed_tiles,
    octet_pitch = normed_tile * 8 + 32, /* the next octet of a row lies in other banks */
};

/* A block's tiles. 2^32 rows are more than a GPU has memory for. */
struct tile_walk {
    unsigned first, step, rows; /* the first one's first row, from tile to tile, and all */
    int tiles;
};

/* Blocks take tiles in turn. */
static __device__ __forceinline__ tile_walk own_tiles(size_t rows, int tiles)
{
    const tile_walk walk = {blockIdx.x * normed_tile, gridDim.x * normed_tile, (unsigned)rows,
                            (tiles - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x};
    return walk;
}

/* Begins to copy a tile; zeros behind the last row and the last tile. */
static __device__ __forceinline__ void load_octets(bf16 *to, const bf16 *from, const tile_walk &walk,
                                                   int tile, int thread)
{
    const int row = thread / 2, part = thread % 2;
    const unsigned at = walk.first + (unsigned)tile * walk.step + (unsigned)row;
    const int valid = tile < walk.tiles && at < walk.rows;
    const bf16 *own = from + (valid ? (size_t)at * normed_channels + (size_t)(8 * part) : 0);
#pragma unroll
    for (int k = 0; k < octets / 2; k++) {
        copy_async(to + (2 * k + part) * octet_pitch + row * 8, own + 16 * k, valid);
    }
}

/* This thread's part of a row, which it loaded itself. */
struct half_row {
    uint32_t pairs[normed_pairs / 2];
};

static __device__ __forceinline__ half_row load_half_row(const bf16 *x, int thread)
{
    const bf16 *own = x + thread % 2 * octet_pitch + thread / 2 * 8;
    half_row row;
#pragma unroll
    for (int k = 0; k < octets / 2; k++) {
        const uint4 octet = *reinterpret_cast<const uint4 *>(own + 2 * k * octet_pitch);
        row.pairs[4 * k] = octet.x;
        row.pairs[4 * k + 1] = octet.y;
        row.pairs[4 * k + 2] = octet.z;
        row.pairs[4 * k + 3] = octet.w;
    }
    return row;
}

/* x becomes xhat. */
static __device__ __forceinline__ void normalise_octets(bf16 *x, float *rstds, half_row row, int thread)
{
    bf16 *own = x + thread % 2 * octet_pitch + thread / 2 * 8;
    const float rstd = normalise_half_row(row.pairs);
#pragma unroll
    for (int k = 0; k < octets / 2; k++) {
        *reinterpret_cast<uint4 *>(own + 2 * k * octet_pitch) =
            make_uint4(row.pairs[4 * k], row.pairs[4 * k + 1], row.pairs[4 * k + 2], row.pairs[4 * k + 3]);
    }
    if (thread % 2 == 0) {
        rstds[thread / 2] = rstd;
    }
}

/* What a thread has of its two rows of a tile, as products have them. */
struct octet_pairs {
    uint32_t of[2][octets];
};

static __device__ __forceinline__ octet_pairs load_octet_pairs(const bf16 *tile, int thread)
{
    const int row = thread / warp_size * 16 + thread % warp_size / 4;
    octet_pairs pairs;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int j = 0; j < octets; j++) {
            pairs.of[half][j] = *reinterpret_cast<const uint32_t *>(tile + j * octet_pitch +
                                                                    (row + 8 * half) * 8 + thread % 4 * 2);
        }
    }
    return pairs;
}

/* dx = rstd (g - xhat mean(g xhat)) + residual, where g is a product's and has mean 0 (folded_norm.cuh): the
 * thread's two rows, side by side, since nobody else hides their waits. What is read of the residual is added
 * to sum. Of two octets of a row neighbouring lanes write one each, 8 bytes at a time. */
static __device__ __forceinline__ void write_octets_gradient(bf16 *dx, float (&sum)[normed_pairs / 2],
                                                             const float (&g)[4 * octets],
                                                             const octet_pairs &xhat, const bf16 *residuals,
                                                             const float *rstds, const tile_walk &walk,
                                                             int tile, int thread)
{
    const int own = thread / warp_size * 16 + thread % warp_size / 4, t = thread % 4, odd = t % 2;
    const unsigned first = walk.first + (unsigned)tile * walk.step + (unsigned)own;
    float product[2] = {}, rstd[2] = {rstds[own], rstds[own + 8]};
    uint32_t result[2][octets];
    const octet_pairs residual = load_octet_pairs(residuals, thread);
#pragma unroll
    for (int j = 0; j < octets; j++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float low = g[4 * j + 2 * half], high = g[4 * j + 2 * half + 1];
            product[half] += low * low_of(xhat.of[half][j]);
            product[half] += high * high_of(xhat.of[half][j]);
        }
    }
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            product[half] += __shfl_xor_sync(whole_warp, product[half], lanes);
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float slope = product[half] * (-1.0f / normed_channels) * rstd[half];
#pragma unroll
        for (int j = 0; j < octets; j++) {
            const float low = low_of(residual.of[half][j]), high = high_of(residual.of[half][j]);
            const uint32_t x = xhat.of[half][j];
            sum[2 * j] += low;
            sum[2 * j + 1] += high;
            result[half][j] = pack_bf16(g[4 * j + 2 * half] * rstd[half] + (low_of(x) * slope + low),
                                        g[4 * j + 2 * half + 1] * rstd[half] + (high_of(x) * slope + high));
        }
    }
    bf16 *to = dx + (size_t)first * normed_channels + odd * 8 + t / 2 * 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int j = 0; j < octets; j += 2) {
            const uint32_t low = result[half][j], high = result[half][j + 1];
            const uint32_t other = __shfl_xor_sync(whole_warp, odd ? low : high, 1);
            if (first + 8 * half < walk.rows) {
                *reinterpret_cast<uint2 *>(to + 8 * half * normed_channels + 8 * j) =
                    make_uint2(odd ? other : low, odd ? high : other);
            }
        }
    }
}

#endif
