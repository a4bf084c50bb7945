/* Windows in shared memory, for attention's forward pass: a window lies in a room. Where some warps of a
 * block do nothing but load, the next windows fill other rooms while some are worked on, and nobody waits for
 * the whole block: a room is full when all threads that load it have arrived at its barrier, and empty when
 * all warps that work have passed it. */
#ifndef COMPUTE_CUDA_WINDOW_ROOMS_CUH
#define COMPUTE_CUDA_WINDOW_ROOMS_CUH

#include "compute/cuda/window_bias.cuh"

enum {
    queries_of_warp = 32,
    slots_most = 352, /* queries of a window, to whole warps */
    key_slots = 400,  /* to whole tiles of 16 */
};

/* Rows of keys are as long as puts 32 bytes of any four neighbours into different banks. Of values, 16 bytes
 * of any eight: see value_at. */
template <int dims> struct __align__(16) window_room
{
    enum { key_row = dims == 16 ? 16 : dims + 16, value_row = dims == 16 ? 16 : dims + 8 };
    bf16 keys[key_slots][key_row], values[key_slots][value_row];
    uint8_t key_regions[key_slots], query_regions[slots_most];
    uint16_t query_bias[slots_most];
    int query_rows[slots_most]; /* -1: no query */
    int queries, mixed;         /* mixed: its tokens are of several regions */
};

template <int dims>
static __device__ __forceinline__ const bf16 *key_at(const window_room<dims> *room, int slot, int i)
{
    return &room->keys[slot][i];
}

/* i: a multiple of 8. */
template <int dims>
static __device__ __forceinline__ const bf16 *value_at(const window_room<dims> *room, int slot, int i)
{
    return &room->values[slot][dims == 16 ? i ^ (slot / 4 % 2 * 8) : i];
}

/* ---- barriers of some threads of a block, in shared memory (PTX ISA, "mbarrier") ---- */

/* It has phases: one ends when as many threads as it was made for have arrived. */
struct room_barrier {
    uint64_t state;
};

/* By one thread, and then a barrier of the block. */
static __device__ __forceinline__ void make_barrier(room_barrier *barrier, int arrivals)
{
#ifdef __CUDACC__
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(barrier);
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
#else
    cuda_on_host::barrier_make(barrier, arrivals);
#endif
}

static __device__ __forceinline__ void arrive_at(room_barrier *barrier)
{
#ifdef __CUDACC__
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(barrier);
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(address) : "memory");
#else
    cuda_on_host::barrier_arrive(barrier, 0);
#endif
}

/* Until the phase with this parity has ended; the first one's is 0. */
static __device__ __forceinline__ void wait_for(room_barrier *barrier, int parity)
{
#ifdef __CUDACC__
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(barrier);
    uint32_t ended;
    do {
#if __CUDA_ARCH__ >= 900
        asm volatile("{ .reg .pred ended; mbarrier.try_wait.parity.shared.b64 ended, [%1], %2; "
                     "selp.u32 %0, 1, 0, ended; }"
                     : "=r"(ended)
                     : "r"(address), "r"(parity)
                     : "memory");
#else
        asm volatile("{ .reg .pred ended; mbarrier.test_wait.parity.shared.b64 ended, [%1], %2; "
                     "selp.u32 %0, 1, 0, ended; }"
                     : "=r"(ended)
                     : "r"(address), "r"(parity)
                     : "memory");
#endif
    } while (!ended);
#else
    cuda_on_host::barrier_wait(barrier, parity);
#endif
}

/* ---- a block's windows, one after the other ---- */

struct window_walk {
    int window, windows_apart;
    int at[4];   /* along the axes, and the sample */
    int step[4]; /* to the next one, likewise */
};

static __device__ __forceinline__ void divide_window(int at[4], const window_grid &g, int window)
{
#pragma unroll
    for (int axis = 2; axis >= 0; axis--) {
        at[axis] = window % g.along[axis];
        window /= g.along[axis];
    }
    at[3] = window;
}

