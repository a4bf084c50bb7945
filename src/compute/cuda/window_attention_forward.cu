/* Window attention in bf16 on tensor cores. A warp takes 32 queries of a window and meets all its keys, 16 at
 * a time, with the softmax kept up to date as they pass. Queries are the real tokens only, one after the
 * other; keys are all tokens of the window, in shared memory. */
#include "compute/cuda/window_bias.cuh"

enum {
    queries_of_warp = 32,
    slots_most = 352, /* queries of a window, to whole warps */
    key_slots = 400,  /* to whole tiles of 16 */
};

/* p grows up to 2^8 before the largest score is brought up to date. */
static const float slack = 8;

/* What the block of forward shares; rows of keys are 16 bytes longer than they need be, so that eight of them
 * lie in different banks. */
template <int dims> struct forward_shared {
    bf16 keys[key_slots][dims + 8], values[key_slots][dims + 8];
    window_bias bias;                    /* over the scale, so that it is added to products */
    int row_bias[key_slots / row_slots]; /* of rows of keys; -1: there is no such row */
    uint32_t key_regions[key_slots], query_regions[slots_most];
    int query_bias[slots_most];
    int query_rows[slots_most]; /* -1: no query */
};

/* One part of a token's row to shared memory: padding's is the bias. */
template <int dims>
static __device__ __forceinline__ void load_row(bf16 *to, const bf16 *qkv, const float *qkv_bias,
                                                const window_grid &g, int row, int part, int head)
{
    const int channels = g.heads * dims, column = part * channels + head * dims;
    for (int i = 0; i < dims; i += 8) {
        uint4 eight = make_uint4(0, 0, 0, 0);
        if (row >= 0) {
            eight = *(const uint4 *)(qkv + (size_t)row * 3 * channels + column + i);
        } else {
            const float *bias = qkv_bias + column + i;
            eight = make_uint4(pack_bf16(bias[0], bias[1]), pack_bf16(bias[2], bias[3]),
                               pack_bf16(bias[4], bias[5]), pack_bf16(bias[6], bias[7]));
        }
        *(uint4 *)(to + i) = eight;
    }
}

/* Brings the window's keys, and the list of its queries, to shared memory. */
template <int dims>
static __device__ __forceinline__ void load_window(forward_shared<dims> *s, const bf16 *qkv,
                                                   const float *qkv_bias, const window_grid &g,
                                                   const window_cut &cut, int head)
{
    const int real = cut.real[0] * cut.real[1] * cut.real[2];
    for (int number = (int)threadIdx.x; number < g.tokens; number += (int)blockDim.x) {
        const window_token token = token_of_window(g, cut, number);
        const uint32_t region = region_in_window(token.region);
        const int slot = token.row >= 0 ? token.rank : real + number - token.rank, key = key_slot(number);
        s->query_rows[slot] = token.row;
        s->query_bias[slot] = bias_of_query(number);
        s->query_regions[slot] = region;
        s->key_regions[key] = region;
        load_row<dims>(s->keys[key], qkv, qkv_bias, g, token.row, 1, head);
        load_row<dims>(s->values[key], qkv, qkv_bias, g, token.row, 2, head);
    }
}

/* Has what will be read of another window brought as far as the second-level cache. */
template <int dims>
static __device__ __forceinline__ void expect_window(const bf16 *qkv, const window_grid &g, int window,
                                                     int head)
{
#ifdef __CUDACC__
    if (window >= g.windows) {
        return;
    }
    const window_cut cut = cut_window(g, window);
    for (int number = (int)threadIdx.x; number < g.tokens; number += (int)blockDim.x) {
        const window_token token = token_of_window(g, cut, number);
        if (token.row >= 0) {
            const bf16 *from = qkv + ((size_t)token.row * 3 * g.heads + head) * dims;
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from + g.heads * dims));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(from + 2 * g.heads * dims));
        }
    }
#endif
}

