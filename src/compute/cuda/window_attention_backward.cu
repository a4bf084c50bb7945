/* The gradient of window attention in bf16, on tensor cores, for a head_dim of 16.
 *
 * One block has a window of one head at a time. Each warp keeps its own keys and values in registers, with
 * their gradients, and meets all queries, 16 at a time, in scores that lie (key, query). The scores' gradient
 * goes (query, key) to a strip in shared memory, for what is summed over keys: the queries' gradient and that
 * of the bias table. A strip is 16 rows of the window (queries that differ in w alone), whose real tokens are
 * 16 queries for each real place of w: whole tiles and whole rows.
 *
 * The table: for a row of queries, whose d and h are the same, and a difference in d, the keys are those of
 * one plane, and their rows are the differences in h. A product with ones and zeros sums over the queries and
 * keys of each pair of rows that have the same difference in w. Its 16 x 16 sums, differences in h and w,
 * stay in registers until the block ends: a warp has the differences in d that are equal modulo 7, of which
 * each plane of queries has one, and every second row of a strip. No two warps add to the same sum. */
#include "compute/cuda/window_bias.cuh"

enum {
    dims = 16,
    key_tiles = 2,    /* of 16 keys, of a warp */
    slots = 352,      /* queries of a window, to whole tiles */
    key_slots = 416,  /* to whole warps' keys */
    strip_keys = 400, /* to whole tiles */
    warp_keys = 16 * key_tiles,
    parts = 2,                  /* warps of one difference in d, which share a strip's rows */
    block_warps = parts * side, /* the last has no keys */
    block_threads = block_warps * warp_size,
    strip_rows = 16, /* of the window */
    strip_queries = strip_rows * side,
    no_token = -1, /* padding, or no key at all */
};

/* Sums over differences of query and key in fragments: rows are those in h, columns those in w, both from -6.
 */
struct plane_sums {
    float sum[2][4];
};

/* Rows are longer than they need be, so that eight of them lie in different banks. */
struct backward_shared {
    bf16 queries[slots][dims + 8], douts[slots][dims + 8];
    bf16 keys[key_slots][dims + 8], values[key_slots][dims + 8];
    bf16 strip[strip_queries + 2][strip_keys + 8]; /* the last columns are zeros */
    window_bias bias;                              /* over the scale, so that it is added to products */
    uint2 columns[(side + 1) / 2][2][warp_size];   /* ones where a sum of the table takes from */
    float shift[slots], delta[slots]; /* of queries: -logsumexp for powers of two, -(dout . out) */
    int query_bias[slots];
    uint32_t query_places[slots]; /* region, d << 8, h << 16 */
    uint32_t key_regions[key_slots];
    int query_rows[slots], key_rows[key_slots];
    float4 table_gradient[block_warps][2][2]
                         [warp_size];           /* of each warp: [difference in d less 7][fragment] */
    float bias_gradient[block_warps][2 * dims]; /* of k and v of padding, what each warp has seen */
};

/* The queries of a window. */
struct query_list {
    int count;
    int row_length;  /* queries of a row of the window */
    unsigned in_row; /* bit w: that place is among them */
};

/* The real tokens. Where numbers are not places (a window smaller than 7^3 along h or w), all tokens in their
 * order, of which padding has no gradient to give. */
static __device__ __forceinline__ query_list queries_of(const window_grid &g, const window_cut &cut)
{
    query_list list = {g.tokens, side, (1u << side) - 1};
    if (g.window[1] == side && g.window[2] == side) {
        list.count = cut.real[0] * cut.real[1] * cut.real[2];
        list.row_length = cut.real[2];
        list.in_row = 0;
        for (int w = 0; w < side; w++) {
            list.in_row |= (unsigned)(real_before(g, cut, 2, w + 1) - real_before(g, cut, 2, w)) << w;
        }
    }
    return list;
}

/* Eight neighbours of one part of a token's row; padding's are the bias, and zeros where there is no token.
 */
