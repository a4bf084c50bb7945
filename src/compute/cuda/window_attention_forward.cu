/* Window attention in bf16 on tensor cores. A warp takes 32 queries of a window and meets all its keys, 16 at
 * a time. Queries are the real tokens only, one after the other; keys are all tokens of the window, in shared
 * memory (window_rooms.cuh).
 *
 * What there is most of is exponentials, of which a multiprocessor begins 16 in a clock. So there is little
 * beside them: nothing is taken off scores before, and the sum of powers is one more column of their product
 * with the values. bf16 has the exponents of float, so this is as exact as taking the largest score off,
 * unless powers overflow or vanish. Queries whose sum says so meet the keys a second time, carefully. */
#include "compute/cuda/window_rooms.cuh"

/* warps: that work on windows. loaders: that load them meanwhile, or none, and then all load one window and
 * after that all work on it. blocks: of a multiprocessor. */
template <int dims> struct block_of;
template <> struct block_of<16> {
    enum { warps = 16, loaders = 4, blocks = 1 };
};
template <> struct block_of<32> {
    enum { warps = 6, loaders = 0, blocks = 2 };
};
template <> struct block_of<64> {
    enum { warps = 11, loaders = 0, blocks = 1 };
};

template <int dims> static constexpr int threads_of_block()
{
    return (block_of<dims>::warps + block_of<dims>::loaders) * warp_size;
}

/* What the block of forward shares. */
template <int dims> struct forward_shared {
    window_bias bias; /* over the scale, so that it is added to products */
    window_places places[block_of<dims>::loaders > 0 ? block_of<dims>::loaders : block_of<dims>::warps];
    bf16 padding[2][dims];               /* its key and its value */
    int row_bias[key_slots / row_slots]; /* of rows of keys */
    uint2 ones[4], last_ones[4];         /* see ones_of_slots */
    room_barrier full[rooms_most], empty[rooms_most];
    window_room<dims> rooms[1]; /* or more */
};

/* What the kernel is called with. unit: of scores, for powers of two. */
struct forward_arrays {
    bf16 *out;
    float *logsumexp;
    const bf16 *qkv;
    const float *qkv_bias, *bias_table;
    int rooms;
    float unit;
};

/* ---- words ---- */

/* d += a b, a of 8 columns: a[0] row g, a[1] row g + 8. */
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

/* Halves to floats, in one product with the unit matrix where a conversion of each would take as long as its
 * exponential's other instructions together. They must be finite. */
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

static __device__ __forceinline__ float reciprocal(float x)
{
#ifdef __CUDACC__
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return 1 / x;
#endif
}

static __device__ __forceinline__ float log_to_base_two(float x)
{
#ifdef __CUDACC__
    float result;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return log2f(x);
#endif
}

/* ---- what no window changes ---- */

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

/* Slots without a key do not count, so that anything finite may be added to their scores. */
static __device__ __forceinline__ void clear_bias_without_key(window_bias *bias)
{
    for (int k = (int)threadIdx.x; k < side * table_plane; k += (int)blockDim.x) {
        ((uint16_t *)bias->rows)[k * row_slots + side] = 0;
    }
}

template <int dims>
static __device__ __forceinline__ void begin_block(forward_shared<dims> *s, const forward_arrays &a,
                                                   const window_grid &g, int head)
{
    load_bias(&s->bias, a.bias_table, head, g.heads, 1 / g.scale);
    for (int room = 0; room < a.rooms; room++) {
        clear_room(&s->rooms[room]);
    }
    for (int k = (int)threadIdx.x; k < 2 * dims; k += (int)blockDim.x) {
        const int part = 1 + k / dims;
        s->padding[0][k] = from_float<bf16>(a.qkv_bias[(part * g.heads + head) * dims + k % dims]);
    }
    for (int k = (int)threadIdx.x; k < key_slots / row_slots; k += (int)blockDim.x) {
        s->row_bias[k] = bias_of_row(min(k, rows_of_keys(g) - 1));
    }
    if (threadIdx.x < 4) {
        s->ones[threadIdx.x] = ones_of_slots(g, 0, (int)threadIdx.x);
        s->last_ones[threadIdx.x] = ones_of_slots(g, last_slots(g), (int)threadIdx.x);
    }
    if (block_of<dims>::loaders > 0 && threadIdx.x == 0) {
        for (int room = 0; room < a.rooms; room++) {
            make_barrier(&s->full[room], block_of<dims>::loaders * warp_size);
            make_barrier(&s->empty[room], block_of<dims>::warps);
        }
    }
    __syncthreads();
    clear_bias_without_key(&s->bias);
    __syncthreads();
}

