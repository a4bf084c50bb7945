/* A tile of 32 queries meets the keys of its window, on tensor cores.
 *
 * What there is most of is exponentials, of which a multiprocessor begins 16 in a clock. So there is little
 * beside them: nothing is taken off scores before, and the sum of powers is one more column of their product
 * with the values. bf16 has the exponents of float, so this is as exact as taking the largest score off,
 * unless powers overflow or vanish: the sum tells, and the tile meets the keys a second time, carefully. */
#ifndef COMPUTE_CUDA_WINDOW_SCORES_CUH
#define COMPUTE_CUDA_WINDOW_SCORES_CUH

#include "compute/cuda/window_rooms.cuh"

/* ---- words for tensor cores that tensor_core.cuh does not have ---- */

/* d += a b, where a has 8 columns: a[0] row g, a[1] row g + 8. */
static __device__ __forceinline__ void multiply_add_octet(float d[4], const uint32_t a[2], uint32_t b)
{
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
#else
    const uint32_t left[4] = {a[0], a[1], 0, 0}, right[2] = {b, 0};
    multiply_add_bf16(d, left, right);
#endif
}

/* Finite halves to floats, by a product with the unit matrix: one instruction instead of four. */
static __device__ __forceinline__ void spread_halves(float d[4], uint32_t upper, uint32_t lower)
{
#ifdef __CUDACC__
    const uint32_t column = threadIdx.x % warp_size / 4, row = threadIdx.x % 4 * 2, one = 0x3c00;
    const uint32_t unit = row == column ? one : row + 1 == column ? one << 16 : 0;
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
                 "{%7,%7,%7,%7};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(upper), "r"(lower), "r"(unit), "f"(0.0f));
#else
    from_halves(&d[0], &d[1], upper);
    from_halves(&d[2], &d[3], lower);
#endif
}

/* ---- what no window changes ---- */

struct key_constants {
    window_bias bias;                    /* over the scale, so that it is added to products */
    int row_bias[key_slots / row_slots]; /* of rows of keys */
    uint2 ones[4], last_ones[4];         /* see ones_of_slots */
};

static __device__ __forceinline__ int is_key(const window_grid &g, int slot)
{
    return slot % row_slots < side && slot / row_slots * side + slot % row_slots < g.tokens;
}

/* What powers are added up with: 1 for keys, 0 for slots without one, as the product has them of slots first
 * ... first + 15: in all columns, so that every lane has its rows' sums. */
static __device__ __forceinline__ uint2 ones_of_slots(const window_grid &g, int first, int t)
{
    uint32_t ones[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int slot = first + k * 8 + t * 2;
        ones[k] = (is_key(g, slot) ? one_bits : 0) | (is_key(g, slot + 1) ? one_bits << 16 : 0);
    }
    return make_uint2(ones[0], ones[1]);
}

/* The first of the last 16 slots. */
static __device__ __forceinline__ int last_slots(const window_grid &g)
{
    return (rows_of_keys(g) - 1) / 2 * 16;
}

/* By all threads of the block, with a barrier before anyone reads it. table: room for a head's column. */
static __device__ __forceinline__ void load_constants(key_constants *s, float *table, const float *bias_table,
                                                      const window_grid &g, int head)
{
    load_table(table, bias_table, head, g.heads, 1 / g.scale);
    __syncthreads();
    load_bias(&s->bias, table, 0, 1, 1);
    for (int k = (int)threadIdx.x; k < key_slots / row_slots; k += (int)blockDim.x) {
        s->row_bias[k] = bias_of_row(min(k, rows_of_keys(g) - 1));
    }
    if (threadIdx.x < 4) {
        s->ones[threadIdx.x] = ones_of_slots(g, 0, (int)threadIdx.x);
        s->last_ones[threadIdx.x] = ones_of_slots(g, last_slots(g), (int)threadIdx.x);
    }
    __syncthreads();
    for (int k = (int)threadIdx.x; k < side * table_plane; k += (int)blockDim.x) {
        ((uint16_t *)s->bias.rows)[k * row_slots + side] =
            0; /* no key: it does not count, but must be finite */
    }
}

/* ---- queries ---- */