static __device__ __forceinline__ uint4 eight_of(const bf16 *qkv, const float *qkv_bias, const window_grid &g,
                                                 int row, int exists, int part, int head, int i)
{
    const int channels = g.heads * dims, column = part * channels + head * dims + i;
    if (row >= 0) {
        return *(const uint4 *)(qkv + (size_t)row * 3 * channels + column);
    }
    if (!exists) {
        return make_uint4(0, 0, 0, 0);
    }
    const float *bias = qkv_bias + column;
    return make_uint4(pack_bf16(bias[0], bias[1]), pack_bf16(bias[2], bias[3]), pack_bf16(bias[4], bias[5]),
                      pack_bf16(bias[6], bias[7]));
}

static __device__ __forceinline__ void store_eight(bf16 *to, uint4 eight)
{
    *(uint4 *)to = eight;
}

static __device__ __forceinline__ float dot_of_pairs(uint32_t a, uint32_t b)
{
    return low_of(a) * low_of(b) + high_of(a) * high_of(b);
}

/* The slot's query, as the list has it: row -1 is none, whose scores are to be 0. */
static __device__ __forceinline__ void load_query(backward_shared *s, const bf16 *dout, const bf16 *out,
                                                  const float *logsumexp, const bf16 *qkv,
                                                  const window_grid &g, int slot, int row, int head,
                                                  float shift)
{
    const size_t first = ((size_t)max(row, 0) * g.heads + head) * dims;
    float delta = 0;
#pragma unroll
    for (int i = 0; i < dims; i += 8) {
        uint4 dy = make_uint4(0, 0, 0, 0);
        if (row >= 0) {
            const uint4 y = *(const uint4 *)(out + first + i);
            dy = *(const uint4 *)(dout + first + i);
            delta += dot_of_pairs(dy.x, y.x) + dot_of_pairs(dy.y, y.y) + dot_of_pairs(dy.z, y.z) +
                     dot_of_pairs(dy.w, y.w);
        }
        store_eight(&s->douts[slot][i], dy);
        store_eight(&s->queries[slot][i], eight_of(qkv, NULL, g, row, 0, 0, head, i));
    }
    s->query_rows[slot] = row;
    s->delta[slot] = -delta;
    s->shift[slot] = row >= 0 ? -logsumexp[(size_t)row * g.heads + head] * log2_of_e - shift : -INFINITY;
}

/* Brings the window to shared memory: its keys in rows of 8 slots, its queries in the list's order. `shift`
 * is what scores have too much, for powers of two. */
static __device__ __forceinline__ void load_window(backward_shared *s, const bf16 *dout, const bf16 *out,
                                                   const float *logsumexp, const bf16 *qkv,
                                                   const float *qkv_bias, const window_grid &g,
                                                   const window_cut &cut, int compact, int head, float shift)
{
    const int number = (int)threadIdx.x, real = cut.real[0] * cut.real[1] * cut.real[2];
    if (number >= g.tokens) {
        return;
    }
    const window_token token = token_of_window(g, cut, number);
    const uint32_t region = region_in_window(token.region);
    const int key = key_slot(number);
    const int slot = !compact ? number : token.row >= 0 ? token.rank : real + number - token.rank;
#pragma unroll
    for (int i = 0; i < dims; i += 8) {
        store_eight(&s->keys[key][i], eight_of(qkv, qkv_bias, g, token.row, 1, 1, head, i));
        store_eight(&s->values[key][i], eight_of(qkv, qkv_bias, g, token.row, 1, 2, head, i));
    }
    s->key_rows[key] = token.row;
    s->key_regions[key] = region;
    s->query_bias[slot] = bias_of_query(number);
    s->query_places[slot] =
        region | (uint32_t)(number / window_rows) << 8 | (uint32_t)(number / side % side) << 16;
    load_query(s, dout, out, logsumexp, qkv, g, slot, token.row, head, shift);
}

/* Of the window's rows of queries: which of a pair of queries and the keys of a row have each difference in
 * w, as the right-hand side of products. */