/* ---- queries ---- */

/* A warp's 32 queries: rows m 16 + half 8 + lane / 4 of the fragments. Of every 16 channels, lane t has 4 t
 * ... 4 t + 3 where fragments have 2 t, 2 t + 1, 2 t + 8 and 2 t + 9: keys' are taken likewise, and products
 * do not mind. */
template <int dims> struct query_tile {
    uint32_t q[2][dims / 16][4];
    const char *bias[2]; /* of the query that the lane asks for */
    uint32_t mask[2][2];
    float largest[2][2];       /* what is taken off scores */
    float sum[2][4];           /* columns of ones */
    float out[2][dims / 8][4]; /* not yet over the sum */
};

template <int dims>
static __device__ __forceinline__ void load_queries(query_tile<dims> *t, const forward_shared<dims> *s,
                                                    const window_room<dims> *room, const bf16 *qkv,
                                                    const window_grid &g, int first, int head)
{
    const int lane = (int)threadIdx.x % warp_size;
    const bf16 *own = qkv + head * dims + lane % 4 * 4;
    const unsigned row_bytes = (unsigned)(3 * g.heads * dims * (int)sizeof(bf16));
#pragma unroll
    for (int m = 0; m < 2; m++) {
        t->bias[m] = (const char *)s->bias.rows + room->query_bias[first + m * 16 + lane % 16];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int slot = first + m * 16 + half * 8 + lane / 4, row = room->query_rows[slot];
            const bf16 *from = row_at(own, max(row, 0), row_bytes);
            const uint32_t is_query = row >= 0 ? 0xffffffffu : 0;
            t->mask[m][half] = query_region_pair(room->query_regions[slot]);
            t->largest[m][half] = 0;
#pragma unroll
            for (int k = 0; k < dims / 16; k++) {
                const uint2 four = *(const uint2 *)(from + k * 16);
                t->q[m][k][half] = four.x & is_query;
                t->q[m][k][half + 2] = four.y & is_query;
            }
        }
    }
}

/* ---- a tile of queries meets keys ---- */

/* What a lane reads of the next 16 keys. */
template <int dims> struct key_walk {
    const bf16 *keys, *values;
    const int *row_bias;
    const uint8_t *regions;
};

template <int dims>
static __device__ __forceinline__ key_walk<dims> begin_keys(const forward_shared<dims> *s,
                                                            const window_room<dims> *room)
{
    const int lane = (int)threadIdx.x % warp_size;
    return key_walk<dims>{key_at(room, lane / 4, lane % 4 * 4), value_at(room, lane % 16, lane / 16 * 8),
                          s->row_bias + lane / 16, room->key_regions + lane / 4};
}

template <int dims> static __device__ __forceinline__ void next_keys(key_walk<dims> *walk)
{
    walk->keys += 16 * window_room<dims>::key_row;
    walk->values += 16 * window_room<dims>::value_row;
    walk->row_bias += 16 / row_slots;
    walk->regions += 16;
}

/* Key's coordinates: `bits` less in all but that of its region. */
static __device__ __forceinline__ uint32_t other_regions_pair(uint32_t region, uint32_t bits)
{
    const uint32_t column = threadIdx.x % 4 * 2, less = (bits | 0x8000) << 16 | (bits | 0x8000);
    return region == column ? less & 0xffff0000 : region == column + 1 ? less & 0xffff : less;
}