/* Every `every`-th of the block's windows from its `first` one on. */
static __device__ __forceinline__ window_walk begin_windows(const window_grid &g, int first, int every)
{
    window_walk walk;
    walk.window = (int)blockIdx.y + first * (int)gridDim.y;
    walk.windows_apart = every * (int)gridDim.y;
    divide_window(walk.at, g, walk.window);
    divide_window(walk.step, g, walk.windows_apart);
    return walk;
}

/* Without division, which is slow. */
static __device__ __forceinline__ void next_window(window_walk *walk, const window_grid &g)
{
    int carry = 0;
    walk->window += walk->windows_apart;
#pragma unroll
    for (int axis = 2; axis >= 0; axis--) {
        walk->at[axis] += walk->step[axis] + carry;
        carry = walk->at[axis] >= g.along[axis];
        walk->at[axis] -= carry ? g.along[axis] : 0;
    }
    walk->at[3] += walk->step[3] + carry;
}

/* As cut_window does. */
static __device__ __forceinline__ window_cut cut_of(const window_walk &walk, const window_grid &g)
{
    window_cut cut;
    cut.mixed = 0;
    cut.sample = walk.at[3];
#pragma unroll
    for (int axis = 0; axis < 3; axis++) {
        cut.corner[axis] = walk.at[axis] * g.window[axis];
        cut.mixed |= g.shift[axis] > 0 && walk.at[axis] == g.along[axis] - 1;
        cut.real[axis] = real_before(g, cut, axis, g.window[axis]);
    }
    return cut;
}

/* ---- loading ---- */

/* What a place of an axis adds up to a token with: x: row of qkv, -1 where it is padding; y: number among the
 * queries; z: bit of region_in_window. */
static __device__ __forceinline__ int4 place_of_axis(const window_grid &g, const window_cut &cut, int axis,
                                                     int inside)
{
    const int rolled = cut.corner[axis] + inside, unrolled = rolled + g.shift[axis];
    const int place = unrolled < g.end[axis] ? unrolled : unrolled - g.end[axis];
    const int last_region = g.shift[axis] > 0 && rolled >= g.end[axis] - g.shift[axis];
    const int rows = axis == 0 ? g.extent[1] * g.extent[2] : axis == 1 ? g.extent[2] : 1;
    const int queries = axis == 0 ? cut.real[1] * cut.real[2] : axis == 1 ? cut.real[2] : 1;
    const int sample = axis == 0 ? cut.sample * g.extent[0] : 0;
    return make_int4(place < g.extent[axis] ? (sample + place) * rows : -1,
                     real_before(g, cut, axis, inside) * queries, last_region << (2 - axis), 0);
}

typedef int4 window_places[3][8]; /* of the axes */

static __device__ __forceinline__ void list_places(window_places places, const window_grid &g,
                                                   const window_cut &cut)
{
    const int lane = (int)threadIdx.x % warp_size;
    __syncwarp();
    if (lane < 8) {
#pragma unroll
        for (int axis = 0; axis < 3; axis++) {
            places[axis][lane] = place_of_axis(g, cut, axis, lane);
        }
    }
    __syncwarp();
}

/* The sum of its places'. */
static __device__ __forceinline__ int4 token_of_places(const window_places places, const window_grid &g,
                                                       int number)
{
    int inside[3] = {number / window_rows, number / side % side, number % side};
    if (g.window[1] != side || g.window[2] != side) { /* rarely: these are slow */
        inside[0] = number / g.window[2] / g.window[1];
        inside[1] = number / g.window[2] % g.window[1];
        inside[2] = number % g.window[2];
    }
    const int4 d = places[0][inside[0]], h = places[1][inside[1]], w = places[2][inside[2]];
    const int is_real = (d.x | h.x | w.x) >= 0;
    return make_int4(is_real ? d.x + h.x + w.x : -1, d.y + h.y + w.y, d.z + h.z + w.z, 0);
}