static __device__ __forceinline__ void place_columns(backward_shared *s, const query_list &list)
{
    const int k = (int)threadIdx.x, lane = k % warp_size, first = k / warp_size % 2 * 8;
    if (k >= (side + 1) / 2 * 2 * warp_size) {
        return;
    }
    uint32_t ones[2];
    for (int j = 0; j < 2; j++) {
        const int query = k / warp_size / 2 * 2 + j; /* of the row */
        int w = -1, before = 0;
        for (int place = 0; place < side; place++) {
            if (list.in_row >> place & 1) {
                w = before == query ? place : w;
                before++;
            }
        }
        const int key = w + side - 1 - (first + lane / 4); /* whose difference is the lane's */
        ones[j] = w < 0 || key < 0 || key >= side || key / 2 != lane % 4 ? 0 : one_bits << key % 2 * 16;
    }
    s->columns[k / warp_size / 2][k / warp_size % 2][lane] = make_uint2(ones[0], ones[1]);
}

/* Has what load_window will read of another window brought as far as the second-level cache. */
static __device__ __forceinline__ void expect_window(const bf16 *dout, const bf16 *out, const bf16 *qkv,
                                                     const window_grid &g, int window, int head)
{
#ifdef __CUDACC__
    const int number = (int)threadIdx.x;
    if (window < g.windows && number < g.tokens) {
        const window_token token = token_of_window(g, cut_window(g, window), number);
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

/* A warp's keys (rows of fragments) and what is summed for them. */
struct key_tile {
    uint32_t k[4], v[4];
    int bias; /* of the row of keys that the lane asks for; -1: there is no such row */
    float dk[2][4], dv[2][4];
};

static __device__ __forceinline__ void load_keys(key_tile *t, const backward_shared *s, int first,
                                                 const window_grid &g)
{
    const int lane = (int)threadIdx.x % warp_size, row = first / row_slots + lane / 8 % 2;
    load_matrices(t->k, &s->keys[first + lane % 16][lane / 16 * 8]);
    load_matrices(t->v, &s->values[first + lane % 16][lane / 16 * 8]);
    t->bias = row < rows_of_keys(g) ? bias_of_row(row) : -1;
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            t->dk[n][e] = t->dv[n][e] = 0;
        }
    }
}

/* 16 queries as the right-hand side of products: `for_scores` over channels (queries are columns), `for_sums`
 * over queries (channels are columns). */
struct query_fragments {
    uint32_t q_for_scores[4], dy_for_scores[4], q_for_sums[4], dy_for_sums[4];
    uint32_t mask[2][2];
    float shift[2][2], delta[2][4];
    const char *bias; /* of the query that the lane asks for */
};

template <bool masked>
static __device__ __forceinline__ void load_query_fragments(query_fragments *f, const backward_shared *s,
                                                            int first)
{
    const int lane = (int)threadIdx.x % warp_size;
    const int slot = first + lane / 16 * 8 + lane % 8, column = lane / 8 % 2 * 8;
    f->bias = (const char *)s->bias.rows + s->query_bias[slot];
    load_matrices(f->q_for_scores, &s->queries[slot][column]);
    load_matrices(f->dy_for_scores, &s->douts[slot][column]);
    load_matrices_transposed(f->q_for_sums, &s->queries[first + lane % 16][lane / 16 * 8]);
    load_matrices_transposed(f->dy_for_sums, &s->douts[first + lane % 16][lane / 16 * 8]);
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const float2 shift = *(const float2 *)&s->shift[first + n * 8 + lane % 4 * 2];
        const float2 delta = *(const float2 *)&s->delta[first + n * 8 + lane % 4 * 2];
        f->shift[n][0] = shift.x;
        f->shift[n][1] = shift.y;
        f->delta[n][0] = f->delta[n][2] = delta.x;
        f->delta[n][1] = f->delta[n][3] = delta.y;
        if (masked) {
            f->mask[n][0] = f->mask[n][1] =
                query_region_pair(s->query_places[first + n * 8 + lane / 4] & 0xff);
        }
    }
}

/* Lets the warp's tile of keys meet 16 queries: adds to dk and dv what the queries send, and writes the
 * scores' gradient to the strip, where `to` is the row of the first query. */
