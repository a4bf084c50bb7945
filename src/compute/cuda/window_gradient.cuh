/* Attention's gradient on tensor cores (window_attention_backward.cu): what its block has in shared memory,
 * and how a window gets there. */
#ifndef COMPUTE_CUDA_WINDOW_GRADIENT_CUH
#define COMPUTE_CUDA_WINDOW_GRADIENT_CUH

#include "compute/cuda/window_queries.cuh"

enum {
    dims = 16,
    key_tiles = 3, /* of 16 keys, of a warp that has nothing but keys */
    key_warps = 24 / key_tiles,
    sum_warps = 4, /* the first of them has the window's last keys, too */
    block_warps = key_warps + sum_warps,
    block_threads = block_warps * warp_size,
    key_slots = 400,     /* to whole tiles */
    last_keys = 24 * 16, /* the first of them */
    strip_row = key_slots + 8,
};

/* Rows of the strip are longer than they need be, so that eight of them lie in different banks; for the same
 * reason the halves of some rows of 16 channels are exchanged (channel_half). */
struct backward_shared {
    alignas(16) bf16 queries[slots][dims], douts[slots][dims];
    alignas(16) bf16 keys[key_slots][dims], values[key_slots][dims];
    alignas(16) bf16 strip[strip_rows + 1][strip_row]; /* of each query; the last row is zeros */
    window_bias bias;                                  /* over the scale, so that it is added to products */
    float4 table_sums[table_side][side][warp_size];    /* of add_to_table, by the difference in d from -6 */
    alignas(16) query_pair pairs[slots / 2];
    alignas(16) uint32_t query_masks[slots][4]; /* coordinates of the mask, a pair each */
    int query_bias[slots];
    uint32_t key_regions[key_slots];
    int query_rows[slots], key_rows[key_slots];
    float bias_gradient[block_warps][2 * dims]; /* of k and v of padding, what each warp has seen */
};

/* Where 8 channels of a row are: a row is all rows' of the same number modulo 8. */
static __device__ __forceinline__ int channel_half(int row, int half)
{
    return (half ^ (row >> 2 & 1)) * 8;
}

/* Eight neighbours of one part of a token's row; padding's are the bias. */
static __device__ __forceinline__ uint4 eight_of(const bf16 *qkv, const float *qkv_bias, const window_grid &g,
                                                 int row, int part, int head, int i)
{
    const int channels = g.heads * dims, column = part * channels + head * dims + i;
    if (row >= 0) {
        return *(const uint4 *)(qkv + (size_t)row * 3 * channels + column);
    }
    const float *bias = qkv_bias + column;
    return make_uint4(pack_bf16(bias[0], bias[1]), pack_bf16(bias[2], bias[3]), pack_bf16(bias[4], bias[5]),
                      pack_bf16(bias[6], bias[7]));
}

/* What a thread brings of a window: one token. It waits in registers until shared memory is free. */
struct token_rows {
    int exists, row, slot; /* slot: of its query, in the list's order */
    uint32_t region;
    float logsumexp;
    uint4 q[2], k[2], v[2], dy[2], y[2];
};

static __device__ __forceinline__ void fetch_token(token_rows *t, const bf16 *dout, const bf16 *out,
                                                   const float *logsumexp, const bf16 *qkv,
                                                   const float *qkv_bias, const window_grid &g,
                                                   const window_cut &cut, int exists, int head)
{
    const int number = (int)threadIdx.x;
    *t = token_rows{};
    t->exists = exists && number < g.tokens;
    if (!t->exists) {
        return;
    }
    const window_token token = token_of_window(g, cut, number);
    const int real = cut.real[0] * cut.real[1] * cut.real[2];
    const int compact = g.window[1] == side && g.window[2] == side;
    const size_t first = ((size_t)max(token.row, 0) * g.heads + head) * dims;
    t->row = token.row;
    t->region = region_in_window(token.region);
    t->slot = !compact ? number : token.row >= 0 ? token.rank : real + number - token.rank;
    t->logsumexp = token.row >= 0 ? logsumexp[(size_t)token.row * g.heads + head] : 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        t->k[half] = eight_of(qkv, qkv_bias, g, token.row, 1, head, half * 8);
        t->v[half] = eight_of(qkv, qkv_bias, g, token.row, 2, head, half * 8);
        if (token.row >= 0) {
            t->q[half] = eight_of(qkv, qkv_bias, g, token.row, 0, head, half * 8);
            t->dy[half] = *(const uint4 *)(dout + first + half * 8);
            t->y[half] = *(const uint4 *)(out + first + half * 8);
        }
    }
}