/* Row `row` of rows of so many bytes. */
template <typename T> static __device__ __forceinline__ T *row_at(T *first, int row, unsigned bytes)
{
    return (T *)((size_t)first + (unsigned long long)(unsigned)row * bytes);
}

/* copy_async, of a row whose other parts will be asked for soon. */
static __device__ __forceinline__ void copy_async_of_row(void *to, const void *from)
{
#ifdef __CUDACC__
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
#else
    copy_async(to, from, 1);
#endif
}

/* Who loads: warp `warp` of `warps`. padding: its key and its value. */
struct loading_warp {
    int warp, warps;
    int4 (*places)[8];
    const bf16 *padding;
};

/* Keys and values of 32 tokens, a lane's own being of `row` (-1: padding) for `slot`: neighbours bring
 * neighbouring 16 bytes. */
template <int dims>
static __device__ __forceinline__ void load_rows(window_room<dims> *room, const bf16 *padding,
                                                 const bf16 *qkv, const window_grid &g, int head, int row,
                                                 int slot)
{
    enum { pieces = dims / 8, at_once = warp_size / (2 * pieces) };
    const int lane = (int)threadIdx.x % warp_size, i = lane % pieces * 8, part = lane / pieces % 2;
    const unsigned row_bytes = (unsigned)(3 * g.heads * dims * (int)sizeof(bf16));
    const bf16 *own = qkv + ((part + 1) * g.heads + head) * dims + i;
    const uint4 instead = *(const uint4 *)(padding + part * dims + i);
#pragma unroll
    for (int k = 0; k < warp_size; k += at_once) {
        const int from = k + lane / (2 * pieces);
        const int its_row = __shfl_sync(whole_warp, row, from),
                  its_slot = __shfl_sync(whole_warp, slot, from);
        void *to = (void *)(part ? value_at(room, its_slot, i) : key_at(room, its_slot, i));
        if (its_row >= 0) {
            copy_async_of_row(to, row_at(own, its_row, row_bytes));
        } else {
            *(uint4 *)to = instead;
        }
    }
}

/* Begins to bring the window's keys and the list of its queries to a room; copy_async_wait ends it. */
template <int dims>
static __device__ __forceinline__ void load_window(window_room<dims> *room, const loading_warp &loader,
                                                   const bf16 *qkv, const window_grid &g,
                                                   const window_cut &cut, int head)
{
    const int lane = (int)threadIdx.x % warp_size, queries = cut.real[0] * cut.real[1] * cut.real[2];
    list_places(loader.places, g, cut);
    if (loader.warp == 0) {
        if (queries + lane < slots_most) { /* as many as may be met with the last queries */
            room->query_rows[queries + lane] = -1;
            room->query_bias[queries + lane] = (uint16_t)bias_of_query(0);
        }
        if (lane == 0) {
            room->queries = queries;
            room->mixed = cut.mixed;
        }
    }
    for (int first = loader.warp * warp_size; first < g.tokens; first += loader.warps * warp_size) {
        const int number = min(first + lane, g.tokens - 1), slot = key_slot(number);
        const int4 token = token_of_places(loader.places, g, number);
        room->key_regions[slot] = (uint8_t)token.z;
        if (token.x >= 0) {
            room->query_rows[token.y] = token.x;
            room->query_bias[token.y] = (uint16_t)bias_of_query(number);
            room->query_regions[token.y] = (uint8_t)token.z;
        }
        load_rows<dims>(room, loader.padding, qkv, g, head, token.x, slot);
    }
    copy_async_commit();
}

/* What no window changes: slots without a key. */
template <int dims> static __device__ __forceinline__ void clear_room(window_room<dims> *room)
{
    for (int k = (int)threadIdx.x; k < (int)(sizeof *room / sizeof(uint4)); k += (int)blockDim.x) {
        ((uint4 *)room)[k] = make_uint4(0, 0, 0, 0);
    }
}

#endif
