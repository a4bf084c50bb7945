/* Sums over space, per sample and channel, of arrays (n, space, channels), and what is then written to every
 * element: what norms over space are made of.
 *
 * A thread has `width` neighbouring channels of every rows-th row of a chunk of rows, so that a block reads
 * whole stretches of memory. It sums up to 128 elements in float; sums of threads, blocks and chunks are
 * added in double, in an order that depends on sizes alone. Where space is small one block has all rows of
 * some channels and one launch does it all.
 *
 * A Sum is a struct of the operation's arguments. It has
 *
 *     enum { width, sums, unroll, blocks }
 *     elements load(row, channel)
 *     void begin(state &, sample, channel, elements)
 *     void add(state &, elements)
 *     void total(double [sums][width], state)
 *     void finish(sample, channel, double [sums])
 *
 * for channels of a thread, sums of a channel, rows that are loaded at once, blocks that a multiprocessor has
 * registers for; what is read at one row of all n x space; a thread's start, which knows its first row, its
 * rows and its sums; and one channel's sums over all of space. A Result has width, unroll, blocks, load,
 * `steps`, how many rows a thread writes at most (few: then what all blocks are at lies close together in
 * memory, which is faster), and
 *
 *     void begin(state &, sample, channel)
 *     void write(state, row, channel, elements)
 *
 * which writes one row of what load has read. */
#ifndef COMPUTE_CUDA_CHANNEL_SUMS_CUH
#define COMPUTE_CUDA_CHANNEL_SUMS_CUH

#include "compute/cuda/vector.cuh"

/* Which threads have what. */
struct channel_layout {
    size_t space;
    int n, channels;
    int groups; /* of `width` channels, in a row */
    int tile;   /* groups of a block */
    int tiles;
    int rows;     /* that a block reads at a time; it has rows x tile threads */
    int half;     /* a power of two, rows / 2 or more */
    size_t chunk; /* rows of a block in all */
    int chunks;   /* of a sample */
};

enum { channel_block = 256 }; /* threads of a block, about */
enum {
    channel_whole_space = 4096, /* rows that one block can have all of, to sum them */
    channel_twice_space = 1024, /* and to read them twice */
    channel_sum_steps = 128,    /* rows that a thread sums at most: partial sums are few */
};

static inline void choose_rows(struct channel_layout *l, size_t most)
{
    l->tiles = (int)divide_up((size_t)l->groups, (size_t)l->tile);
    l->rows = (int)(most < l->space ? most : l->space);
    l->rows = l->rows > 0 ? l->rows : 1;
    l->half = 1;
    while (2 * l->half < l->rows) {
        l->half *= 2;
    }
}

/* Chunks of space, of `most_steps` rows a thread at most, and small enough that blocks fill the GPU several
 * times over. */
static inline struct channel_layout layout_in_chunks(const struct compute *c, int width, int n, size_t space,
                                                     int channels, size_t most_steps)
{
    struct channel_layout l = {};
    l.n = n;
    l.space = space;
    l.channels = channels;
    l.groups = channels / width;
    l.tile = l.groups < channel_block ? l.groups : (int)channel_block;
    choose_rows(&l, (size_t)(channel_block / l.tile));
    const size_t wanted = (size_t)cuda_state(c)->multiprocessors * 8;
    size_t steps = most_steps;
    while (steps > 4 && (size_t)n * l.tiles * divide_up(space, l.rows * steps) < wanted) {
        steps /= 2;
    }
    l.chunk = l.rows * steps;
    l.chunks = (int)divide_up(space, l.chunk);
    return l;
}

/* All of space in one block, which has few channels: 4 groups are 64 bytes. */
static inline struct channel_layout whole_layout(int width, int n, size_t space, int channels)
{
    struct channel_layout l = {};
    l.n = n;
    l.space = space;
    l.channels = channels;
    l.groups = channels / width;
    l.tile = space > 0 ? (int)(channel_block / space) : 1;
    l.tile = l.tile < 4 ? 4 : l.tile;
    l.tile = l.tile < l.groups ? l.tile : l.groups;
    choose_rows(&l, (size_t)(channel_block / l.tile));
    l.chunk = space;
    l.chunks = 1;
    return l;
}