/* To shared memory: keys lie in rows of 8 slots. A query that is padding is none, whose scores are to be 0.
 * `shift` is what scores have too much, for powers of two. */
static __device__ __forceinline__ void put_token(backward_shared *s, const token_rows *t, float shift)
{
    const int number = (int)threadIdx.x, key = key_slot(number), slot = t->slot;
    if (!t->exists) {
        return;
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        store_eight(&s->keys[key][channel_half(key, half)], t->k[half]);
        store_eight(&s->values[key][channel_half(key, half)], t->v[half]);
        store_eight(&s->queries[slot][channel_half(slot, half)], t->q[half]);
        store_eight(&s->douts[slot][channel_half(slot, half)], t->dy[half]);
    }
    s->key_rows[key] = t->row;
    s->key_regions[key] = t->region;
    s->query_rows[slot] = t->row;
    const uint32_t there = one_bits << t->region % 2 * 16, pair = t->region / 2;
    *(uint4 *)s->query_masks[slot] = make_uint4(pair == 0 ? there : 0, pair == 1 ? there : 0,
                                                pair == 2 ? there : 0, pair == 3 ? there : 0);
    s->query_bias[slot] = bias_of_query(number);
    query_pair *with_next = &s->pairs[slot / 2];
    with_next->shift[slot % 2] = t->row >= 0 ? -t->logsumexp * log2_of_e - shift : -INFINITY;
    with_next->delta[slot % 2] = with_next->delta[slot % 2 + 2] =
        -(dot_of_eight(t->dy[0], t->y[0]) + dot_of_eight(t->dy[1], t->y[1]));
}

/* Has what fetch_token will read of another window brought as far as the second-level cache, by the warps
 * that sum. */
static __device__ __forceinline__ void expect_window(const bf16 *dout, const bf16 *out, const bf16 *qkv,
                                                     const window_grid &g, int window, int head)
{
#ifdef __CUDACC__
    if (window >= g.windows) {
        return;
    }
    const window_cut cut = cut_window(g, window);
    for (int number = (int)threadIdx.x - key_warps * warp_size; number < g.tokens;
         number += sum_warps * warp_size) {
        const window_token token = token_of_window(g, cut, number);
        if (token.row >= 0) {
            const size_t first = ((size_t)token.row * g.heads + head) * dims;
            const bf16 *from = qkv + ((size_t)token.row * 3 * g.heads + head) * dims;
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from + g.heads * dims));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from + 2 * g.heads * dims));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(dout + first));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(out + first));
        }
    }
#endif
}

/* What no window changes: zeros, and slots without a token. */
static __device__ __forceinline__ void begin_block(backward_shared *s)
{
    const int words = (int)(offsetof(backward_shared, bias) / sizeof(uint4));
    for (int k = (int)threadIdx.x; k < words; k += block_threads) {
        ((uint4 *)s)[k] = make_uint4(0, 0, 0, 0);
    }
    for (int k = (int)threadIdx.x; k < key_slots; k += block_threads) {
        s->key_rows[k] = no_token;
        s->key_regions[k] = no_key;
    }
    for (int k = (int)threadIdx.x; k < slots; k += block_threads) {
        s->pairs[k / 2].shift[k % 2] = -INFINITY;
        s->pairs[k / 2].delta[k % 2] = s->pairs[k / 2].delta[k % 2 + 2] = 0;
        s->query_bias[k] = bias_of_query(0);
        for (int pair = 0; pair < 4; pair++) {
            s->query_masks[k][pair] = pair == 0 ? one_bits : 0;
        }
        s->query_rows[k] = no_token;
    }
    for (int k = (int)threadIdx.x; k < table_side * side * warp_size; k += block_threads) {
        ((float4 *)s->table_sums)[k] = make_float4(0, 0, 0, 0);
    }
    for (int k = (int)threadIdx.x; k < block_warps * 2 * dims; k += block_threads) {
        ((float *)s->bias_gradient)[k] = 0;
    }
}

#endif