template <bool masked>
static __device__ __forceinline__ void meet_queries(key_tile *t, backward_shared *s, const query_fragments *f,
                                                    int to, int first_key, float unit)
{
    const int lane = (int)threadIdx.x % warp_size;
    uint32_t bias[4], p_fragment[4], ds_fragment[4];
    float score[2][4], dp[2][4];
    load_matrices_transposed(bias, t->bias >= 0 ? f->bias - t->bias : (const char *)&s->bias.none);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        from_halves(&score[k / 2][k % 2 * 2], &score[k / 2][k % 2 * 2 + 1], bias[k]);
    }
    if (masked) {
        uint32_t mask[4];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint32_t region = s->key_regions[first_key + half * 8 + lane / 4];
            key_region_pairs<dims>(&mask[half], &mask[half + 2], region);
        }
        multiply_add_bf16(score[0], mask, f->mask[0]);
        multiply_add_bf16(score[1], mask, f->mask[1]);
    }
#pragma unroll
    for (int n = 0; n < 2; n++) {
        multiply_add_bf16(score[n], t->k, f->q_for_scores + n * 2);
        multiply_add_bf16_to(dp[n], t->v, f->dy_for_scores + n * 2, f->delta[n]);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const float *x = score[k / 2] + k % 2 * 2, *y = dp[k / 2] + k % 2 * 2;
        const float low = power_of_two(fmaf(x[0], unit, f->shift[k / 2][0]));
        const float high = power_of_two(fmaf(x[1], unit, f->shift[k / 2][1]));
        p_fragment[k] = pack_pair(low, high);
        ds_fragment[k] = pack_pair(low * y[0], high * y[1]);
    }
    store_matrices_transposed(&s->strip[to + lane / 16 * 8 + lane % 8][first_key + lane / 8 % 2 * 8],
                              ds_fragment);
#pragma unroll
    for (int n = 0; n < 2; n++) {
        multiply_add_bf16(t->dv[n], p_fragment, f->dy_for_sums + n * 2);
        multiply_add_bf16(t->dk[n], ds_fragment, f->q_for_sums + n * 2);
    }
}

/* 8 channels of dq, from `channel` on, of the 16 queries whose scores' gradient is in the strip from row
 * `from`. */
static __device__ __forceinline__ void query_gradient(bf16 *dqkv, const backward_shared *s, int query,
                                                      int from, int channel, const window_grid &g, int head)
{
    const int lane = (int)threadIdx.x % warp_size, slots_of_keys = rows_of_keys(g) * row_slots;
    float even[4] = {}, odd[4] = {};
#pragma unroll 2
    for (int key = 0; key < slots_of_keys; key += 32) {
        uint32_t ds[4], more[4], keys[4];
        load_matrices_transposed(keys, &s->keys[key + lane][channel]);
        load_matrices(ds, &s->strip[from + lane % 16][key + lane / 16 * 8]);
        load_matrices(more, &s->strip[from + lane % 16][key + 16 + lane / 16 * 8]);
        multiply_add_bf16(even, ds, keys);
        multiply_add_bf16(odd, more, keys + 2);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = s->query_rows[query + half * 8 + lane / 4];
        if (row >= 0) {
            bf16 *to = dqkv + ((size_t)row * 3 * g.heads + head) * dims + channel + lane % 4 * 2;
            *(uint32_t *)to = pack_pair((even[half * 2] + odd[half * 2]) * g.scale,
                                        (even[half * 2 + 1] + odd[half * 2 + 1]) * g.scale);
        }
    }
}

/* One row of queries and the rows of keys of a plane: `from` is where the strip has the first query with the
 * lane's row of keys, or its end, of zeros. */
static __device__ __forceinline__ void add_rows(plane_sums t[2], const bf16 *from, const backward_shared *s,
                                                int row_length)
{
#pragma unroll
    for (int pair = 0; pair < (side + 1) / 2; pair++) {
        if (pair * 2 < row_length) {
            uint32_t ds[4];
            load_matrices(ds, from + (size_t)pair * 2 * (strip_keys + 8));
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const uint2 ones = s->columns[pair][n][threadIdx.x % warp_size];
                const uint32_t columns[2] = {ones.x, ones.y};
                multiply_add_bf16(t[pair % 2].sum[n], ds, columns);
            }
        }
    }
}

