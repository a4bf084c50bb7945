/* The gradient of window attention in bf16, on tensor cores, for heads of 32 and 64 channels.
 *
 * As window_attention_backward.cu has it, but for what would not fit: keys pass a few planes at a time, and
 * what earlier passes have summed for the queries waits in scratch memory, 4 bytes for each of the block's
 * 352 x channels. In a pass some warps have its keys and values in registers, with their gradients, and meet
 * all queries; the others sum over keys, a plane of queries behind, with the strip between them.
 *
 * A block takes 206 KB of shared memory for heads of 32 channels and 227 KB for 64, which Hopper has, and
 * sm_100; sm_80 (163 KB), 86, 89 and 120 (99 KB) have not, and take the plain kernel. */
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/window_wide_strip_sums.cuh"

enum { queries_are_read = 5 }; /* a named barrier, beside those of window_queries.cuh */

/* ---- warps that have keys ---- */

/* 16 keys (rows of fragments) and what is summed for them. */
template <int dims> struct key_tile {
    uint32_t k[dims / 16][4], v[dims / 16][4], mask[4];
    const char *bias; /* for the row of keys that the lane asks for: from here by what a query adds */
    int has_bias;     /* all bits; or none: there is no such row */
    float dk[dims / 8][4], dv[dims / 8][4];
};

/* Keys and values `first` and so on of the window, from memory. All is asked for before any is looked at. */
template <int dims>
static __device__ __forceinline__ void load_rows(key_tile<dims> *t, const wide_shared<dims> *s,
                                                 const token_list<dims> *tokens, const head_arrays &a,
                                                 const window_grid &g, int first)
{
    const int lane = (int)threadIdx.x % warp_size, width = g.heads * dims, column = lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = max(tokens->key_rows[first + half * 8 + lane / 4], 0);
        const bf16 *from = a.qkv + ((size_t)row * 3 + 1) * width + a.head * dims + column;
#pragma unroll
        for (int k = 0; k < dims / 16; k++) {
            t->k[k][half] = *(const uint32_t *)(from + k * 16);
            t->k[k][half + 2] = *(const uint32_t *)(from + k * 16 + 8);
            t->v[k][half] = *(const uint32_t *)(from + width + k * 16);
            t->v[k][half + 2] = *(const uint32_t *)(from + width + k * 16 + 8);
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int number = first + half * 8 + lane / 4, is_key = tokens->key_regions[number] != no_key;
        if (tokens->key_rows[number] < 0) {
#pragma unroll
            for (int k = 0; k < dims / 16; k++) {
#pragma unroll
                for (int right = 0; right < 2; right++) {
                    const bf16 *from = s->padding[0] + k * 16 + right * 8 + column;
                    t->k[k][half + right * 2] = is_key ? *(const uint32_t *)from : 0;
                    t->v[k][half + right * 2] = is_key ? *(const uint32_t *)(from + dims) : 0;
                }
            }
        }
    }
}

template <int dims>
static __device__ __forceinline__ void load_keys(key_tile<dims> *t, const wide_shared<dims> *s,
                                                 const token_list<dims> *tokens, const head_arrays &a,
                                                 const window_grid &g, int first)
{
    const int lane = (int)threadIdx.x % warp_size, row = first / row_slots + lane / 8 % 2;
    const int exists = row < rows_of_keys(g);
    load_rows<dims>(t, s, tokens, a, g, first);
    t->bias = exists ? (const char *)s->bias.rows - bias_of_row(row) : (const char *)&s->bias.none;
    t->has_bias = exists ? -1 : 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t region = tokens->key_regions[first + half * 8 + lane / 4];
        key_region_pairs<dims>(&t->mask[half], &t->mask[half + 2], region);
    }
#pragma unroll
    for (int n = 0; n < dims / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            t->dk[n][e] = t->dv[n][e] = 0;
        }
    }
}

/* Where a lane's part of 16 queries is: `for_scores` as the right-hand side of products over channels
 * (queries are columns), `for_sums` over queries (channels are columns). */
template <int dims> struct query_reader {
    const bf16 *for_scores, *for_sums; /* rows, and where in them the first 16 channels are */
    int scores_column, sums_column;
    const query_pair *pair;
    const int *bias;
    const uint8_t *region;
};