/* Rows m 16 + half 8 + lane / 4 of the fragments. Of every 16 channels, lane t has 4 t ... 4 t + 3 where
 * fragments have 2 t, 2 t + 1, 2 t + 8 and 2 t + 9; it takes keys' likewise, and products do not mind. */
template <int dims> struct query_tile {
    uint32_t q[2][dims / 16][4];
    const char *bias[2]; /* of the query that the lane asks for */
    uint32_t mask[2][2];
    float largest[2][2];       /* what is taken off scores */
    float sum[2][4];           /* columns of ones */
    float out[2][dims / 8][4]; /* not yet over the sum */
};

template <int dims>
static __device__ __forceinline__ void load_queries(query_tile<dims> *t, const key_constants *constants,
                                                    const window_room<dims> *room, const bf16 *qkv,
                                                    const window_grid &g, int first, int head)
{
    const int lane = (int)threadIdx.x % warp_size;
    const bf16 *own = qkv + head * dims + lane % 4 * 4;
    const unsigned row_bytes = (unsigned)(3 * g.heads * dims * (int)sizeof(bf16));
#pragma unroll
    for (int m = 0; m < 2; m++) {
        t->bias[m] = (const char *)constants->bias.rows + room->query_bias[first + m * 16 + lane % 16];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = room->query_rows[first + m * 16 + half * 8 + lane / 4];
            const bf16 *from = row_at(own, max(row, 0), row_bytes);
            const uint32_t is_query = row >= 0 ? 0xffffffffu : 0;
            t->largest[m][half] = 0;
#pragma unroll
            for (int k = 0; k < dims / 16; k++) {
                const uint2 four = __ldcg((const uint2 *)(from + k * 16));
                t->q[m][k][half] = four.x & is_query;
                t->q[m][k][half + 2] = four.y & is_query;
            }
        }
    }
}

template <int dims>
static __device__ __forceinline__ void load_masks(query_tile<dims> *t, const window_room<dims> *room,
                                                  int first)
{
    const int lane = (int)threadIdx.x % warp_size;
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint32_t region = room->query_regions[first + m * 16 + half * 8 + lane / 4];
            t->mask[m][half] = query_region_pair(region);
        }
    }
}

/* ---- keys ---- */

/* Where a lane reads the next 16 keys. */
template <int dims> struct key_walk {
    const bf16 *keys, *values;
    const int *row_bias;
    const uint8_t *regions;
};

template <int dims>
static __device__ __forceinline__ key_walk<dims> begin_keys(const key_constants *constants,
                                                            const window_room<dims> *room)
{
    const int lane = (int)threadIdx.x % warp_size;
    return key_walk<dims>{key_at(room, lane / 4, lane % 4 * 4), value_at(room, lane % 16, lane / 16 * 8),
                          constants->row_bias + lane / 16, room->key_regions + lane / 4};
}

template <int dims> static __device__ __forceinline__ void next_keys(key_walk<dims> *walk)
{
    walk->keys += 16 * window_room<dims>::key_row;
    walk->values += 16 * window_room<dims>::value_row;
    walk->row_bias += 16 / row_slots;
    walk->regions += 16;
}

/* 16 keys, columns n 8 of the fragments. */
template <int dims> struct key_tile {
    uint32_t keys[2][dims / 16][2];
    uint32_t mask[2][2];
    int row_bias;
};

/* A key's coordinates: `bits` less in all but that of its region. */
static __device__ __forceinline__ uint32_t other_regions_pair(uint32_t region, uint32_t bits)
{
    const uint32_t column = threadIdx.x % 4 * 2, less = (bits | 0x8000) << 16 | (bits | 0x8000);
    return region == column ? less & 0xffff0000 : region == column + 1 ? less & 0xffff : less;
}

template <int dims, bool masked>
static __device__ __forceinline__ void load_keys(key_tile<dims> *keys, const key_walk<dims> *walk)
{
    keys->row_bias = *walk->row_bias;
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int k = 0; k < dims / 16; k++) {
            const bf16 *from = walk->keys + n * 8 * window_room<dims>::key_row + k * 16;
            const uint2 four = *(const uint2 *)from;
            keys->keys[n][k][0] = four.x;
            keys->keys[n][k][1] = four.y;
        }
        if (masked) {
            const uint32_t region = walk->regions[n * 8];
            keys->mask[n][0] = other_regions_pair(region, region_code<dims>::first);
            keys->mask[n][1] = other_regions_pair(region, region_code<dims>::second);
        }
    }
}

