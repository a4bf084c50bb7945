/* Attention's gradient on tensor cores (window_attention_backward.cu): what is summed over keys, from the
 * strip that has the scores' gradient. */
#ifndef COMPUTE_CUDA_WINDOW_STRIP_SUMS_CUH
#define COMPUTE_CUDA_WINDOW_STRIP_SUMS_CUH

#include "compute/cuda/window_gradient.cuh"
#include "compute/cuda/window_table_sums.cuh"

/* dq of a tile of queries, whose scores' gradient is in the strip. */
static __device__ __forceinline__ void query_gradient(bf16 *dqkv, const backward_shared *s, int tile,
                                                      const window_grid &g, int head)
{
    const int lane = (int)threadIdx.x % warp_size, steps = (rows_of_keys(g) + 1) / 2;
    const bf16 *keys_from = &s->keys[lane % 16][channel_half(lane, lane / 16)];
    const bf16 *ds_from = &s->strip[strip_row_of_tile(tile) + lane % 16][lane / 16 * 8];
    float sum[4][2][4] = {}; /* four of each, so that products wait less for each other */
    int step = 0;
#pragma unroll 1
    for (; step + 4 <= steps; step += 4) {
        uint32_t ds[4][4], keys[4][4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            load_matrices_transposed(keys[k], keys_from + (step + k) * 16 * dims);
            load_matrices(ds[k], ds_from + (step + k) * 16);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            multiply_add_bf16(sum[k][0], ds[k], keys[k]);
            multiply_add_bf16(sum[k][1], ds[k], keys[k] + 2);
        }
    }
#pragma unroll 1
    for (; step < steps; step++) {
        uint32_t ds[4], keys[4];
        load_matrices_transposed(keys, keys_from + step * 16 * dims);
        load_matrices(ds, ds_from + step * 16);
        multiply_add_bf16(sum[0][0], ds, keys);
        multiply_add_bf16(sum[0][1], ds, keys + 2);
    }
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            sum[0][n][e] = ((sum[0][n][e] + sum[1][n][e]) + (sum[2][n][e] + sum[3][n][e])) * g.scale;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = s->query_rows[tile * 16 + half * 8 + lane / 4];
        if (row >= 0) {
            bf16 *to = dqkv + ((size_t)row * 3 * g.heads + head) * dims + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < 2; n++) {
                *(uint32_t *)(to + n * 8) = pack_pair(sum[0][n][half * 2], sum[0][n][half * 2 + 1]);
            }
        }
    }
}

/* Adds a plane of queries, of place d, to the table's sums of `count` differences in d: those that are
 * `first` and the next ones modulo 7. */
template <int count>
static __device__ __forceinline__ void add_plane(backward_shared *s, const plane_rows &in_strip, int d,
                                                 int first)
{
    table_tiles tiles[count];
    int apart[count], key_plane[count];
#pragma unroll
    for (int p = 0; p < count; p++) {
        apart[p] = d < first + p ? first + p - side : first + p;
        key_plane[p] = d - apart[p];
        load_tiles(&tiles[p], s->table_sums[apart[p] + side - 1]);
    }
    const char *strip = (const char *)s->strip;
    const char *zeros = strip + strip_rows * strip_row * (int)sizeof(bf16);
    add_to_table<count>(tiles, strip, zeros, in_strip, key_plane);
#pragma unroll
    for (int p = 0; p < count; p++) {
        store_tiles(s->table_sums[apart[p] + side - 1], &tiles[p]);
    }
}

/* What the block has summed over its windows, to scratch memory. */
static __device__ __forceinline__ void store_sums(float *partials, const backward_shared *s)
{
    store_table_sums<block_threads>(partials, s->table_sums);
    for (int k = (int)threadIdx.x; k < 2 * dims; k += block_threads) {
        float sum = 0;
        for (int w = 0; w < block_warps; w++) {
            sum += s->bias_gradient[w][k];
        }
        partials[relative_table_rows + k] = sum;
    }
}

#endif