static inline dim3 channel_grid(const struct channel_layout *l)
{
    return dim3((unsigned)l->chunks, (unsigned)l->tiles, (unsigned)l->n);
}

static inline dim3 channel_threads(const struct channel_layout *l)
{
    return dim3((unsigned)(l->rows * l->tile));
}

/* Bytes of the sums of `values` values a thread while they are added over a block. */
static inline size_t channel_shared(const struct channel_layout *l, int values)
{
    return (size_t)l->half * l->tile * values * sizeof(double);
}

static inline size_t channel_partials(const struct channel_layout *l, int sums)
{
    return cuda_aligned((size_t)sums * l->n * l->chunks * l->channels * sizeof(double));
}

/* Adds each of `values` values over the threads t, t + tile, t + 2 tile ... of a block of tile x rows
 * threads; the first `tile` threads get the sums. `half` is a power of two, at least rows / 2. Ends with
 * __syncthreads(). */
template <int values>
static __device__ void sum_over_rows(double value[values], int tile, int rows, int half, double *shared)
{
    const int row = (int)threadIdx.x / tile, stride = half * tile;
    for (; half > 0; half /= 2) {
        if (row >= half && row < rows) {
#pragma unroll
            for (int k = 0; k < values; k++) {
                shared[k * stride + (int)threadIdx.x - half * tile] = value[k];
            }
        }
        __syncthreads();
        if (row + half < rows) {
#pragma unroll
            for (int k = 0; k < values; k++) {
                value[k] += shared[k * stride + (int)threadIdx.x];
            }
        }
        __syncthreads();
        rows = half < rows ? half : rows;
    }
}

/* Where a thread is at work. */
struct channel_place {
    int sample, channel;
    int there;          /* 0: the thread has no channels */
    size_t first, last; /* its rows among all n x space; every l.rows-th is its own */
};

template <int width> static __device__ __forceinline__ channel_place place_of(const channel_layout &l)
{
    channel_place p;
    const int group = (int)(blockIdx.y * l.tile + threadIdx.x % l.tile);
    const size_t begin = blockIdx.x * l.chunk;
    const size_t end = begin + l.chunk < l.space ? begin + l.chunk : l.space;
    p.sample = (int)blockIdx.z;
    p.channel = group * width;
    p.there = group < l.groups;
    p.first = p.sample * l.space + begin + threadIdx.x / l.tile;
    p.last = p.sample * l.space + (p.there ? end : 0);
    return p;
}

/* The sums of a thread's own rows. */
template <typename Sum>
static __device__ __forceinline__ void sum_own_rows(double total[Sum::sums][Sum::width], const Sum &sum,
                                                    const channel_layout &l, const channel_place &p)
{
    typename Sum::state state;
    typename Sum::elements loaded[Sum::unroll];
    size_t row = p.first;
#pragma unroll
    for (int s = 0; s < Sum::sums; s++) {
#pragma unroll
        for (int k = 0; k < Sum::width; k++) {
            total[s][k] = 0;
        }
    }
    if (row >= p.last) {
        return;
    }
    sum.begin(state, p.sample, p.channel, sum.load(row, p.channel));
    for (; row + (Sum::unroll - 1) * l.rows < p.last; row += Sum::unroll * l.rows) {
#pragma unroll
        for (int u = 0; u < Sum::unroll; u++) {
            loaded[u] = sum.load(row + u * l.rows, p.channel);
        }
#pragma unroll
        for (int u = 0; u < Sum::unroll; u++) {
            sum.add(state, loaded[u]);
        }
    }
    for (; row < p.last; row += l.rows) {
        sum.add(state, sum.load(row, p.channel));
    }
    sum.total(total, state);
}

