/* The gradient of window attention in bf16, on tensor cores, for a head_dim of 16.
 *
 * One block has a window of one head at a time. Most warps keep keys and values of their own in registers,
 * with their gradients, and meet all queries, 16 at a time, in scores that lie (key, query). The scores'
 * gradient goes (query, key) to a strip in shared memory. From there the other warps sum over keys: the
 * queries' gradient and that of the bias table. They are a plane of queries (of equal d) behind: the strip is
 * a ring with room for two planes, so that both kinds of work overlap and neither often waits.
 *
 * Of the table's sums (window_table_sums.cuh) a warp has the differences in d that are equal modulo 7, of
 * which each plane of queries has one: no two warps add to the same sum. Heads of 32 and 64 channels:
 * window_attention_backward_wide.cu. */
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/window_strip_sums.cuh"

/* A warp's keys (rows of fragments) and what is summed for them. */
struct key_tile {
    uint32_t k[4], v[4], mask[4];
    const char *bias; /* for the row of keys that the lane asks for: from here by what a query adds */
    int has_bias;     /* all bits; or none: there is no such row */
    float dk[2][4], dv[2][4];
};

static __device__ __forceinline__ void load_keys(key_tile *t, const backward_shared *s, int first,
                                                 const window_grid &g)
{
    const int lane = (int)threadIdx.x % warp_size, row = first / row_slots + lane / 8 % 2;
    const int column = channel_half(lane, lane / 16);
    load_matrices(t->k, &s->keys[first + lane % 16][column]);
    load_matrices(t->v, &s->values[first + lane % 16][column]);
    const int exists = row < rows_of_keys(g);
    t->bias = exists ? (const char *)s->bias.rows - bias_of_row(row) : (const char *)&s->bias.none;
    t->has_bias = exists ? -1 : 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t region = s->key_regions[first + half * 8 + lane / 4];
        key_region_pairs<dims>(&t->mask[half], &t->mask[half + 2], region);
    }
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            t->dk[n][e] = t->dv[n][e] = 0;
        }
    }
}

/* Where a lane's part of 16 queries is. */
struct query_reader {
    const bf16 *for_scores, *for_sums;
    const query_pair *pair;
    const int *bias;
    const uint32_t *mask;
};

static __device__ __forceinline__ query_reader read_queries(const backward_shared *s, int tile)
{
    const int lane = (int)threadIdx.x % warp_size, slot = lane / 16 * 8 + lane % 8;
    query_reader r;
    r.for_scores = &s->queries[tile * 16 + slot][channel_half(lane, lane / 8 % 2)];
    r.for_sums = &s->queries[tile * 16 + lane % 16][channel_half(lane, lane / 16)];
    r.pair = &s->pairs[tile * 8 + lane % 4];
    r.bias = &s->query_bias[tile * 16 + slot];
    r.mask = &s->query_masks[tile * 16 + lane / 4][lane % 4];
    return r;
}

static __device__ __forceinline__ void to_next_tile(query_reader *r)
{
    r->for_scores += 16 * dims;
    r->for_sums += 16 * dims;
    r->pair += 8;
    r->bias += 16;
    r->mask += 16 * 4;
}

/* 16 queries as the right-hand side of products: `for_scores` over channels (queries are columns), `for_sums`
 * over queries (channels are columns). */
struct query_fragments {
    uint32_t q_for_scores[4], dy_for_scores[4], q_for_sums[4], dy_for_sums[4];
    uint32_t mask[2];
    float shift[2][2], delta[2][4];
    int bias; /* what the query adds to key_tile's */
};

template <bool masked>
static __device__ __forceinline__ void load_query_fragments(query_fragments *f, const query_reader &r)
{
    f->bias = *r.bias;
    load_matrices(f->q_for_scores, r.for_scores);
    load_matrices(f->dy_for_scores, r.for_scores + slots * dims);
    load_matrices_transposed(f->q_for_sums, r.for_sums);
    load_matrices_transposed(f->dy_for_sums, r.for_sums + slots * dims);
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const float4 delta = *(const float4 *)r.pair[n * 4].delta;
        const float2 shift = *(const float2 *)r.pair[n * 4].shift;
        f->shift[n][0] = shift.x;
        f->shift[n][1] = shift.y;
        f->delta[n][0] = delta.x;
        f->delta[n][1] = delta.y;
        f->delta[n][2] = delta.z;
        f->delta[n][3] = delta.w;
        if (masked) {
            f->mask[n] = r.mask[n * 8 * 4];
        }
    }
}

