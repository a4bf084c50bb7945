/* Attention's gradient on tensor cores for heads of 32 and 64 channels (window_attention_backward_wide.cu):
 * what its block has in shared memory, and how a window gets there. */
#ifndef COMPUTE_CUDA_WINDOW_GRADIENT_WIDE_CUH
#define COMPUTE_CUDA_WINDOW_GRADIENT_WIDE_CUH

#include "compute/cuda/window_queries.cuh"

enum {
    key_warps = 7, /* the first ones */
    sum_warps = 5,
    block_threads = (key_warps + sum_warps) * warp_size,
};

/* Keys pass some planes at a time, so that keys, values and their gradients fit into the registers of
 * key_warps. */
template <int dims> struct key_pass {
    enum {
        tiles = 64 / dims,  /* of 16 keys, of a warp */
        planes = 2 * tiles, /* planes of 56 slots fill key_warps * tiles */
        most = (side + planes - 1) / planes,
        slots = planes * side * row_slots,
        slots_of_all = most * slots,
        eights = dims / 8,     /* of a token's channels: 16 bytes each */
        strip_row = slots + 8, /* longer than it need be, so that eight rows lie in different banks */
    };
};

/* A window's tokens: queries in the order of query_list, keys in rows of 8 slots. */
template <int dims> struct token_list {
    int query_rows[slots];
    int query_bias[slots + 16]; /* it may be asked for 16 more */
    int key_rows[key_pass<dims>::slots_of_all];
    uint8_t query_regions[slots], key_regions[key_pass<dims>::slots_of_all];
};

/* The eights of channels of a row are exchanged (eight_of_row), for the banks' sake. */
template <int dims> struct wide_shared {
    alignas(128) bf16 queries[slots][dims], douts[slots][dims];
    alignas(128) bf16 keys[2][key_pass<dims>::slots][dims];            /* of a pass and the next */
    alignas(16) bf16 strip[strip_rows + 1][key_pass<dims>::strip_row]; /* the last row is zeros */
    window_bias bias;                               /* over the scale, so that it is added to products */
    float4 table_sums[table_side][side][warp_size]; /* of add_to_table, by the difference in d from -6 */
    alignas(16) query_pair pairs[slots / 2];
    alignas(16) bf16 padding[2][dims];        /* its key and value */
    float bias_gradient[key_warps][2 * dims]; /* of k and v of padding, what each warp has seen */
    token_list<dims> tokens[2];               /* of a window and the next */
};

/* The arrays of one head in memory. */
struct head_arrays {
    bf16 *dqkv;
    const bf16 *dout, *out, *qkv;
    const float *logsumexp, *qkv_bias;
    float4 *dq_sums; /* of the block's window: [tile][eight of channels][lane], what earlier passes sum */
    int head;
};

/* Where the eights of channels of a row are, from the row's first on, in elements. */
template <int dims> static __device__ __forceinline__ int eight_of_row(int row, int eight)
{
    const int eights = key_pass<dims>::eights;
    return (eight ^ (row * eights / 8 & (eights - 1))) * 8;
}

/* Lists the tokens of a window, by threads `thread` of `threads`, and has what will be read of them brought
 * as far as the second-level cache. */
template <int dims>
static __device__ __forceinline__ void list_tokens(token_list<dims> *tokens, const head_arrays &a,
                                                   const window_grid &g, int window, int thread, int threads)
{
    if (window >= g.windows) {
        return;
    }
    const window_cut cut = cut_window(g, window);
    const int real = cut.real[0] * cut.real[1] * cut.real[2];
    const int compact = g.window[1] == side && g.window[2] == side;
    for (int number = thread; number < g.tokens; number += threads) {
        const window_token token = token_of_window(g, cut, number);
        const int slot = !compact ? number : token.row >= 0 ? token.rank : real + number - token.rank;
        const uint8_t region = (uint8_t)region_in_window(token.region);
        tokens->query_rows[slot] = tokens->key_rows[key_slot(number)] = token.row;
        tokens->query_regions[slot] = tokens->key_regions[key_slot(number)] = region;
        tokens->query_bias[slot] = bias_of_query(number);
#ifdef __CUDACC__
        if (token.row >= 0) {
            const size_t first = (size_t)token.row * g.heads + a.head;
            const bf16 *from = a.qkv + ((size_t)token.row * 3 * g.heads + a.head) * dims;
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from + g.heads * dims));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from + 2 * g.heads * dims));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(a.dout + first * dims));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(a.out + first * dims));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(a.logsumexp + first));
        }
#endif
    }
}

/* Queries and their outputs' gradient to shared memory, by the warps that have keys, neighbouring lanes an
 * eight of a row each. A query that is padding is none, whose scores are to be 0. `shift` is what scores have
 * too much, for powers of two.
 */
