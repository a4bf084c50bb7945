/* Window attention in bf16 on tensor cores. A warp takes 32 queries of a window and meets all its keys, 16 at
 * a time (window_scores.cuh). Queries are the real tokens only, one after the other; keys are all tokens of
 * the window, in shared memory (window_rooms.cuh). */
#include "compute/cuda/window_scores.cuh"

/* warps: that work on windows. loaders: that load them meanwhile, each another one, into so many rooms at
 * most; or none, and then all load one window and after that all work on it. blocks: of a multiprocessor. */
template <int dims> struct block_of;
template <> struct block_of<16> {
    enum { warps = 12, loaders = 4, rooms = 6, blocks = 1 };
};
template <> struct block_of<32> {
    enum { warps = 6, loaders = 0, rooms = 1, blocks = 2 };
};
template <> struct block_of<64> {
    enum { warps = 11, loaders = 0, rooms = 1, blocks = 1 };
};

template <int dims> static constexpr int threads_of_block()
{
    return (block_of<dims>::warps + block_of<dims>::loaders) * warp_size;
}

/* What the block of forward shares. */
template <int dims> struct forward_shared {
    typedef block_of<dims> block;
    key_constants constants;
    window_places places[block::loaders > 0 ? block::loaders : block::warps];
    bf16 padding[2][dims]; /* its key and its value */
    room_barrier full[block::rooms], empty[block::rooms];
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

template <int dims>
static __device__ __forceinline__ void begin_block(forward_shared<dims> *s, const forward_arrays &a,
                                                   const window_grid &g, int head)
{
    load_constants(&s->constants, (float *)s->rooms, a.bias_table, g, head);
    for (int room = 0; room < a.rooms; room++) {
        clear_room(&s->rooms[room]);
    }
    for (int k = (int)threadIdx.x; k < 2 * dims; k += (int)blockDim.x) {
        const int part = 1 + k / dims;
        s->padding[0][k] = from_float<bf16>(a.qkv_bias[(part * g.heads + head) * dims + k % dims]);
    }
    if (block_of<dims>::loaders > 0 && threadIdx.x == 0) {
        for (int room = 0; room < a.rooms; room++) {
            make_barrier(&s->full[room], warp_size);
            make_barrier(&s->empty[room], block_of<dims>::warps);
        }
    }
    __syncthreads();
}

/* ---- results ---- */

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
static __device__ __forceinline__ void
attend_with_mask(query_tile<dims> *tile, const forward_arrays &a, const key_constants *constants,
                 const window_room<dims> *room, const window_grid &g, int queries)
{
    if (queries > queries_of_warp / 2) {
        meet_window<dims, masked, true>(tile, constants, room, g, a.unit);
    } else {
        meet_window<dims, masked, false>(tile, constants, room, g, a.unit);
    }
}

/* ---- a block ---- */

template <int dims>
static __device__ __forceinline__ void
attend_to_queries(const forward_arrays &a, const forward_shared<dims> *s, const window_room<dims> *room,
                  const window_grid &g, int first, int head)
{
    query_tile<dims> tile;
    load_queries(&tile, &s->constants, room, a.qkv, g, first, head);
    if (room->mixed) {
        load_masks(&tile, room, first);
        attend_with_mask<dims, true>(&tile, a, &s->constants, room, g, room->queries - first);
    } else {
        attend_with_mask<dims, false>(&tile, a, &s->constants, room, g, room->queries - first);
    }
    store_outputs(a.out, &tile, room, g, first, head);
    store_logsumexp(a.logsumexp, &tile, room, g, first, head);
}

/* Which room is next, and which phase of its barriers. */
struct room_turn {
    int room, parity;
};

static __device__ __forceinline__ void go_on(room_turn *turn, int windows, int rooms)
{
    turn->room += windows;
    while (turn->room >= rooms) {
        turn->room -= rooms;
        turn->parity ^= 1;
    }
}

/* What a warp does that loads: every so many-th window. With more such warps than rooms, one might wait for a
 * room to be empty that another has not filled yet. */
template <int dims>
static __device__ __forceinline__ void fill_rooms(const forward_arrays &a, forward_shared<dims> *s,
                                                  const loading_warp &loader, const window_grid &g, int warp,
                                                  int head)
{
    const int loaders = min((int)block_of<dims>::loaders, a.rooms);
    if (warp >= loaders) {
        return;
    }
    room_turn turn = {0, 0};
    go_on(&turn, warp, a.rooms);
    window_walk walk = begin_windows(g, warp, loaders);
    for (int number = warp; walk.window < g.windows; number += loaders) {
        if (number >= a.rooms) {
            wait_for(&s->empty[turn.room], turn.parity ^ 1);
        }
        load_window(&s->rooms[turn.room], loader, a.qkv, g, cut_of(walk, g), head);
        next_window(&walk, g);
        copy_async_wait<0>();
        arrive_at(&s->full[turn.room]);
        go_on(&turn, loaders, a.rooms);
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
        go_on(&turn, 1, a.rooms);
    }
}

/* All warps load a window, then all work on it. */
template <int dims>
static __device__ __forceinline__ void attend_in_turn(const forward_arrays &a, forward_shared<dims> *s,
                                                      const loading_warp &loader, const window_grid &g,
                                                      int head)
{
    window_room<dims> *room = s->rooms;
    for (window_walk walk = begin_windows(g, 0, 1); walk.window < g.windows; next_window(&walk, g)) {
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
    if (block::loaders == 0) {
        const loading_warp own = {warp, block::warps, s->places[warp], s->padding[0]};
        attend_in_turn(a, s, own, g, head);
    } else if (warp >= block::warps) {
        const int number = warp - block::warps;
        const loading_warp own = {0, 1, s->places[number], s->padding[0]};
        fill_rooms(a, s, own, g, number, head);
    } else {
        attend_in_rooms(a, s, g, warp, head);
    }
}

template <int dims>
static void attend_on_tensor_cores(struct compute *c, forward_arrays a, const window_grid *g)
{
    const size_t room = sizeof(window_room<dims>), others = sizeof(forward_shared<dims>) - room;
    const size_t fit = (cuda_state(c)->shared_per_block - others) / room, most = block_of<dims>::rooms;
    a.rooms = (int)(fit < most ? fit : most);
    a.unit = g->scale * log2_of_e;
    const int groups = window_groups(g, block_of<dims>::blocks * cuda_state(c)->multiprocessors);
    launch(c, attend<dims>, dim3((unsigned)g->heads, (unsigned)groups),
           dim3((unsigned)threads_of_block<dims>()), others + (size_t)a.rooms * room, a, *g);
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