/* Lets the warp's keys meet 16 queries: adds to dk and dv what the queries send, and writes the scores'
 * gradient to the strip, where `to` is the lane's row of the first query and tile of keys. Tile by tile in
 * each step, so that one tile's work hides what the other waits for. */
template <bool masked, int tiles>
static __device__ __forceinline__ void meet_queries(key_tile *t, const query_fragments *f, bf16 *to,
                                                    float unit)
{
    float score[tiles][2][4], dp[tiles][2][4];
    uint32_t p_fragment[tiles][4], ds_fragment[tiles][4];
#pragma unroll
    for (int m = 0; m < tiles; m++) {
        uint32_t bias[4];
        load_matrices_transposed(bias, t[m].bias + (f->bias & t[m].has_bias));
#pragma unroll
        for (int k = 0; k < 4; k++) {
            from_halves(&score[m][k / 2][k % 2 * 2], &score[m][k / 2][k % 2 * 2 + 1], bias[k]);
        }
        if (masked) {
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const uint32_t queries[2] = {f->mask[n], f->mask[n]};
                multiply_add_bf16(score[m][n], t[m].mask, queries);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < tiles; m++) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
            multiply_add_bf16(score[m][n], t[m].k, f->q_for_scores + n * 2);
            multiply_add_bf16_to(dp[m][n], t[m].v, f->dy_for_scores + n * 2, f->delta[n]);
        }
    }
#pragma unroll
    for (int m = 0; m < tiles; m++) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float *x = score[m][k / 2] + k % 2 * 2, *y = dp[m][k / 2] + k % 2 * 2;
            const float low = power_of_two(fmaf(x[0], unit, f->shift[k / 2][0]));
            const float high = power_of_two(fmaf(x[1], unit, f->shift[k / 2][1]));
            p_fragment[m][k] = pack_pair(low, high);
            ds_fragment[m][k] = pack_pair(low * y[0], high * y[1]);
        }
    }
#pragma unroll
    for (int m = 0; m < tiles; m++) {
        store_matrices_transposed(to + m * 16, ds_fragment[m]);
#pragma unroll
        for (int n = 0; n < 2; n++) {
            multiply_add_bf16(t[m].dv[n], p_fragment[m], f->dy_for_sums + n * 2);
            multiply_add_bf16(t[m].dk[n], ds_fragment[m], f->q_for_sums + n * 2);
        }
    }
}

template <bool masked, int tiles>
static __device__ __forceinline__ void meet_tiles(key_tile *t, backward_shared *s, int begin, int end,
                                                  int first_key, float unit)
{
    const int lane = (int)threadIdx.x % warp_size;
    bf16 *first_row = &s->strip[lane / 16 * 8 + lane % 8][first_key + lane / 8 % 2 * 8];
    bf16 *to = first_row + strip_row_of_tile(begin) * strip_row;
    query_reader reader = read_queries(s, begin);
#pragma unroll 1
    for (int tile = begin; tile < end; tile++) {
        query_fragments fragments;
        load_query_fragments<masked>(&fragments, reader);
        meet_queries<masked, tiles>(t, &fragments, to, unit);
        to_next_tile(&reader);
        to += 16 * strip_row;
        to = to == first_row + strip_rows * strip_row ? first_row : to;
    }
}