template <typename Result>
static __device__ __forceinline__ void write_own_rows(const Result &result, const channel_layout &l,
                                                      const channel_place &p)
{
    typename Result::state state;
    typename Result::elements loaded[Result::unroll];
    size_t row = p.first;
    if (row >= p.last) {
        return;
    }
    result.begin(state, p.sample, p.channel);
    for (; row + (Result::unroll - 1) * l.rows < p.last; row += Result::unroll * l.rows) {
#pragma unroll
        for (int u = 0; u < Result::unroll; u++) {
            loaded[u] = result.load(row + u * l.rows, p.channel);
        }
#pragma unroll
        for (int u = 0; u < Result::unroll; u++) {
            result.write(state, row + u * l.rows, p.channel, loaded[u]);
        }
    }
    for (; row < p.last; row += l.rows) {
        result.write(state, row, p.channel, result.load(row, p.channel));
    }
}

/* Where the sum s of one chunk is: partials (sums, n, chunks, channels). */
static __device__ __forceinline__ size_t partial_of(const channel_layout &l, int s, int sample, int chunk,
                                                    int channel)
{
    return (((size_t)s * l.n + sample) * l.chunks + chunk) * l.channels + channel;
}

template <typename Sum>
static __global__ void __launch_bounds__(channel_block, Sum::blocks)
    sum_chunks(Sum sum, channel_layout l, double *partials)
{
    dynamic_shared(double, shared);
    const channel_place p = place_of<Sum::width>(l);
    double total[Sum::sums][Sum::width];
    sum_own_rows(total, sum, l, p);
#pragma unroll
    for (int s = 0; s < Sum::sums; s++) {
        sum_over_rows<Sum::width>(total[s], l.tile, l.rows, l.half, shared);
        if ((int)threadIdx.x < l.tile && p.there) {
#pragma unroll
            for (int k = 0; k < Sum::width; k++) {
                partials[partial_of(l, s, p.sample, (int)blockIdx.x, p.channel + k)] = total[s][k];
            }
        }
    }
}

enum { finish_lanes = 32 }; /* warps that share the chunks of 32 channels */

/* Adds the chunks' sums: a block has 32 channels of one sample. */
template <typename Sum>
static __global__ void __launch_bounds__(finish_lanes *warp_size)
    finish_chunks(Sum sum, channel_layout l, const double *partials)
{
    __shared__ double shared[Sum::sums][finish_lanes][warp_size];
    const int lane = (int)threadIdx.x % warp_size, part = (int)threadIdx.x / warp_size;
    const int channel = (int)blockIdx.x * warp_size + lane, sample = (int)blockIdx.y;
    for (int s = 0; s < Sum::sums; s++) {
        const int chunks = channel < l.channels ? l.chunks : 0;
        double total = 0;
#pragma unroll 8
        for (int chunk = part; chunk < chunks; chunk += finish_lanes) {
            total += partials[partial_of(l, s, sample, chunk, channel)];
        }
        shared[s][part][lane] = total;
    }
    __syncthreads();
    if (part == 0 && channel < l.channels) {
        double totals[Sum::sums];
        for (int s = 0; s < Sum::sums; s++) {
            totals[s] = 0;
            for (int k = 0; k < finish_lanes; k++) {
                totals[s] += shared[s][k][lane];
            }
        }
        sum.finish(sample, channel, totals);
    }
}

template <typename Result>
static __global__ void __launch_bounds__(channel_block, Result::blocks)
    write_chunks(Result result, channel_layout l)
{
    write_own_rows(result, l, place_of<Result::width>(l));
}