/* What no window changes: zeros, and slots without a token. */
template <int dims>
static __device__ __forceinline__ void begin_block(forward_shared<dims> *s, const window_grid &g)
{
    for (int k = (int)threadIdx.x; k < (int)(2 * sizeof s->keys / sizeof(uint4)); k += (int)blockDim.x) {
        ((uint4 *)s)[k] = make_uint4(0, 0, 0, 0);
    }
    for (int k = (int)threadIdx.x; k < key_slots; k += (int)blockDim.x) {
        s->key_regions[k] = no_key;
        if (k < key_slots / row_slots) {
            s->row_bias[k] = k < rows_of_keys(g) ? bias_of_row(k) : -1;
        }
    }
    for (int k = (int)threadIdx.x; k < slots_most; k += (int)blockDim.x) {
        s->query_rows[k] = -1;
        s->query_bias[k] = bias_of_query(0);
        s->query_regions[k] = 0;
    }
}

/* A warp's 32 queries: rows m 16 + half 8 + lane / 4 of the fragments. */
template <int dims> struct query_tile {
    uint32_t q[2][dims / 16][4];
    const char *bias[2]; /* of the query that the lane asks for */
    uint32_t mask[2][2];
    float largest[2][2], sum[2][2]; /* sum: of this lane's keys alone */
    float out[2][dims / 8][4];      /* not yet over the sum */
};

template <int dims>
static __device__ __forceinline__ void load_queries(query_tile<dims> *t, const forward_shared<dims> *s,
                                                    const bf16 *qkv, const window_grid &g, int first,
                                                    int head)
{
    const int lane = (int)threadIdx.x % warp_size, channels = g.heads * dims;
#pragma unroll
    for (int m = 0; m < 2; m++) {
        t->bias[m] = (const char *)s->bias.rows + s->query_bias[first + m * 16 + lane % 16];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int slot = first + m * 16 + half * 8 + lane / 4;
            const int row = s->query_rows[slot];
            const bf16 *from = qkv + (size_t)max(row, 0) * 3 * channels + head * dims + lane % 4 * 2;
            t->mask[m][half] = query_region_pair(s->query_regions[slot]);
            t->largest[m][half] = -INFINITY;
            t->sum[m][half] = 0;
#pragma unroll
            for (int k = 0; k < dims / 16; k++) {
                t->q[m][k][half] = row >= 0 ? *(const uint32_t *)(from + k * 16) : 0;
                t->q[m][k][half + 2] = row >= 0 ? *(const uint32_t *)(from + k * 16 + 8) : 0;
            }
        }
#pragma unroll
        for (int n = 0; n < dims / 8; n++) {
            t->out[m][n][0] = t->out[m][n][1] = t->out[m][n][2] = t->out[m][n][3] = 0;
        }
    }
}

/* The products of the queries with keys first ... first + 15, bias included: columns n 8 of the fragments. */
template <int dims, bool masked>
static __device__ __forceinline__ void score_keys(float score[2][2][4], const query_tile<dims> *t,
                                                  const forward_shared<dims> *s, int first)
{
    const int lane = (int)threadIdx.x % warp_size, row_bias = s->row_bias[first / row_slots + lane / 16];
#pragma unroll
    for (int m = 0; m < 2; m++) {
        uint32_t bias[4];
        load_matrices(bias, row_bias >= 0 ? t->bias[m] - row_bias : (const char *)&s->bias.none);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            from_halves(&score[m][k / 2][k % 2 * 2], &score[m][k / 2][k % 2 * 2 + 1], bias[k]);
        }
    }
    if (masked) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
            uint32_t keys[2];
            key_region_pairs<dims>(&keys[0], &keys[1], s->key_regions[first + n * 8 + lane / 4]);
#pragma unroll
            for (int m = 0; m < 2; m++) {
                const uint32_t queries[4] = {t->mask[m][0], t->mask[m][1], t->mask[m][0], t->mask[m][1]};
                multiply_add_bf16(score[m][n], queries, keys);
            }
        }
    }
#pragma unroll
    for (int k = 0; k < dims / 16; k++) {
        uint32_t keys[4];
        load_matrices(keys, &s->keys[first + lane / 16 * 8 + lane % 8][k * 16 + lane / 8 % 2 * 8]);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            multiply_add_bf16(score[m][0], t->q[m][k], keys);
            multiply_add_bf16(score[m][1], t->q[m][k], keys + 2);
        }
    }
}