template <int dims>
static __device__ __forceinline__ query_reader<dims> read_queries(const wide_shared<dims> *s,
                                                                  const token_list<dims> *tokens)
{
    const int lane = (int)threadIdx.x % warp_size, slot = lane / 16 * 8 + lane % 8;
    query_reader<dims> r;
    r.for_scores = s->queries[slot];
    r.for_sums = s->queries[lane % 16];
    r.scores_column = eight_of_row<dims>(slot, lane / 8 % 2);
    r.sums_column = eight_of_row<dims>(lane % 16, lane / 16);
    r.pair = &s->pairs[lane % 4];
    r.bias = &tokens->query_bias[slot];
    r.region = &tokens->query_regions[lane / 4];
    return r;
}

template <int dims> static __device__ __forceinline__ void to_next_tile(query_reader<dims> *r)
{
    r->for_scores += 16 * dims;
    r->for_sums += 16 * dims;
    r->pair += 8;
    r->bias += 16;
    r->region += 16;
}

/* What the scores of 16 queries begin with. It is asked for while those before are summed, so that nobody
 * waits for it. */
template <int dims> struct first_fragments {
    uint32_t bias[key_pass<dims>::tiles][4], q[4], dy[4];
};

/* `of_query` is what the lane's query adds to key_tile's bias. */
template <int dims>
static __device__ __forceinline__ void load_first(first_fragments<dims> *f, const key_tile<dims> *t,
                                                  const bf16 *queries, int of_query)
{
#pragma unroll
    for (int m = 0; m < key_pass<dims>::tiles; m++) {
        load_matrices_transposed(f->bias[m], t[m].bias + (of_query & t[m].has_bias));
    }
    load_matrices(f->q, queries);
    load_matrices(f->dy, queries + slots * dims);
}

/* The scores of the warp's keys with 16 queries, over the scale, and the gradient of their powers. */
template <int dims, bool masked>
static __device__ __forceinline__ void score_queries(float score[][2][4], float dp[][2][4],
                                                     const key_tile<dims> *t, const query_reader<dims> &r,
                                                     const first_fragments<dims> &f)
{
    enum { tiles = key_pass<dims>::tiles };
    float delta[2][4];
#pragma unroll
    for (int m = 0; m < tiles; m++) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            from_halves(&score[m][k / 2][k % 2 * 2], &score[m][k / 2][k % 2 * 2 + 1], f.bias[m][k]);
        }
    }
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const float4 four = *(const float4 *)r.pair[n * 4].delta;
        delta[n][0] = four.x;
        delta[n][1] = four.y;
        delta[n][2] = four.z;
        delta[n][3] = four.w;
        if (masked) {
            const uint32_t mask = query_region_pair(r.region[n * 8]), queries[2] = {mask, mask};
#pragma unroll
            for (int m = 0; m < tiles; m++) {
                multiply_add_bf16(score[m][n], t[m].mask, queries);
            }
        }
    }
#pragma unroll
    for (int k = 0; k < dims / 16; k++) {
        const bf16 *from = r.for_scores + (r.scores_column ^ k * 16);
        uint32_t q[4] = {f.q[0], f.q[1], f.q[2], f.q[3]}, dy[4] = {f.dy[0], f.dy[1], f.dy[2], f.dy[3]};
        if (k > 0) {
            load_matrices(q, from);
            load_matrices(dy, from + slots * dims);
        }
#pragma unroll
        for (int m = 0; m < tiles; m++) {
#pragma unroll
            for (int n = 0; n < 2; n++) {
                multiply_add_bf16(score[m][n], t[m].k[k], q + n * 2);
                if (k == 0) {
                    multiply_add_bf16_to(dp[m][n], t[m].v[k], dy + n * 2, delta[n]);
                } else {
                    multiply_add_bf16(dp[m][n], t[m].v[k], dy + n * 2);
                }
            }
        }
    }
}

/* Lets the warp's keys meet 16 queries: adds to dk and dv what the queries send, and writes the scores'
 * gradient to the strip, where `to` is the lane's row of the first query and tile of keys. */