/* The mask: what scores between regions have less than others. */
template <int dims>
static __device__ __forceinline__ void add_mask(float score[2][2][4], const query_tile<dims> *t,
                                                const key_walk<dims> *walk)
{
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const uint32_t region = walk->regions[n * 8];
        const uint32_t first = other_regions_pair(region, region_code<dims>::first);
        const uint32_t second = other_regions_pair(region, region_code<dims>::second);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            multiply_add_octet(score[m][n], t->mask[m], first);
            if (region_code<dims>::second != 0) {
                multiply_add_octet(score[m][n], t->mask[m], second);
            }
        }
    }
}

/* The products of the queries with 16 keys, bias included: columns n 8 of the fragments. */
template <int dims, bool masked>
static __device__ __forceinline__ void score_keys(float score[2][2][4], const query_tile<dims> *t,
                                                  const key_walk<dims> *walk)
{
    const int row_bias = *walk->row_bias;
#pragma unroll
    for (int m = 0; m < 2; m++) {
        uint32_t bias[4];
        load_matrices(bias, t->bias[m] - row_bias);
        spread_halves(score[m][0], bias[0], bias[1]);
        spread_halves(score[m][1], bias[2], bias[3]);
    }
    if (masked) {
        add_mask(score, t, walk);
    }
#pragma unroll
    for (int k = 0; k < dims / 16; k++) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const uint2 four = *(const uint2 *)(walk->keys + n * 8 * window_room<dims>::key_row + k * 16);
            const uint32_t keys[2] = {four.x, four.y};
#pragma unroll
            for (int m = 0; m < 2; m++) {
                multiply_add_bf16(score[m][n], t->q[m][k], keys);
            }
        }
    }
}

/* Powers of the scores, and what they multiply added up: values and ones. unit: that of scores, for powers of
 * two. */
template <int dims, bool careful>
static __device__ __forceinline__ void add_values(query_tile<dims> *t, const float score[2][2][4],
                                                  const key_walk<dims> *walk, const uint32_t ones[2],
                                                  float unit)
{
    uint32_t p[2][4];
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float less = careful ? t->largest[m][half] * unit : 0;
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const float *two = &score[m][n][half * 2];
                p[m][n * 2 + half] =
                    careful ? pack_pair(power_of_two(fmaf(two[0], unit, -less)),
                                        power_of_two(fmaf(two[1], unit, -less)))
                            : pack_pair(power_of_two(two[0] * unit), power_of_two(two[1] * unit));
            }
        }
        multiply_add_bf16(t->sum[m], p[m], ones);
    }
#pragma unroll
    for (int n = 0; n < dims / 8; n += 2) {
        uint32_t values[4];
        load_matrices_transposed(values, walk->values + n * 8);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            multiply_add_bf16(t->out[m][n], p[m], values);
            multiply_add_bf16(t->out[m][n + 1], p[m], values + 2);
        }
    }
}

/* Scores without a key are never the largest, and their powers nothing. */
static __device__ __forceinline__ void hide_missing_keys(float score[2][2][4], const window_grid &g,
                                                         int first)
{
    const int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            const int exists = is_key(g, first + n * 8 + t * 2 + odd);
#pragma unroll
            for (int m = 0; m < 2; m++) {
                score[m][n][odd] = exists ? score[m][n][odd] : -INFINITY;
                score[m][n][odd + 2] = exists ? score[m][n][odd + 2] : -INFINITY;
            }
        }
    }
}

