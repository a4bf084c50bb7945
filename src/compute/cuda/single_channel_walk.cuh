/* 3^3 convolutions of one channel in bf16 on tensor cores: how a block goes through the volume.
 *
 * A block has a column of voxels, 8 lines (h) of up to 64 (w), one line for each warp, and 48 channels of
 * what the channel is convolved to. It walks along d, with the planes of the channel that its voxels read in
 * a ring in shared memory: while it works on plane p, which reads p - 1 to p + 1, plane p + 2 is fetched. */
#ifndef COMPUTE_CUDA_SINGLE_CHANNEL_WALK_CUH
#define COMPUTE_CUDA_SINGLE_CHANNEL_WALK_CUH

#include "compute/cuda/tensor_core.cuh"

enum {
    walk_warps = 8, /* = lines of a tile */
    walk_threads = walk_warps * warp_size,
    tile_width = 64,
    channels_here = 48,
    column_tiles = channels_here / 8,
    taps = 27,
    lines_read = walk_warps + 2,
    columns_read = tile_width + 2,
    line_pitch = 80, /* so that what 8 taps read lies in different banks */
    plane_pitch = lines_read * line_pitch + 16,
    ring_planes = 4,
    ring_size = ring_planes * plane_pitch,
    fetches = (lines_read * columns_read + walk_threads - 1) / walk_threads, /* of a thread, for each plane */
    step = 16,                                                               /* voxels of one product */
};

struct channel_walk {
    int d, h, w, channels; /* stride 1: the input's are the output's */
    int tiles_h, tiles_w, segments, planes_per_segment;
};

/* Blocks of a sample. */
static HOST_DEVICE __forceinline__ int parts_of(const channel_walk &g)
{
    return g.tiles_h * g.tiles_w * g.segments;
}

/* The column of this block. */
struct column {
    int sample, part, h0, w0;
    int first, last; /* its planes */
    int width;       /* its voxels of this warp's line */

    __device__ __forceinline__ column(const channel_walk &g)
    {
        part = (int)blockIdx.x % parts_of(g);
        sample = (int)blockIdx.x / parts_of(g);
        w0 = part % g.tiles_w * tile_width;
        h0 = part / g.tiles_w % g.tiles_h * walk_warps;
        first = part / g.tiles_w / g.tiles_h * g.planes_per_segment;
        last = min(first + g.planes_per_segment, g.d);
        width = line() < g.h ? min(g.w - w0, (int)tile_width) : 0;
    }

    /* The warp's line of the volume. */
    __device__ __forceinline__ int line() const
    {
        return h0 + (int)threadIdx.x / warp_size;
    }

    /* The first voxel of the warp's line in plane p. */
    __device__ __forceinline__ size_t voxel(const channel_walk &g, int p) const
    {
        return (((size_t)sample * g.d + p) * g.h + line()) * g.w + w0;
    }
};

/* This thread's share of the planes that a column reads, on its way to the ring. */
struct plane_fetch {
    const bf16 *volume; /* the sample's */
    int from[fetches];  /* in a plane of the volume; negative: outside */
    int to[fetches];    /* in a plane of the ring; negative: no share */
    uint16_t value[fetches];

    __device__ __forceinline__ plane_fetch(const bf16 *x, const column &at, const channel_walk &g)
    {
        volume = x + (size_t)at.sample * g.d * g.h * g.w;
        for (int k = 0; k < fetches; k++) {
            const int place = (int)threadIdx.x + k * walk_threads;
            const int line = place / columns_read, column = place % columns_read;
            const int h = at.h0 + line - 1, w = at.w0 + column - 1;
            from[k] = (unsigned)h < (unsigned)g.h && (unsigned)w < (unsigned)g.w ? h * g.w + w : -1;
            to[k] = line < lines_read ? line * line_pitch + column : -1;
        }
    }

    /* Begins to read plane p, zeros outside. */
    __device__ __forceinline__ void begin(int p, const channel_walk &g)
    {
        const bf16 *plane = volume + (size_t)(unsigned)p * g.h * g.w;
#pragma unroll
        for (int k = 0; k < fetches; k++) {
            value[k] = (unsigned)p < (unsigned)g.d && from[k] >= 0 ? plane[from[k]].bits : (uint16_t)0;
        }
    }

    /* To the ring, and to another one `again` elements behind, where all is one element earlier, so that
     * any two neighbours lie in one word of either; 0: there is none. */
    template <int again = 0> __device__ __forceinline__ void put(uint16_t *ring, int p) const
    {
        uint16_t *plane = ring + (p + 1) % ring_planes * plane_pitch;
#pragma unroll
        for (int k = 0; k < fetches; k++) {
            if (to[k] >= 0) {
                plane[to[k]] = value[k];
                if (again > 0 && to[k] > 0) {
                    plane[again + to[k] - 1] = value[k];
                }
            }
        }
    }
};

/* The planes that the column's first one reads. */
template <int again = 0>
static __device__ __forceinline__ void fill_ring(uint16_t *ring, const plane_fetch &fetch, int first,
                                                 const channel_walk &g)
{
    plane_fetch before = fetch, at = fetch, behind = fetch;
    before.begin(first - 1, g);
    at.begin(first, g);
    behind.begin(first + 1, g);
    before.put<again>(ring, first - 1);
    at.put<again>(ring, first);
    behind.put<again>(ring, first + 1);
}

/* Where a tap reads in the ring, from the line and column of its voxel on. */
struct tap_place {
    int area, kd;

    __device__ __forceinline__ tap_place(int tap)
    {
        area = tap / 3 % 3 * line_pitch + tap % 3;
        kd = tap / 9;
    }

    __device__ __forceinline__ int at_plane(int p) const
    {
        return (p + kd) % ring_planes * plane_pitch + area;
    }
};

static __device__ __forceinline__ uint32_t pair_of(const uint16_t *low, const uint16_t *high)
{
    return (uint32_t)*low | (uint32_t)*high << 16;
}

/* The walk of a convolution; blocks: (n x parts_of, channels / channels_here). Into how many segments to cut
 * the columns: what makes the longest queue of a multiprocessor, which has two blocks, shortest. */
static inline channel_walk plan_channel_walk(const struct compute *c, const struct conv3d_shape *s)
{
    channel_walk g = {};
    size_t best_cost = (size_t)-1;
    g.d = s->d, g.h = s->h, g.w = s->w;
    g.channels = s->out_channels;
    g.tiles_h = (int)divide_up((size_t)g.h, walk_warps);
    g.tiles_w = (int)divide_up((size_t)g.w, tile_width);
    const size_t columns = (size_t)s->n * g.tiles_h * g.tiles_w * (size_t)(g.channels / channels_here);
    for (int planes = 1; planes <= g.d; planes++) {
        const size_t segments = divide_up((size_t)g.d, (size_t)planes);
        const size_t rounds = divide_up(columns * segments, 2 * (size_t)cuda_state(c)->multiprocessors);
        const size_t cost = rounds * (size_t)(planes + 2); /* beginning a column is worth two planes */
        if (cost <= best_cost) {
            best_cost = cost;
            g.segments = (int)segments;
            g.planes_per_segment = planes;
        }
    }
    return g;
}

static inline dim3 channel_walk_grid(const channel_walk &g, int n)
{
    return dim3((unsigned)(n * parts_of(g)), (unsigned)(g.channels / channels_here));
}

#endif
