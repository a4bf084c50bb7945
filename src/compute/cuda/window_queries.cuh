/* Attention's gradient on tensor cores: a window's queries, the planes in which they pass, and what the two
 * kinds of a block's warps wait for. */
#ifndef COMPUTE_CUDA_WINDOW_QUERIES_CUH
#define COMPUTE_CUDA_WINDOW_QUERIES_CUH

#include "compute/cuda/named_barrier.cuh"
#include "compute/cuda/window_bias.cuh"

enum {
    slots = 352, /* queries of a window, to whole tiles */
    plane_queries = side * side,
    strip_rows = 112, /* two planes of queries, to whole tiles */
    no_token = -1,    /* padding, or no key at all */
};

/* Of two neighbours among the queries: -(dout . out) as the sums of products have it, and -logsumexp for
 * powers of two. */
struct query_pair {
    float delta[4], shift[2], unused[2];
};

/* The queries of a window: planes of rows, all of the same length. */
struct query_list {
    int count;
    int row_length, plane_length; /* in queries */
    unsigned in_d, in_w;          /* bit k: that place of the axis is among them */
    uint32_t h_ranks;             /* 4 bits for each place: which of a plane's rows it is, 15 for none */
};

static __device__ __forceinline__ unsigned bits_below(int n)
{
    return (1u << n) - 1;
}

/* The places of an axis that are not padding (real_before). */
static __device__ __forceinline__ unsigned real_places(const window_grid &g, const window_cut &cut, int axis)
{
    const int first = cut.corner[axis] + g.shift[axis], n = g.window[axis];
    const int until = min(max(g.extent[axis] - first, 0), n), rolled = min(max(g.end[axis] - first, 0), n);
    return bits_below(until) | (bits_below(n) & ~bits_below(rolled));
}

/* The real tokens. Where numbers are not places (a window smaller than 7^3 along h or w), all tokens in their
 * order, of which padding has no gradient to give. */
static __device__ __forceinline__ query_list queries_of(const window_grid &g, const window_cut &cut)
{
    const unsigned all = bits_below(side);
    query_list list = {g.tokens, side, plane_queries, all, all, 0};
    unsigned in_h = all;
    if (g.window[1] == side && g.window[2] == side) {
        list.row_length = cut.real[2];
        list.plane_length = cut.real[1] * cut.real[2];
        list.count = cut.real[0] * list.plane_length;
        list.in_d = real_places(g, cut, 0);
        list.in_w = real_places(g, cut, 2);
        in_h = real_places(g, cut, 1);
    }
#pragma unroll
    for (int h = 0; h < 8; h++) {
        const unsigned rank = in_h >> h & 1 ? (unsigned)__popc(in_h & bits_below(h)) : 15;
        list.h_ranks |= rank << 4 * h;
    }
    return list;
}

/* The row of the strip for the first of a tile of queries. */
static __device__ __forceinline__ int strip_row_of_tile(int tile)
{
    return tile % (strip_rows / 16) * 16;
}

static __device__ __forceinline__ void store_eight(bf16 *to, const uint4 &eight)
{
    *(uint4 *)to = eight;
}

static __device__ __forceinline__ float dot_of_pairs(uint32_t a, uint32_t b)
{
    return low_of(a) * low_of(b) + high_of(a) * high_of(b);
}

static __device__ __forceinline__ float dot_of_eight(const uint4 &a, const uint4 &b)
{
    return dot_of_pairs(a.x, b.x) + dot_of_pairs(a.y, b.y) + dot_of_pairs(a.z, b.z) + dot_of_pairs(a.w, b.w);
}

/* What the two kinds of warps wait for (named_barrier.cuh). */
enum { strip_is_full = 1, strip_is_empty = 3 };

/* How a window's queries pass: as many planes at a time as have no more than 49 queries. */
struct plane_walk {
    int planes, at_once, turns;
};

static __device__ __forceinline__ plane_walk walk_of(const query_list &list)
{
    plane_walk walk;
    walk.planes = (list.count + list.plane_length - 1) / list.plane_length;
    walk.at_once = plane_queries / list.plane_length;
    walk.turns = (walk.planes + walk.at_once - 1) / walk.at_once;
    return walk;
}

/* How many tiles of queries have met the keys before a turn. */
static __device__ __forceinline__ int tiles_before(const query_list &list, const plane_walk &walk, int turn)
{
    return (min(turn * walk.at_once * list.plane_length, list.count) + 15) / 16;
}

#endif