template <int dims, bool masked>
static __device__ __forceinline__ void meet_queries(key_tile<dims> *t, first_fragments<dims> *f,
                                                    const query_reader<dims> &r, bf16 *to, float unit)
{
    enum { tiles = key_pass<dims>::tiles };
    float score[tiles][2][4], dp[tiles][2][4];
    uint32_t p_fragment[tiles][4], ds_fragment[tiles][4];
    const int of_next = r.bias[16];
    score_queries<dims, masked>(score, dp, t, r, *f);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const float2 shift = *(const float2 *)r.pair[k / 2 * 4].shift;
#pragma unroll
        for (int m = 0; m < tiles; m++) {
            const float *x = score[m][k / 2] + k % 2 * 2, *y = dp[m][k / 2] + k % 2 * 2;
            const float low = power_of_two(fmaf(x[0], unit, shift.x));
            const float high = power_of_two(fmaf(x[1], unit, shift.y));
            p_fragment[m][k] = pack_pair(low, high);
            ds_fragment[m][k] = pack_pair(low * y[0], high * y[1]);
        }
    }
#pragma unroll
    for (int m = 0; m < tiles; m++) {
        store_matrices_transposed(to + m * 16, ds_fragment[m]);
    }
#pragma unroll
    for (int k = 0; k < dims / 16; k++) {
        const bf16 *from = r.for_sums + (r.sums_column ^ k * 16);
        uint32_t q[4], dy[4];
        load_matrices_transposed(dy, from + slots * dims);
        load_matrices_transposed(q, from);
        if (k == 0) {
            load_first<dims>(f, t, r.for_scores + 16 * dims + r.scores_column, of_next);
        }
#pragma unroll
        for (int m = 0; m < tiles; m++) {
#pragma unroll
            for (int n = 0; n < 2; n++) {
                multiply_add_bf16(t[m].dv[k * 2 + n], p_fragment[m], dy + n * 2);
                multiply_add_bf16(t[m].dk[k * 2 + n], ds_fragment[m], q + n * 2);
            }
        }
    }
}

/* dk and dv of a tile of keys to dqkv, those of padding to the sums of this warp. */
template <int dims>
static __device__ __forceinline__ void
store_key_gradients(wide_shared<dims> *s, const token_list<dims> *tokens, const head_arrays &a,
                    const key_tile<dims> *t, const window_grid &g, int first)
{
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int width = g.heads * dims;
    int padding[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int number = first + half * 8 + lane / 4, row = tokens->key_rows[number];
        padding[half] = row < 0 && tokens->key_regions[number] != no_key;
        if (row >= 0) {
            bf16 *to = a.dqkv + (size_t)row * 3 * width + width + a.head * dims + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < dims / 8; n++) {
                const float *dk = t->dk[n] + half * 2, *dv = t->dv[n] + half * 2;
                *(uint32_t *)(to + n * 8) = pack_pair(dk[0] * g.scale, dk[1] * g.scale);
                *(uint32_t *)(to + width + n * 8) = pack_pair(dv[0], dv[1]);
            }
        }
    }
    if (!__any_sync(whole_warp, padding[0] || padding[1])) {
        return;
    }
#pragma unroll
    for (int n = 0; n < dims / 8; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float of_k = (padding[0] ? t->dk[n][i] : 0) + (padding[1] ? t->dk[n][i + 2] : 0);
            float of_v = (padding[0] ? t->dv[n][i] : 0) + (padding[1] ? t->dv[n][i + 2] : 0);
            for (int bits = 4; bits < warp_size; bits *= 2) {
                of_k += __shfl_xor_sync(whole_warp, of_k, bits);
                of_v += __shfl_xor_sync(whole_warp, of_v, bits);
            }
            if (lane < 4) {
                float *to = &s->bias_gradient[warp][n * 8 + lane * 2 + i];
                to[0] += of_k * g.scale;
                to[dims] += of_v;
            }
        }
    }
}

/* Ends a window: warps that have keys go on to bring queries as soon as all of them have read the last ones,
 * when the list of the next window's tokens is there. */
static __device__ __forceinline__ void end_window(const pass_shape &last, int has_keys)
{
    if (last.number == 0) {
        __syncthreads(); /* elsewhere there was one between two passes */
    }
#ifdef __CUDACC__
    if (has_keys) {
        asm volatile("bar.sync %0, %1;" ::"n"((int)queries_are_read), "n"(key_warps * warp_size) : "memory");
    }
#else
    __syncthreads();
#endif
}