template <int dims>
static __device__ __forceinline__ void load_queries(wide_shared<dims> *s, const token_list<dims> *tokens,
                                                    const head_arrays &a, const window_grid &g, float shift)
{
    enum { eights = key_pass<dims>::eights, at_once = 4, rows = key_warps * warp_size / eights };
    static_assert(slots % (warp_size / eights) == 0, ""); /* a warp's rows all are slots, or none is */
    const int eight = (int)threadIdx.x % eights, column = a.head * dims + eight * 8, width = g.heads * dims;
    for (int first = (int)threadIdx.x / eights; first < slots; first += at_once * rows) {
        uint4 dy[at_once], y[at_once];
        float log_sum[at_once];
#pragma unroll
        for (int k = 0; k < at_once; k++) {
            const int slot = first + k * rows;
            if (slot >= slots) {
                break;
            }
            const int row = tokens->query_rows[slot];
            const size_t from = (size_t)max(row, 0) * width + column;
            copy_async(&s->queries[slot][eight_of_row<dims>(slot, eight)],
                       a.qkv + (size_t)max(row, 0) * 3 * width + column, row >= 0);
            dy[k] = y[k] = make_uint4(0, 0, 0, 0);
            log_sum[k] = INFINITY;
            if (row >= 0) {
                dy[k] = *(const uint4 *)(a.dout + from);
                y[k] = *(const uint4 *)(a.out + from);
                log_sum[k] = a.logsumexp[(size_t)row * g.heads + a.head];
            }
        }
#pragma unroll
        for (int k = 0; k < at_once; k++) {
            const int slot = first + k * rows;
            if (slot >= slots) {
                break;
            }
            float delta = -dot_of_eight(dy[k], y[k]);
            for (int bits = 1; bits < eights; bits *= 2) {
                delta += __shfl_xor_sync(whole_warp, delta, bits);
            }
            store_eight(&s->douts[slot][eight_of_row<dims>(slot, eight)], dy[k]);
            if (eight == 0) {
                query_pair *with_next = &s->pairs[slot / 2];
                with_next->shift[slot % 2] = -log_sum[k] * log2_of_e - shift;
                with_next->delta[slot % 2] = with_next->delta[slot % 2 + 2] = delta;
            }
        }
    }
}

/* Begins to bring the keys of a pass to shared memory, by the warps that sum. */
template <int dims>
static __device__ __forceinline__ void copy_keys(wide_shared<dims> *s, const token_list<dims> *tokens,
                                                 const head_arrays &a, const window_grid &g, int pass)
{
    enum { eights = key_pass<dims>::eights };
    const int width = g.heads * dims;
    for (int e = (int)threadIdx.x - key_warps * warp_size; e < key_pass<dims>::slots * eights;
         e += sum_warps * warp_size) {
        const int key = e / eights, eight = e % eights, number = pass * key_pass<dims>::slots + key;
        const int row = tokens->key_rows[number];
        bf16 *to = &s->keys[pass % 2][key][eight_of_row<dims>(key, eight)];
        if (row >= 0) {
            copy_async(to, a.qkv + ((size_t)row * 3 + 1) * width + a.head * dims + eight * 8, 1);
        } else if (tokens->key_regions[number] != no_key) {
            const bf16 *padding = s->padding[0] + eight * 8;
            store_eight(to, *(const uint4 *)padding);
        }
    }
}

/* What no window changes: zeros, padding, and slots without a token. */
template <int dims>
static __device__ __forceinline__ void begin_block(wide_shared<dims> *s, const head_arrays &a,
                                                   const window_grid &g)
{
    const int words = (int)(offsetof(wide_shared<dims>, bias) / sizeof(uint4));
    for (int k = (int)threadIdx.x; k < words; k += block_threads) {
        ((uint4 *)s)[k] = make_uint4(0, 0, 0, 0);
    }
    for (int n = 0; n < 2; n++) {
        token_list<dims> *tokens = &s->tokens[n];
        for (int k = (int)threadIdx.x; k < key_pass<dims>::slots_of_all; k += block_threads) {
            tokens->key_rows[k] = no_token;
            tokens->key_regions[k] = no_key;
        }
        for (int k = (int)threadIdx.x; k < slots + 16; k += block_threads) {
            tokens->query_bias[k] = bias_of_query(0);
        }
        for (int k = (int)threadIdx.x; k < slots; k += block_threads) {
            tokens->query_regions[k] = 0;
            tokens->query_rows[k] = no_token;
        }
    }
    for (int k = (int)threadIdx.x; k < table_side * side * warp_size; k += block_threads) {
        ((float4 *)s->table_sums)[k] = make_float4(0, 0, 0, 0);
    }
    for (int k = (int)threadIdx.x; k < 2 * dims; k += block_threads) {
        const float bias = a.qkv_bias[((k / dims + 1) * g.heads + a.head) * dims + k % dims];
        s->padding[0][k] = from_float<bf16>(bias);
    }
    for (int k = (int)threadIdx.x; k < key_warps * 2 * dims; k += block_threads) {
        ((float *)s->bias_gradient)[k] = 0;
    }
}

#endif