/* dk and dv of the warp's keys to dqkv, those of padding to the sums of this warp. */
static __device__ __forceinline__ void store_key_gradients(bf16 *dqkv, backward_shared *s, const key_tile *t,
                                                           int first, const window_grid &g, int head)
{
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int channels = g.heads * dims;
    float of_k[4] = {}, of_v[4] = {}; /* padding's: n 2 + column */
    int padding = 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int number = first + half * 8 + lane / 4, row = s->key_rows[number];
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const float dk[2] = {t->dk[n][half * 2] * g.scale, t->dk[n][half * 2 + 1] * g.scale};
            const float dv[2] = {t->dv[n][half * 2], t->dv[n][half * 2 + 1]};
            if (row >= 0) {
                bf16 *to = dqkv + (size_t)row * 3 * channels + channels + head * dims + n * 8 + lane % 4 * 2;
                *(uint32_t *)to = pack_pair(dk[0], dk[1]);
                *(uint32_t *)(to + channels) = pack_pair(dv[0], dv[1]);
            } else if (s->key_regions[number] != no_key) {
                padding = 1;
                of_k[n * 2] += dk[0];
                of_k[n * 2 + 1] += dk[1];
                of_v[n * 2] += dv[0];
                of_v[n * 2 + 1] += dv[1];
            }
        }
    }
    if (!__any_sync(whole_warp, padding)) {
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        for (int bits = 4; bits < warp_size; bits *= 2) {
            of_k[i] += __shfl_xor_sync(whole_warp, of_k[i], bits);
            of_v[i] += __shfl_xor_sync(whole_warp, of_v[i], bits);
        }
        if (lane < 4) {
            float *to = &s->bias_gradient[warp][i / 2 * 8 + lane * 2 + i % 2];
            to[0] += of_k[i];
            to[dims] += of_v[i];
        }
    }
}

/* The warps with nothing but keys. */
template <bool masked>
static __device__ __forceinline__ void pass_queries(bf16 *dqkv, backward_shared *s, const window_grid &g,
                                                    const query_list &list, int head)
{
    const int first_key = (int)threadIdx.x / warp_size * key_tiles * 16;
    const int has_keys = first_key < rows_of_keys(g) * row_slots;
    const float unit = g.scale * log2_of_e;
    const plane_walk walk = walk_of(list);
    key_tile tiles[key_tiles];
#pragma unroll
    for (int m = 0; m < key_tiles; m++) {
        load_keys(&tiles[m], s, first_key + m * 16, g);
    }
    int done = 0;
    for (int turn = 0; turn < walk.turns; turn++) {
        const int end = tiles_before(list, walk, turn + 1);
        if (turn >= 2) {
            wait_at<block_threads>(strip_is_empty, turn - 2);
        }
        if (has_keys) {
            meet_tiles<masked, key_tiles>(tiles, s, done, end, first_key, unit);
        }
        done = end;
        arrive<block_threads>(strip_is_full, turn);
    }
    if (has_keys) {
#pragma unroll
        for (int m = 0; m < key_tiles; m++) {
            store_key_gradients(dqkv, s, &tiles[m], first_key + m * 16, g, head);
        }
    }
}

/* The sums of a turn that are a warp's own. */
static __device__ __forceinline__ void sum_strip(bf16 *dqkv, backward_shared *s, const window_grid &g,
                                                 const query_list &list, const plane_walk &walk, int turn,
                                                 const plane_rows &rows, unsigned *planes_left, int head)
{
    const int number = (int)threadIdx.x / warp_size - key_warps;
    if (number > 0) {
        for (int tile = tiles_before(list, walk, turn) + number - 1;
             tile < tiles_before(list, walk, turn + 1); tile += sum_warps - 1) {
            query_gradient(dqkv, s, tile, g, head);
        }
    }
    for (int plane = turn * walk.at_once; plane < min((turn + 1) * walk.at_once, walk.planes); plane++) {
        const int d = __ffs((int)*planes_left) - 1;
        const plane_rows in_strip = rows_in_strip<strip_row>(rows, list, plane * list.plane_length);
        *planes_left &= *planes_left - 1;
        if (number > 0) {
            add_plane<2>(s, in_strip, d, number * 2 - 1);
        } else {
            add_plane<1>(s, in_strip, d, 0);
        }
    }
}

/* The warps that sum over keys. */
template <bool masked>
static __device__ __forceinline__ void sum_over_keys(bf16 *dqkv, backward_shared *s, const window_grid &g,
                                                     const query_list &list, int head)
{
    const int has_keys = (int)threadIdx.x / warp_size == key_warps && last_keys < rows_of_keys(g) * row_slots;
    const plane_walk walk = walk_of(list);
    const plane_rows rows = rows_of_planes(list);
    unsigned planes_left = list.in_d;
    key_tile tile;
    load_keys(&tile, s, last_keys, g);
    int done = 0;
    for (int turn = 0; turn < walk.turns; turn++) {
        const int end = tiles_before(list, walk, turn + 1);
        if (has_keys) {
            meet_tiles<masked, 1>(&tile, s, done, end, last_keys, g.scale * log2_of_e);
        }
        done = end;
        wait_at<block_threads>(strip_is_full, turn);
        sum_strip(dqkv, s, g, list, walk, turn, rows, &planes_left, head);
        if (turn + 2 < walk.turns) {
            arrive<block_threads>(strip_is_empty, turn);
        }
    }
    if (has_keys) {
        store_key_gradients(dqkv, s, &tile, last_keys, g, head);
    }
}