/* Brings the largest scores up to date where some query of the warp has seen one that is much larger; what
 * was summed so far is scaled. `unit` is that of scores, for powers of two. */
template <int dims>
static __device__ __forceinline__ void raise_largest(query_tile<dims> *t, const float score[2][2][4],
                                                     float unit)
{
    float seen[2][2];
    int grew = 0;
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            seen[m][half] = fmaxf(fmaxf(score[m][0][half * 2], score[m][0][half * 2 + 1]),
                                  fmaxf(score[m][1][half * 2], score[m][1][half * 2 + 1]));
            grew |= seen[m][half] > t->largest[m][half] + slack / unit;
        }
    }
    if (!__any_sync(whole_warp, grew)) {
        return;
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = fmaxf(seen[m][half], __shfl_xor_sync(whole_warp, seen[m][half], 1));
            largest = fmaxf(largest, __shfl_xor_sync(whole_warp, largest, 2));
            largest = fmaxf(largest, t->largest[m][half]);
            const float factor = power_of_two((t->largest[m][half] - largest) * unit);
            t->largest[m][half] = largest;
            t->sum[m][half] *= factor;
#pragma unroll
            for (int n = 0; n < dims / 8; n++) {
                t->out[m][n][half * 2] *= factor;
                t->out[m][n][half * 2 + 1] *= factor;
            }
        }
    }
}

/* Adds the keys' values, each with the power of its score. */
template <int dims>
static __device__ __forceinline__ void add_values(query_tile<dims> *t, float score[2][2][4],
                                                  const forward_shared<dims> *s, int first, float unit)
{
    const int lane = (int)threadIdx.x % warp_size;
    uint32_t p[2][4];
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float shift = -t->largest[m][half] * unit;
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const float low = power_of_two(fmaf(score[m][n][half * 2], unit, shift));
                const float high = power_of_two(fmaf(score[m][n][half * 2 + 1], unit, shift));
                t->sum[m][half] += low + high;
                p[m][n * 2 + half] = pack_pair(low, high);
            }
        }
    }
#pragma unroll
    for (int n = 0; n < dims / 8; n += 2) {
        uint32_t values[4];
        load_matrices_transposed(values, &s->values[first + lane % 16][n * 8 + lane / 16 * 8]);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            multiply_add_bf16(t->out[m][n], p[m], values);
            multiply_add_bf16(t->out[m][n + 1], p[m], values + 2);
        }
    }
}

template <int dims>
static __device__ __forceinline__ void store_outputs(bf16 *out, float *logsumexp, const query_tile<dims> *t,
                                                     const forward_shared<dims> *s, const window_grid &g,
                                                     int first, int head, float shift)
{
    const int lane = (int)threadIdx.x % warp_size;
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = t->sum[m][half] + __shfl_xor_sync(whole_warp, t->sum[m][half], 1);
            sum += __shfl_xor_sync(whole_warp, sum, 2);
            const int row = s->query_rows[first + m * 16 + half * 8 + lane / 4];
            const float share = 1 / sum;
            if (row < 0) {
                continue;
            }
            bf16 *to = out + ((size_t)row * g.heads + head) * dims + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < dims / 8; n++) {
                *(uint32_t *)(to + n * 8) =
                    pack_pair(t->out[m][n][half * 2] * share, t->out[m][n][half * 2 + 1] * share);
            }
            if (lane % 4 == 0) {
                logsumexp[(size_t)row * g.heads + head] = (t->largest[m][half] - shift) * g.scale + logf(sum);
            }
        }
    }
}