/* The window's keys meet its queries. */
template <int dims, bool masked>
static __device__ __forceinline__ void pass_queries(wide_shared<dims> *s, const token_list<dims> *tokens,
                                                    const head_arrays &a, const window_grid &g,
                                                    const query_list &list)
{
    enum { tiles = key_pass<dims>::tiles };
    const int warp = (int)threadIdx.x / warp_size, first_key = warp * tiles * 16;
    const float unit = g.scale * log2_of_e;
    const plane_walk walk = walk_of(list);
    const int lane = (int)threadIdx.x % warp_size, strip_row = key_pass<dims>::strip_row;
    bf16 *first_row = &s->strip[lane / 16 * 8 + lane % 8][first_key + lane / 8 % 2 * 8];
    key_tile<dims> t[tiles];
#pragma unroll
    for (int m = 0; m < tiles; m++) {
        load_keys<dims>(&t[m], s, tokens, a, g, first_key + m * 16);
    }
    load_queries<dims>(s, tokens, a, g, masked ? region_code<dims>::more * unit : 0);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    pass_shape pass = pass_of<dims>(g, 0);
#pragma unroll 1
    for (;;) {
        const int in_window = pass.number * key_pass<dims>::slots + first_key, has_keys = warp < pass.warps;
        query_reader<dims> reader = read_queries<dims>(s, tokens);
        bf16 *to = first_row;
        first_fragments<dims> first;
        load_first<dims>(&first, t, reader.for_scores + reader.scores_column, *reader.bias);
        int tile = 0;
        for (int turn = 0; turn < walk.turns; turn++) {
            const int end = tiles_before(list, walk, turn + 1);
            if (turn >= 2) {
                wait_at<block_threads>(strip_is_empty, turn - 2);
            }
#pragma unroll 1
            for (; has_keys && tile < end; tile++) {
                meet_queries<dims, masked>(t, &first, reader, to, unit);
                to_next_tile<dims>(&reader);
                to += 16 * strip_row;
                to = to == first_row + strip_rows * strip_row ? first_row : to;
            }
            arrive<block_threads>(strip_is_full, turn);
        }
#pragma unroll
        for (int m = 0; m < tiles; m++) {
            if (has_keys) {
                store_key_gradients<dims>(s, tokens, a, &t[m], g, in_window + m * 16);
            }
            if (!pass.last) {
                load_keys<dims>(&t[m], s, tokens, a, g, in_window + key_pass<dims>::slots + m * 16);
            }
        }
        if (pass.last) {
            break;
        }
        __syncthreads();
        pass = pass_of<dims>(g, pass.number + 1);
    }
    end_window(pass, 1);
}

/* ---- warps that sum over keys ---- */

/* What the window's keys have for the others, a plane of queries behind. */
template <int dims>
static __device__ __forceinline__ void sum_over_keys(wide_shared<dims> *s, const token_list<dims> *tokens,
                                                     token_list<dims> *next_tokens, const head_arrays &a,
                                                     const window_grid &g, const query_list &list, int next)
{
    const plane_rows rows = rows_of_planes(list);
    __syncthreads();
    copy_keys<dims>(s, tokens, a, g, 0);
    list_tokens<dims>(next_tokens, a, g, next, (int)threadIdx.x - key_warps * warp_size,
                      sum_warps * warp_size);
    pass_shape pass = pass_of<dims>(g, 0);
#pragma unroll 1
    for (;;) {
        if (!pass.last) {
            copy_keys<dims>(s, tokens, a, g, pass.number + 1);
        }
        copy_async_commit();
        copy_async_wait<0>(); /* all of these warps see the keys when they have waited for the strip */
        sum_pass<dims>(s, tokens, a, g, list, rows, pass);
        if (pass.last) {
            break;
        }
        __syncthreads();
        pass = pass_of<dims>(g, pass.number + 1);
    }
    end_window(pass, 0);
}

/* ---- the block ---- */