/* ---- a tile meets keys ---- */

/* The products of 16 of the queries with the keys, bias and mask included. */
template <int dims, bool masked>
static __device__ __forceinline__ void score_keys(float score[2][4], const query_tile<dims> *t, int m,
                                                  const key_tile<dims> *keys)
{
    uint32_t bias[4];
    load_matrices(bias, t->bias[m] - keys->row_bias);
    spread_halves(score[0], bias[0], bias[1]);
    spread_halves(score[1], bias[2], bias[3]);
#pragma unroll
    for (int n = 0; n < 2; n++) {
        if (masked) {
            multiply_add_octet(score[n], t->mask[m], keys->mask[n][0]);
        }
        if (masked && region_code<dims>::second != 0) {
            multiply_add_octet(score[n], t->mask[m], keys->mask[n][1]);
        }
#pragma unroll
        for (int k = 0; k < dims / 16; k++) {
            multiply_add_bf16(score[n], t->q[m][k], keys->keys[n][k]);
        }
    }
}

/* Powers of the scores, and what they multiply added up: values and ones. unit: of scores, for powers of two.
 */
template <int dims, bool careful>
static __device__ __forceinline__ void add_values(query_tile<dims> *t, int m, const float score[2][4],
                                                  const uint32_t values[dims / 4], const uint32_t ones[2],
                                                  float unit)
{
    uint32_t p[4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float less = careful ? t->largest[m][half] * unit : 0;
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const float low = score[n][half * 2], high = score[n][half * 2 + 1];
            p[n * 2 + half] = careful ? pack_pair(power_of_two(fmaf(low, unit, -less)),
                                                  power_of_two(fmaf(high, unit, -less)))
                                      : pack_pair(power_of_two(low * unit), power_of_two(high * unit));
        }
    }
#pragma unroll
    for (int n = 0; n < dims / 8; n++) {
        multiply_add_bf16(t->out[m][n], p, values + 2 * n);
    }
    multiply_add_bf16(t->sum[m], p, ones);
}

/* Scores without a key are never the largest, and their powers nothing. */
static __device__ __forceinline__ void hide_missing_keys(float score[2][4], const window_grid &g, int first)
{
    const int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            score[n][k] = is_key(g, first + n * 8 + t * 2 + k % 2) ? score[n][k] : -INFINITY;
        }
    }
}

template <int dims> static __device__ __forceinline__ void begin_sums(query_tile<dims> *t)
{
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            t->sum[m][k] = 0;
#pragma unroll
            for (int n = 0; n < dims / 8; n++) {
                t->out[m][n][k] = 0;
            }
        }
    }
}

/* What a tile of queries has of the keys that are next: scores of its first half. */
template <int dims> struct scored_keys {
    key_walk<dims> walk;
    key_tile<dims> keys;
    float upper[2][4];
};

template <int dims, bool masked>
static __device__ __forceinline__ void score_upper(scored_keys<dims> *next, const query_tile<dims> *t)
{
    load_keys<dims, masked>(&next->keys, &next->walk);
    score_keys<dims, masked>(next->upper, t, 0, &next->keys);
}

/* Meets 16 keys. The scores of one half of the tile are begun while powers of the other's are taken; where
 * there are not the registers for it, not those of the keys to come. both: whether there are more than 16
 * queries. more: whether there are keys to come. */