template <int dims, bool masked>
static __device__ __forceinline__ void attend_in_window(bf16 *out, float *logsumexp,
                                                        const forward_shared<dims> *s, const bf16 *qkv,
                                                        const window_grid &g, int queries, int head)
{
    const int warp = (int)threadIdx.x / warp_size, warps = (int)blockDim.x / warp_size;
    const float unit = g.scale * log2_of_e, shift = masked ? region_code<dims>::more : 0;
    const int slots_of_keys = rows_of_keys(g) * row_slots;
    for (int first = warp * queries_of_warp; first < queries; first += warps * queries_of_warp) {
        query_tile<dims> tile;
        load_queries<dims>(&tile, s, qkv, g, first, head);
        for (int key = 0; key < slots_of_keys; key += 16) {
            float score[2][2][4];
            score_keys<dims, masked>(score, &tile, s, key);
            raise_largest<dims>(&tile, score, unit);
            add_values<dims>(&tile, score, s, key, unit);
        }
        store_outputs<dims>(out, logsumexp, &tile, s, g, first, head, shift);
    }
}

/* Blocks of few warps, several of them to a multiprocessor: one waits for memory while another works, and a
 * window with few queries leaves few warps idle. */
template <int dims> struct block_of {
    enum { warps = dims == 16 ? 7 : dims == 32 ? 6 : 11, blocks = dims == 16 ? 3 : dims == 32 ? 2 : 1 };
};

template <int dims>
static __global__ void __launch_bounds__(block_of<dims>::warps *warp_size, block_of<dims>::blocks)
    attend(bf16 *out, float *logsumexp, const bf16 *qkv, const float *qkv_bias, const float *bias_table,
           window_grid g)
{
    dynamic_shared(forward_shared<dims>, s);
    const int head = (int)blockIdx.x;
    begin_block<dims>(s, g);
    load_bias(&s->bias, bias_table, head, g.heads, 1 / g.scale);
    for (int window = (int)blockIdx.y; window < g.windows; window += (int)gridDim.y) {
        const window_cut cut = cut_window(g, window);
        const int queries = cut.real[0] * cut.real[1] * cut.real[2];
        __syncthreads();
        load_window<dims>(s, qkv, qkv_bias, g, cut, head);
        __syncthreads();
        expect_window<dims>(qkv, g, window + (int)gridDim.y, head);
        if (needs_mask(g, cut)) {
            attend_in_window<dims, true>(out, logsumexp, s, qkv, g, queries, head);
        } else {
            attend_in_window<dims, false>(out, logsumexp, s, qkv, g, queries, head);
        }
    }
}

template <int dims>
static void attend_on_tensor_cores(struct compute *c, activation *out, float *logsumexp,
                                   const activation *qkv, const float *qkv_bias, const float *bias_table,
                                   const window_grid *g)
{
    const int groups = window_groups(g, block_of<dims>::blocks * cuda_state(c)->multiprocessors);
    const int warps = (int)divide_up((size_t)g->tokens, queries_of_warp);
    const int most = block_of<dims>::warps;
    launch(c, attend<dims>, dim3((unsigned)g->heads, (unsigned)groups),
           dim3((unsigned)((warps < most ? warps : most) * warp_size)), sizeof(forward_shared<dims>),
           (bf16 *)out, logsumexp, (const bf16 *)qkv, qkv_bias, bias_table, *g);
}

void cuda_window_attention_forward(struct compute *c, activation *out, float *logsumexp,
                                   const activation *qkv, const float *qkv_bias, const float *bias_table,
                                   const struct attention_shape *shape)
{
    if (!attention_is_supported(c, shape)) {
        return;
    }
    const window_grid g = window_grid_of(shape);
    const int is_bf16 = c->precision == PRECISION_BF16;
    if (is_bf16 && g.head_dim == 16) {
        attend_on_tensor_cores<16>(c, out, logsumexp, qkv, qkv_bias, bias_table, &g);
    } else if (is_bf16 && g.head_dim == 32) {
        attend_on_tensor_cores<32>(c, out, logsumexp, qkv, qkv_bias, bias_table, &g);
    } else if (is_bf16 && g.head_dim == 64 && cuda_state(c)->shared_per_block >= sizeof(forward_shared<64>)) {
        attend_on_tensor_cores<64>(c, out, logsumexp, qkv, qkv_bias, bias_table, &g);
    } else {
        plain_window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, shape);
    }
}