/* What the block has summed over its windows, to scratch memory. */
template <int dims>
static __device__ __forceinline__ void store_sums(float *partials, const wide_shared<dims> *s)
{
    store_table_sums<block_threads>(partials, s->table_sums);
    for (int k = (int)threadIdx.x; k < 2 * dims; k += block_threads) {
        float sum = 0;
        for (int w = 0; w < key_warps; w++) {
            sum += s->bias_gradient[w][k];
        }
        partials[relative_table_rows + k] = sum;
    }
}

/* How many float4 a block's dq_sums are. */
template <int dims> static HOST_DEVICE __forceinline__ size_t dq_sums_length(void)
{
    return (size_t)(slots / 16) * (dims / 8) * warp_size;
}

static_assert(sizeof(wide_shared<32>) <= 227 << 10 && sizeof(wide_shared<64>) <= 227 << 10, "");
template <int dims>
static __global__ void __launch_bounds__(block_threads, 1)
    attend_backward_wide(float *partials, head_arrays a, const float *bias_table, window_grid g)
{
    dynamic_shared(wide_shared<dims>, s);
    a.head = (int)blockIdx.x;
    a.dq_sums += ((size_t)a.head * gridDim.y + blockIdx.y) * dq_sums_length<dims>();
    begin_block<dims>(s, a, g);
    load_bias(&s->bias, bias_table, a.head, g.heads, 1 / g.scale);
    __syncthreads();
    list_tokens<dims>(&s->tokens[0], a, g, (int)blockIdx.y, (int)threadIdx.x, block_threads);
    __syncthreads();
    int turn = 0; /* of the two lists */
    for (int window = (int)blockIdx.y; window < g.windows; window += (int)gridDim.y) {
        const window_cut cut = cut_window(g, window);
        const query_list list = queries_of(g, cut);
        const int masked = needs_mask(g, cut);
        const token_list<dims> *tokens = &s->tokens[turn];
        turn ^= 1;
        if ((int)threadIdx.x >= key_warps * warp_size) {
            sum_over_keys<dims>(s, tokens, &s->tokens[turn], a, g, list, window + (int)gridDim.y);
        } else if (masked) {
            pass_queries<dims, true>(s, tokens, a, g, list);
        } else {
            pass_queries<dims, false>(s, tokens, a, g, list);
        }
    }
    __syncthreads();
    store_sums<dims>(partials + ((size_t)a.head * gridDim.y + blockIdx.y) * attention_partial_length(dims),
                     s);
}

template <int dims>
static int backward_of(struct compute *c, float *dqkv_bias, float *dbias_table, head_arrays a,
                       const float *bias_table, const window_grid &g)
{
    if (cuda_state(c)->shared_per_block < sizeof(wide_shared<dims>)) {
        return 0;
    }
    const int groups = window_groups(&g, cuda_state(c)->multiprocessors);
    const size_t blocks = (size_t)g.heads * groups;
    a.dq_sums = (float4 *)cuda_scratch(c, blocks * dq_sums_length<dims>() * sizeof(float4));
    float *partials = (float *)leaf_input(c, blocks * attention_partial_length(dims) * sizeof *partials);
    if (a.dq_sums != NULL && partials != NULL) {
        launch(c, attend_backward_wide<dims>, dim3((unsigned)g.heads, (unsigned)groups), dim3(block_threads),
               sizeof(wide_shared<dims>), partials, a, bias_table, g);
        launch_attention_sums(c, dqkv_bias, dbias_table, partials, &g, groups);
    }
    return 1;
}

int wide_window_attention_backward(struct compute *c, activation *dqkv, float *dqkv_bias, float *dbias_table,
                                   const activation *dout, const activation *out, const float *logsumexp,
                                   const activation *qkv, const float *qkv_bias, const float *bias_table,
                                   const struct attention_shape *shape)
{
    const window_grid g = window_grid_of(shape);
    const head_arrays a = {
        (bf16 *)dqkv, (const bf16 *)dout, (const bf16 *)out, (const bf16 *)qkv, logsumexp, qkv_bias, NULL, 0};
    if (c->precision != PRECISION_BF16) {
        return 0;
    }
    return g.head_dim == 32   ? backward_of<32>(c, dqkv_bias, dbias_table, a, bias_table, g)
           : g.head_dim == 64 ? backward_of<64>(c, dqkv_bias, dbias_table, a, bias_table, g)
                              : 0;
}