template <int dims, bool masked, bool both, bool careful, bool more>
static __device__ __forceinline__ void meet_tile(query_tile<dims> *t, scored_keys<dims> *next,
                                                 const window_grid &g, int first, const uint2 &ones,
                                                 float unit)
{
    const bool ahead = dims < 64;
    const uint32_t of_keys[2] = {ones.x, ones.y};
    uint32_t values[dims / 4];
    float upper[2][4], lower[2][4];
    if (!ahead) {
        score_upper<dims, masked>(next, t);
    }
#pragma unroll
    for (int k = 0; k < 8; k++) {
        upper[k / 4][k % 4] = next->upper[k / 4][k % 4];
    }
    if (both) {
        score_keys<dims, masked>(lower, t, 1, &next->keys);
    }
#pragma unroll
    for (int n = 0; n < dims / 8; n += 2) {
        load_matrices_transposed(values + 2 * n, next->walk.values + n * 8);
    }
    next_keys(&next->walk);
    if (careful) {
        hide_missing_keys(upper, g, first);
        hide_missing_keys(lower, g, first);
    }
    if (ahead && more) {
        load_keys<dims, masked>(&next->keys, &next->walk);
    }
    add_values<dims, careful>(t, 0, upper, values, of_keys, unit);
    if (ahead && more) {
        score_keys<dims, masked>(next->upper, t, 0, &next->keys);
    }
    if (both) {
        add_values<dims, careful>(t, 1, lower, values, of_keys, unit);
    }
}

template <int dims, bool masked, bool both, bool careful>
static __device__ __forceinline__ void meet_keys(query_tile<dims> *t, const key_constants *constants,
                                                 const window_room<dims> *room, const window_grid &g,
                                                 float unit)
{
    const int last = last_slots(g), own = (int)threadIdx.x % 4;
    const uint2 ones = constants->ones[own], last_ones = constants->last_ones[own];
    scored_keys<dims> next;
    next.walk = begin_keys(constants, room);
    begin_sums(t);
    if (dims < 64) {
        score_upper<dims, masked>(&next, t);
    }
    if (dims < 64) {
#pragma unroll(careful || dims > 16 ? 1 : 2)
        for (int first = 0; first < last; first += 16) {
            meet_tile<dims, masked, both, careful, true>(t, &next, g, first, ones, unit);
        }
        meet_tile<dims, masked, both, careful, false>(t, &next, g, last, last_ones, unit);
    } else {
#pragma unroll 1
        for (int first = 0; first <= last; first += 16) {
            const uint2 own_ones = first < last ? ones : last_ones;
            meet_tile<dims, masked, both, careful, false>(t, &next, g, first, own_ones, unit);
        }
    }
}

/* Whether no power was too large, and the largest ones not too small, for sums to be as exact as they may. */
template <int dims, bool both> static __device__ __forceinline__ int sums_are_fine(const query_tile<dims> *t)
{
    const float least = 0x1p-60f, most = 0x1p60f;
    int fine = 1;
#pragma unroll
    for (int m = 0; m < (both ? 2 : 1); m++) {
        fine = fine && t->sum[m][0] > least && t->sum[m][0] < most;
        fine = fine && t->sum[m][2] > least && t->sum[m][2] < most;
    }
    return __all_sync(whole_warp, fine);
}

template <int dims, bool masked>
static __device__ __forceinline__ void find_largest(query_tile<dims> *t, const key_constants *constants,
                                                    const window_room<dims> *room, const window_grid &g)
{
    key_walk<dims> walk = begin_keys(constants, room);
    float largest[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
#pragma unroll 1
    for (int first = 0; first <= last_slots(g); first += 16) {
        key_tile<dims> keys;
        load_keys<dims, masked>(&keys, &walk);
        next_keys(&walk);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            float score[2][4];
            score_keys<dims, masked>(score, t, m, &keys);
            hide_missing_keys(score, g, first);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float *a = &score[0][half * 2], *b = &score[1][half * 2];
                largest[m][half] = fmaxf(largest[m][half], fmaxf(fmaxf(a[0], a[1]), fmaxf(b[0], b[1])));
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float x = largest[m][half];
            x = fmaxf(x, __shfl_xor_sync(whole_warp, x, 1));
            t->largest[m][half] = fmaxf(x, __shfl_xor_sync(whole_warp, x, 2));
        }
    }
}

template <int dims, bool masked, bool both>
static __device__ __forceinline__ void meet_window(query_tile<dims> *t, const key_constants *constants,
                                                   const window_room<dims> *room, const window_grid &g,
                                                   float unit)
{
    meet_keys<dims, masked, both, false>(t, constants, room, g, unit);
    if (!sums_are_fine<dims, both>(t)) {
        find_largest<dims, masked>(t, constants, room, g);
        meet_keys<dims, masked, true, true>(t, constants, room, g, unit);
    }
}

#endif