static __device__ __forceinline__ plane_sums load_plane(const float4 from[2][warp_size])
{
    plane_sums t;
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const float4 sum = from[n][threadIdx.x % warp_size];
        t.sum[n][0] = sum.x;
        t.sum[n][1] = sum.y;
        t.sum[n][2] = sum.z;
        t.sum[n][3] = sum.w;
    }
    return t;
}

/* Both of t together. */
static __device__ __forceinline__ void store_plane(float4 to[2][warp_size], const plane_sums t[2])
{
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const float *a = t[0].sum[n], *b = t[1].sum[n];
        to[n][threadIdx.x % warp_size] = make_float4(a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]);
    }
}

/* The rows of a strip of `queries`, the first of which is `first`. */
static __device__ __forceinline__ void add_strip(backward_shared *s, const query_list &list, int first,
                                                 int queries)
{
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int in_d = warp % side, rows = (queries + list.row_length - 1) / list.row_length;
    int kept = -1;           /* whose sums are in registers */
    plane_sums sums[2] = {}; /* two, so that products wait less for each other */
#pragma unroll 1
    for (int r = warp / side; r < rows; r += parts) {
        const int query = r * list.row_length;
        const uint32_t place = s->query_places[first + query];
        const int less = (int)(place >> 8 & 0xff) < in_d;
        const int d = (int)(place >> 8 & 0xff) - in_d + (less ? side : 0);
        const int h = (int)(place >> 16) - (lane % 16 - (side - 1));
        const int exists = h >= 0 && h < side && lane % 16 < table_side;
        if (less != kept) {
            if (kept >= 0) {
                store_plane(s->table_gradient[warp][kept], sums);
            }
            sums[0] = load_plane(s->table_gradient[warp][less]);
            sums[1] = plane_sums{};
            kept = less;
        }
        add_rows(sums, &s->strip[query + lane / 16][exists ? (d * side + h) * row_slots : strip_keys], s,
                 list.row_length);
    }
    if (kept >= 0) {
        store_plane(s->table_gradient[warp][kept], sums);
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

template <bool masked>
static __device__ __forceinline__ void window_gradient(bf16 *dqkv, backward_shared *s, const window_grid &g,
                                                       const query_list &list, int head)
{
    const int warp = (int)threadIdx.x / warp_size, first_key = warp * warp_keys;
    const float unit = g.scale * log2_of_e;
    const int slots_of_keys = rows_of_keys(g) * row_slots, has_keys = first_key < slots_of_keys;
    key_tile tiles[key_tiles];
    if (has_keys) {
#pragma unroll
        for (int m = 0; m < key_tiles; m++) {
            load_keys(&tiles[m], s, first_key + m * 16, g);
        }
    }
    for (int first = 0; first < list.count; first += strip_rows * list.row_length) {
        const int queries = min(strip_rows * list.row_length, list.count - first);
        /* A row of small windows may not be whole: the strip needs zeros for its rest. */
        const int to_score = (queries + list.row_length - 1) / list.row_length * list.row_length;
        for (int query = 0; query < to_score && has_keys; query += 16) {
            query_fragments fragments;
            load_query_fragments<masked>(&fragments, s, first + query);
#pragma unroll
            for (int m = 0; m < key_tiles; m++) {
                if (m == 0 || first_key + m * 16 < slots_of_keys) {
                    meet_queries<masked>(&tiles[m], s, &fragments, query, first_key + m * 16, unit);
                }
            }
        }
        __syncthreads();
        for (int job = warp; job / 2 * 16 < queries; job += block_warps) {
            query_gradient(dqkv, s, first + job / 2 * 16, job / 2 * 16, job % 2 * 8, g, head);
        }
        add_strip(s, list, first, queries);
        __syncthreads();
    }
    if (has_keys) {
#pragma unroll
        for (int m = 0; m < key_tiles; m++) {
            store_key_gradients(dqkv, s, &tiles[m], first_key + m * 16, g, head);
        }
    }
}

/* What the block has summed over its windows, to scratch memory. */
static __device__ __forceinline__ void store_sums(float *partials, const backward_shared *s)
{
    for (int r = (int)threadIdx.x; r < relative_table_rows; r += block_threads) {
        const int d = r / table_plane - (side - 1), h = r / table_side % table_side, w = r % table_side;
        const int less = d < 0, warp = less ? d + side : d, lane = h % 8 * 4 + w % 8 / 2;
        float sum = 0;
        for (int part = 0; part < parts; part++) {
            const float4 *fragment = &s->table_gradient[part * side + warp][less][w / 8][lane];
            sum += ((const float *)fragment)[h / 8 * 2 + w % 2];
        }
        partials[r] = sum;
    }
    for (int k = (int)threadIdx.x; k < 2 * dims; k += block_threads) {
        float sum = 0;
        for (int w = 0; w < block_warps; w++) {
            sum += s->bias_gradient[w][k];
        }
        partials[relative_table_rows + k] = sum;
    }
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
        s->shift[k] = -INFINITY;
        s->delta[k] = 0;
        s->query_bias[k] = bias_of_query(0);
        s->query_places[k] = 0;
        s->query_rows[k] = no_token;
    }
    for (int k = (int)threadIdx.x; k < block_warps * 4 * warp_size; k += block_threads) {
        ((float4 *)s->table_gradient)[k] = make_float4(0, 0, 0, 0);
    }
    for (int k = (int)threadIdx.x; k < block_warps * 2 * dims; k += block_threads) {
        ((float *)s->bias_gradient)[k] = 0;
    }
}

static_assert(sizeof(backward_shared) <= 227 << 10, "");
static __global__ void __launch_bounds__(block_threads, 1)
    attend_backward(bf16 *dqkv, float *partials, const bf16 *dout, const bf16 *out, const float *logsumexp,
                    const bf16 *qkv, const float *qkv_bias, const float *bias_table, window_grid g)
{
    dynamic_shared(backward_shared, s);
    const int head = (int)blockIdx.x;
    begin_block(s);
    load_bias(&s->bias, bias_table, head, g.heads, 1 / g.scale);
    for (int window = (int)blockIdx.y; window < g.windows; window += (int)gridDim.y) {
        const window_cut cut = cut_window(g, window);
        const query_list list = queries_of(g, cut);
        const int masked = needs_mask(g, cut);
        __syncthreads();
        load_window(s, dout, out, logsumexp, qkv, qkv_bias, g, cut, list.count < g.tokens, head,
                    masked ? region_code<dims>::more * g.scale * log2_of_e : 0);
        place_columns(s, list);
        __syncthreads();
        expect_window(dout, out, qkv, g, window + (int)gridDim.y, head);
        if (masked) {
            window_gradient<true>(dqkv, s, g, list, head);
        } else {
            window_gradient<false>(dqkv, s, g, list, head);
        }
    }
    __syncthreads();
    store_sums(partials + ((size_t)head * gridDim.y + blockIdx.y) * attention_partial_length(dims), s);
}

void cuda_window_attention_backward(struct compute *c, activation *dqkv, float *dqkv_bias, float *dbias_table,
                                    const activation *dout, const activation *out, const float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *shape)
{
    if (c->status != VOCO_OK || !attention_is_supported(c, shape)) {
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
    float *partials = (float *)cuda_scratch(c, (size_t)g.heads * groups * attention_partial_length(dims) *
                                                   sizeof *partials);
    launch(c, attend_backward, dim3((unsigned)g.heads, (unsigned)groups), dim3(block_threads),
           sizeof(backward_shared), (bf16 *)dqkv, partials, (const bf16 *)dout, (const bf16 *)out, logsumexp,
           (const bf16 *)qkv, qkv_bias, bias_table, g);
    launch_attention_sums(c, dqkv_bias, dbias_table, partials, &g, groups);
}