template <int dims, bool masked, bool careful>
static __device__ __forceinline__ void meet_keys(query_tile<dims> *t, const forward_shared<dims> *s,
                                                 const window_room<dims> *room, const window_grid &g,
                                                 float unit)
{
    const int last = last_slots(g), own = (int)threadIdx.x % 4;
    const uint2 usual = s->ones[own], at_last = s->last_ones[own];
    key_walk<dims> walk = begin_keys(s, room);
#pragma unroll
    for (int m = 0; m < 2; m++) {
        for (int k = 0; k < 4; k++) {
            t->sum[m][k] = 0;
            for (int n = 0; n < dims / 8; n++) {
                t->out[m][n][k] = 0;
            }
        }
    }
#pragma unroll 1
    for (int first = 0; first <= last; first += 16) {
        const uint32_t ones[2] = {first == last ? at_last.x : usual.x, first == last ? at_last.y : usual.y};
        float score[2][2][4];
        score_keys<dims, masked>(score, t, &walk);
        if (careful) {
            hide_missing_keys(score, g, first);
        }
        add_values<dims, careful>(t, score, &walk, ones, unit);
        next_keys(&walk);
    }
}

/* Whether no power was too large, and the largest ones not too small, for sums to be as exact as they may. */
template <int dims> static __device__ __forceinline__ int sums_are_fine(const query_tile<dims> *t)
{
    const float least = 0x1p-60f, most = 0x1p60f;
    int fine = 1;
#pragma unroll
    for (int m = 0; m < 2; m++) {
        fine = fine && t->sum[m][0] > least && t->sum[m][0] < most;
        fine = fine && t->sum[m][2] > least && t->sum[m][2] < most;
    }
    return __all_sync(whole_warp, fine);
}