/* The channels that this block has all rows of, from the first of its threads. */
template <typename Sum>
static __device__ __forceinline__ void sum_whole_space(const Sum &sum, const channel_layout &l,
                                                       const channel_place &p, double *shared)
{
    double total[Sum::sums][Sum::width];
    sum_own_rows(total, sum, l, p);
#pragma unroll
    for (int s = 0; s < Sum::sums; s++) {
        sum_over_rows<Sum::width>(total[s], l.tile, l.rows, l.half, shared);
    }
    if ((int)threadIdx.x < l.tile && p.there) {
#pragma unroll
        for (int k = 0; k < Sum::width; k++) {
            double totals[Sum::sums];
#pragma unroll
            for (int s = 0; s < Sum::sums; s++) {
                totals[s] = total[s][k];
            }
            sum.finish(p.sample, p.channel + k, totals);
        }
    }
}

template <typename Sum>
static __global__ void __launch_bounds__(channel_block, 2) sum_at_once(Sum sum, channel_layout l)
{
    dynamic_shared(double, shared);
    sum_whole_space(sum, l, place_of<Sum::width>(l), shared);
}

/* What finish has written is in global memory, where the same block reads it. */
template <typename Sum, typename Result>
static __global__ void __launch_bounds__(channel_block, 2)
    sum_and_write_at_once(Sum sum, Result result, channel_layout l)
{
    dynamic_shared(double, shared);
    const channel_place p = place_of<Sum::width>(l);
    sum_whole_space(sum, l, p, shared);
    __syncthreads();
    write_own_rows(result, l, p);
}

/* ---- the host's side ---- */

/* Bytes of scratch memory that channel_sums and channel_sums_and_result need for `sums` sums. */
static inline size_t channel_sums_scratch(const struct compute *c, int width, int sums, int n, size_t space,
                                          int channels)
{
    if (space <= channel_twice_space) {
        return 0;
    }
    const struct channel_layout l = layout_in_chunks(c, width, n, space, channels, channel_sum_steps);
    return channel_partials(&l, sums);
}

template <typename Sum>
static void launch_finish(struct compute *c, const Sum &sum, const struct channel_layout *l,
                          const double *partials)
{
    launch(c, finish_chunks<Sum>, dim3((unsigned)divide_up((size_t)l->channels, warp_size), (unsigned)l->n),
           dim3(finish_lanes * warp_size), 0, sum, *l, partials);
}

/* Sums over all of space, and finish; partials: scratch memory of channel_sums_scratch bytes. */
template <typename Sum>
static void channel_sums(struct compute *c, const Sum &sum, double *partials, int n, size_t space,
                         int channels)
{
    if (space <= channel_whole_space) {
        const struct channel_layout l = whole_layout(Sum::width, n, space, channels);
        launch(c, sum_at_once<Sum>, channel_grid(&l), channel_threads(&l), channel_shared(&l, Sum::width),
               sum, l);
        return;
    }
    const struct channel_layout l = layout_in_chunks(c, Sum::width, n, space, channels, channel_sum_steps);
    launch(c, sum_chunks<Sum>, channel_grid(&l), channel_threads(&l), channel_shared(&l, Sum::width), sum, l,
           partials);
    launch_finish(c, sum, &l, partials);
}

template <typename Result>
static void channel_result(struct compute *c, const Result &result, int n, size_t space, int channels)
{
    const struct channel_layout l = layout_in_chunks(c, Result::width, n, space, channels, Result::steps);
    launch(c, write_chunks<Result>, channel_grid(&l), channel_threads(&l), 0, result, l);
}

/* Both, the result with what finish wrote. */
template <typename Sum, typename Result>
static void channel_sums_and_result(struct compute *c, const Sum &sum, const Result &result, double *partials,
                                    int n, size_t space, int channels)
{
    if (space <= channel_twice_space) {
        const struct channel_layout l = whole_layout(Sum::width, n, space, channels);
        launch(c, sum_and_write_at_once<Sum, Result>, channel_grid(&l), channel_threads(&l),
               channel_shared(&l, Sum::width), sum, result, l);
        return;
    }
    channel_sums(c, sum, partials, n, space, channels);
    channel_result(c, result, n, space, channels);
}

#endif