template <bool masked>
static __device__ __forceinline__ void window_gradient(bf16 *dqkv, backward_shared *s, const window_grid &g,
                                                       const query_list &list, int head)
{
    if ((int)threadIdx.x < key_warps * warp_size) {
        pass_queries<masked>(dqkv, s, g, list, head);
    } else {
        sum_over_keys<masked>(dqkv, s, g, list, head);
    }
}

static_assert(sizeof(backward_shared) <= 227 << 10, "");
static_assert((int)block_threads >= (int)window_tokens_most, "");
static __global__ void __launch_bounds__(block_threads, 1)
    attend_backward(bf16 *dqkv, float *partials, const bf16 *dout, const bf16 *out, const float *logsumexp,
                    const bf16 *qkv, const float *qkv_bias, const float *bias_table, window_grid g)
{
    dynamic_shared(backward_shared, s);
    const int head = (int)blockIdx.x;
    window_cut cut = cut_window(g, (int)blockIdx.y);
    token_rows token;
    fetch_token(&token, dout, out, logsumexp, qkv, qkv_bias, g, cut, 1, head);
    begin_block(s);
    load_bias(&s->bias, bias_table, head, g.heads, 1 / g.scale);
    for (int window = (int)blockIdx.y; window < g.windows; window += (int)gridDim.y) {
        const query_list list = queries_of(g, cut);
        const int masked = needs_mask(g, cut);
        __syncthreads();
        put_token(s, &token, masked ? region_code<dims>::more * g.scale * log2_of_e : 0);
        __syncthreads();
        if ((int)threadIdx.x >= key_warps * warp_size) {
            expect_window(dout, out, qkv, g, window + (int)gridDim.y, head);
        }
        if (masked) {
            window_gradient<true>(dqkv, s, g, list, head);
        } else {
            window_gradient<false>(dqkv, s, g, list, head);
        }
        const int next = window + (int)gridDim.y;
        cut = cut_window(g, next);
        fetch_token(&token, dout, out, logsumexp, qkv, qkv_bias, g, cut, next < g.windows, head);
    }
    __syncthreads();
    store_sums(partials + ((size_t)head * gridDim.y + blockIdx.y) * attention_partial_length(dims), s);
}

void cuda_window_attention_backward(struct compute *c, activation *dqkv, float *dqkv_bias, float *dbias_table,
                                    const activation *dout, const activation *out, const float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *shape)
{
    if (!attention_is_supported(c, shape)) {
        return;
    }
    const size_t tokens = (size_t)shape->n * shape->d * shape->h * shape->w;
    const struct written_ranges written(c, {range_of(c, dqkv, tokens * 3 * shape->heads * shape->head_dim)});
    if (wide_window_attention_backward(c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias,
                                       bias_table, shape)) {
        return;
    }
    const window_grid g = window_grid_of(shape);
    if (c->precision != PRECISION_BF16 || g.head_dim != dims ||
        cuda_state(c)->shared_per_block < sizeof(backward_shared)) {
        plain_window_attention_backward(c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias,
                                        bias_table, shape);
        return;
    }
    const int groups = window_groups(&g, cuda_state(c)->multiprocessors);
    float *partials =
        (float *)leaf_input(c, (size_t)g.heads * groups * attention_partial_length(dims) * sizeof *partials);
    launch(c, attend_backward, dim3((unsigned)g.heads, (unsigned)groups), dim3(block_threads),
           sizeof(backward_shared), (bf16 *)dqkv, partials, (const bf16 *)dout, (const bf16 *)out, logsumexp,
           (const bf16 *)qkv, qkv_bias, bias_table, g);
    launch_attention_sums(c, dqkv_bias, dbias_table, partials, &g, groups);
}