template <int dims, bool masked>
static __device__ __forceinline__ void find_largest(query_tile<dims> *t, const forward_shared<dims> *s,
                                                    const window_room<dims> *room, const window_grid &g)
{
    key_walk<dims> walk = begin_keys(s, room);
    float largest[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
#pragma unroll 1
    for (int first = 0; first <= last_slots(g); first += 16) {
        float score[2][2][4];
        score_keys<dims, masked>(score, t, &walk);
        hide_missing_keys(score, g, first);
        next_keys(&walk);
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float *a = &score[m][0][half * 2], *b = &score[m][1][half * 2];
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

/* ---- results ---- */

/* From the 2 pairs of 16 channels that lane t has, 2 t and 2 t + 8 the first of them, to those it writes, 4 t
 * and 4 t + 2. */
static __device__ __forceinline__ uint2 exchange_pairs(uint32_t low, uint32_t high)
{
    const int t = (int)threadIdx.x % 4;
    const uint32_t kept = t < 2 ? low : high, other = __shfl_xor_sync(whole_warp, t < 2 ? high : low, 2);
    const uint32_t before = t < 2 ? kept : other,
                   after = t < 2 ? other : kept; /* of pairs that are 2 apart */
    const uint32_t between = __shfl_xor_sync(whole_warp, t % 2 ? before : after, 1);
    return t % 2 ? make_uint2(between, after) : make_uint2(before, between);
}

template <int dims>
static __device__ __forceinline__ void store_outputs(bf16 *out, const query_tile<dims> *tile,
                                                     const window_room<dims> *room, const window_grid &g,
                                                     int first, int head)
{
    const int lane = (int)threadIdx.x % warp_size;
    bf16 *own = out + head * dims + lane % 4 * 4;
    const unsigned row_bytes = (unsigned)(g.heads * dims * (int)sizeof(bf16));
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = room->query_rows[first + m * 16 + half * 8 + lane / 4];
            const float share = reciprocal(tile->sum[m][half * 2]);
#pragma unroll
            for (int n = 0; n < dims / 8; n += 2) {
                const float *low = &tile->out[m][n][half * 2], *high = &tile->out[m][n + 1][half * 2];
                const uint2 four = exchange_pairs(pack_pair(low[0] * share, low[1] * share),
                                                  pack_pair(high[0] * share, high[1] * share));
                if (row >= 0) {
                    *(uint2 *)(row_at(own, row, row_bytes) + n * 8) = four;
                }
            }
        }
    }
}

/* Lane t has that of row m 16 + half 8 + lane / 4, t = 2 m + half. */
template <int dims>
static __device__ __forceinline__ void store_logsumexp(float *logsumexp, const query_tile<dims> *tile,
                                                       const window_room<dims> *room, const window_grid &g,
                                                       int first, int head)
{
    const int lane = (int)threadIdx.x % warp_size, t = lane % 4;
    const int row = room->query_rows[first + t * 8 + lane / 4];
    const float(*sum)[4] = tile->sum, (*largest)[2] = tile->largest;
    const float own_sum = t == 0 ? sum[0][0] : t == 1 ? sum[0][2] : t == 2 ? sum[1][0] : sum[1][2];
    const float own_largest = t == 0   ? largest[0][0]
                              : t == 1 ? largest[0][1]
                              : t == 2 ? largest[1][0]
                                       : largest[1][1];
    if (row >= 0) {
        *row_at(logsumexp + head, row, (unsigned)(g.heads * (int)sizeof(float))) =
            own_largest * g.scale + log_to_base_two(own_sum) / log2_of_e;
    }
}

template <int dims, bool masked>
static __device__ __forceinline__ void attend_of_tile(query_tile<dims> *t, const forward_shared<dims> *s,
                                                      const window_room<dims> *room, const window_grid &g,
                                                      float unit)
{
    meet_keys<dims, masked, false>(t, s, room, g, unit);
    if (!sums_are_fine(t)) {
        find_largest<dims, masked>(t, s, room, g);
        meet_keys<dims, masked, true>(t, s, room, g, unit);
    }
}

/* ---- a block ---- */

template <int dims>
static __device__ __forceinline__ void
attend_to_queries(const forward_arrays &a, const forward_shared<dims> *s, const window_room<dims> *room,
                  const window_grid &g, int first, int head)
{
    query_tile<dims> tile;
    load_queries(&tile, s, room, a.qkv, g, first, head);
    if (room->mixed) {
        attend_of_tile<dims, true>(&tile, s, room, g, a.unit);
    } else {
        attend_of_tile<dims, false>(&tile, s, room, g, a.unit);
    }
    store_outputs(a.out, &tile, room, g, first, head);
    store_logsumexp(a.logsumexp, &tile, room, g, first, head);
}

/* Which room is next, and which phase of its barriers. */
struct room_turn {
    int room, parity;
};

static __device__ __forceinline__ void next_room(room_turn *turn, int rooms)
{
    turn->room++;
    if (turn->room == rooms) {
        turn->room = 0;
        turn->parity ^= 1;
    }
}

/* What a warp does that loads. */
template <int dims>
static __device__ __forceinline__ void fill_rooms(const forward_arrays &a, forward_shared<dims> *s,
                                                  const loading_warp &loader, const window_grid &g, int head)
{
    room_turn turn = {0, 0};
    window_walk walk = begin_windows(g);
    for (int number = 0; walk.window < g.windows; number++) {
        if (number >= a.rooms) {
            wait_for(&s->empty[turn.room], turn.parity ^ 1);
        }
        load_window(&s->rooms[turn.room], loader, a.qkv, g, cut_of(walk, g), head);
        next_window(&walk, g);
        copy_async_wait<0>();
        arrive_at(&s->full[turn.room]);
        next_room(&turn, a.rooms);
    }
}

/* What the others do: tiles of all windows, one after the other, go to warps by turns. */
template <int dims>
static __device__ __forceinline__ void attend_in_rooms(const forward_arrays &a, forward_shared<dims> *s,
                                                       const window_grid &g, int warp, int head)
{
    room_turn turn = {0, 0};
    int tile = warp; /* the next one of this warp, counted from the window's first */
    for (int window = (int)blockIdx.y; window < g.windows; window += (int)gridDim.y) {
        const window_room<dims> *room = &s->rooms[turn.room];
        wait_for(&s->full[turn.room], turn.parity);
        const int tiles = (room->queries + queries_of_warp - 1) / queries_of_warp;
        for (; tile < tiles; tile += block_of<dims>::warps) {
            attend_to_queries(a, s, room, g, tile * queries_of_warp, head);
        }
        tile -= tiles;
        __syncwarp();
        if (threadIdx.x % warp_size == 0) {
            arrive_at(&s->empty[turn.room]);
        }
        next_room(&turn, a.rooms);
    }
}

/* All warps load a window, then all work on it. */
template <int dims>
static __device__ __forceinline__ void attend_in_turn(const forward_arrays &a, forward_shared<dims> *s,
                                                      const loading_warp &loader, const window_grid &g,
                                                      int head)
{
    window_room<dims> *room = s->rooms;
    for (window_walk walk = begin_windows(g); walk.window < g.windows; next_window(&walk, g)) {
        __syncthreads();
        load_window(room, loader, a.qkv, g, cut_of(walk, g), head);
        copy_async_wait<0>();
        __syncthreads();
        for (int tile = loader.warp; tile * queries_of_warp < room->queries; tile += loader.warps) {
            attend_to_queries(a, s, room, g, tile * queries_of_warp, head);
        }
    }
}

template <int dims>
static __global__ void __launch_bounds__(threads_of_block<dims>(), block_of<dims>::blocks)
    attend(forward_arrays a, window_grid g)
{
    typedef block_of<dims> block;
    dynamic_shared(forward_shared<dims>, s);
    const int head = (int)blockIdx.x, warp = (int)threadIdx.x / warp_size;
    begin_block(s, a, g, head);
    const int loader = block::loaders > 0 ? warp - block::warps : warp;
    const loading_warp own = {loader, block::loaders > 0 ? block::loaders : block::warps,
                              s->places[max(loader, 0)], s->padding[0]};
    if (block::loaders == 0) {
        attend_in_turn(a, s, own, g, head);
    } else if (loader >= 0) {
        fill_rooms(a, s, own, g, head);
    } else {
        attend_in_rooms(a, s, g, warp, head);
    }
}

template <int dims>
static void attend_on_tensor_cores(struct compute *c, forward_arrays a, const window_grid *g)
{
    const size_t others = sizeof(forward_shared<dims>) - sizeof(window_room<dims>);
    const size_t most = (cuda_state(c)->shared_per_block - others) / sizeof(window_room<dims>);
    a.rooms = block_of<dims>::loaders == 0 ? 1 : most < rooms_most ? (int)most : rooms_most;
    a.unit = g->scale * log2_of_e;
    const int groups = window_groups(g, block_of<dims>::blocks * cuda_state(c)->multiprocessors);
    launch(c, attend<dims>, dim3((unsigned)g->heads, (unsigned)groups),
           dim3((unsigned)threads_of_block<dims>()), others + (size_t)a.rooms * sizeof(window_room<dims>), a,
           *g);
}

void cuda_window_attention_forward(struct compute *c, activation *out, float *logsumexp,
                                   const activation *qkv, const float *qkv_bias, const float *bias_table,
                                   const struct attention_shape *shape)
{
    if (!attention_is_supported(c, shape)) {
        return;
    }
    const window_grid g = window_grid_of(shape);
    const forward_arrays a = {(bf16 *)out, logsumexp, (const bf16 *)qkv, qkv_bias, bias_table, 0, 0};
    const int is_bf16 = c->precision == PRECISION_BF16;
    if (is_bf16 && g.head_dim == 16) {
        attend_on_tensor_cores<16>(c, a, &g);
    } else if (is_bf16 && g.head_dim == 32) {
        attend_on_tensor_cores<32>(c, a, &g);
    } else if (is_bf16 && g.head_dim == 64 && cuda_state(c)->shared_per_block >= sizeof(forward_shared<64>)) {
        attend_on_tensor_cores<64>(c, a, &g);
    } else {
        plain_window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, shape);
    }
}
