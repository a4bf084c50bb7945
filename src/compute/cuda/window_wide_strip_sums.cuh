/* Attention's gradient on tensor cores for heads of 32 and 64 channels (window_attention_backward_wide.cu):
 * what is summed over the keys of a pass, from the strip that has the scores' gradient. */
#ifndef COMPUTE_CUDA_WINDOW_WIDE_STRIP_SUMS_CUH
#define COMPUTE_CUDA_WINDOW_WIDE_STRIP_SUMS_CUH

#include "compute/cuda/window_gradient_wide.cuh"
#include "compute/cuda/window_table_sums.cuh"

/* What both kinds of warps know of a pass. */
struct pass_shape {
    int number, last; /* of the window's passes */
    int planes;       /* of keys; a part of one counts */
    int warps;        /* that have keys; they fill the strip to whole planes and more */
};

template <int dims> static __device__ __forceinline__ pass_shape pass_of(const window_grid &g, int number)
{
    const int planes = (rows_of_keys(g) + side - 1) / side, of_warp = key_pass<dims>::tiles * 16;
    pass_shape pass;
    pass.number = number;
    pass.last = number * key_pass<dims>::planes + key_pass<dims>::planes >= planes;
    pass.planes = min(planes - number * key_pass<dims>::planes, (int)key_pass<dims>::planes);
    pass.warps = (pass.planes * side * row_slots + of_warp - 1) / of_warp;
    return pass;
}

/* Adds to the sums of a tile of queries what a warp's keys have for them. Each tile of keys has a sum of its
 * own, so that products wait less for each other. */
template <int dims>
static __device__ __forceinline__ void add_keys(float sum[][dims / 8][4], const bf16 *ds_from,
                                                const bf16 *keys_from, int column, int warp)
{
    enum { tiles = key_pass<dims>::tiles };
#pragma unroll
    for (int m = 0; m < tiles; m++) {
        const int tile = warp * tiles + m;
        uint32_t ds[4];
        load_matrices(ds, ds_from + tile * 16);
#pragma unroll
        for (int n = 0; n < dims / 8; n += 2) {
            uint32_t keys[4];
            load_matrices_transposed(keys, keys_from + tile * 16 * dims + (column ^ n * 8));
            multiply_add_bf16(sum[m][n], ds, keys);
            multiply_add_bf16(sum[m][n + 1], ds, keys + 2);
        }
    }
}

/* dq of a tile of queries, whose scores' gradient is in the strip. The lanes that go on with a sum of an
 * earlier pass are those that left it. */
template <int dims>
static __device__ __forceinline__ void query_gradient(const wide_shared<dims> *s,
                                                      const token_list<dims> *tokens, const head_arrays &a,
                                                      const window_grid &g, const pass_shape &pass, int tile)
{
    enum { eights = dims / 8, apart = key_pass<dims>::tiles };
    const int lane = (int)threadIdx.x % warp_size, column = eight_of_row<dims>(lane % 16, lane / 16);
    const bf16 *keys_from = s->keys[pass.number % 2][lane % 16];
    const bf16 *ds_from = &s->strip[strip_row_of_tile(tile) + lane % 16][lane / 16 * 8];
    float4 *earlier = a.dq_sums + (size_t)tile * eights * warp_size + lane;
    float sum[apart][eights][4] = {};
    float4 before[eights];
#pragma unroll
    for (int n = 0; n < eights; n++) {
        before[n] = pass.number > 0 ? earlier[n * warp_size] : make_float4(0, 0, 0, 0);
    }
    if (pass.warps == key_warps) {
#pragma unroll
        for (int warp = 0; warp < key_warps; warp++) {
            add_keys<dims>(sum, ds_from, keys_from, column, warp);
        }
    } else {
#pragma unroll 2
        for (int warp = 0; warp < pass.warps; warp++) {
            add_keys<dims>(sum, ds_from, keys_from, column, warp);
        }
    }
#pragma unroll
    for (int n = 0; n < eights; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
#pragma unroll
            for (int m = 1; m < apart; m++) {
                sum[0][n][e] += sum[m][n][e];
            }
        }
        sum[0][n][0] += before[n].x;
        sum[0][n][1] += before[n].y;
        sum[0][n][2] += before[n].z;
        sum[0][n][3] += before[n].w;
        if (!pass.last) {
            earlier[n * warp_size] = make_float4(sum[0][n][0], sum[0][n][1], sum[0][n][2], sum[0][n][3]);
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = tokens->query_rows[tile * 16 + half * 8 + lane / 4];
        if (row >= 0 && pass.last) {
            bf16 *to = a.dqkv + ((size_t)row * 3 * g.heads + a.head) * dims + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < eights; n++) {
                const float *dq = sum[0][n] + half * 2;
                *(uint32_t *)(to + n * 8) = pack_pair(dq[0] * g.scale, dq[1] * g.scale);
            }
        }
    }
}

/* Adds what a plane of queries, of place d, has with a plane of keys, the pass's key_plane-th, to the table's
 * sums of their difference in d. */
template <int dims>
static __device__ __forceinline__ void add_planes(wide_shared<dims> *s, const plane_rows &in_strip, int d,
                                                  const pass_shape &pass, int key_plane)
{
    const char *strip = (const char *)s->strip, *zeros = (const char *)s->strip[strip_rows];
    const int apart = d - pass.number * key_pass<dims>::planes - key_plane;
    float4(*sums)[warp_size] = s->table_sums[apart + side - 1];
    table_tiles tiles[1];
    load_tiles(&tiles[0], sums);
    add_to_table<1>(tiles, strip, zeros, in_strip, &key_plane);
    store_tiles(sums, &tiles[0]);
}

/* The sums of a pass that are a warp's own. Tiles of queries go to the first warps and planes of keys to the
 * last ones. Where a turn has several planes of queries, two of which have keys at the same difference in d,
 * planes of keys go by that difference instead: no two warps add to the same sum of the table in a turn. */
template <int dims>
static __device__ __forceinline__ void
sum_pass(wide_shared<dims> *s, const token_list<dims> *tokens, const head_arrays &a, const window_grid &g,
         const query_list &list, const plane_rows &rows, const pass_shape &pass)
{
    const int number = (int)threadIdx.x / warp_size - key_warps,
              first_plane = pass.number * key_pass<dims>::planes;
    const plane_walk walk = walk_of(list);
    unsigned planes_left = list.in_d;
    for (int turn = 0; turn < walk.turns; turn++) {
        const int begin = tiles_before(list, walk, turn), end = tiles_before(list, walk, turn + 1);
        const int idle = max(sum_warps - (end - begin), 2);
        wait_at<block_threads>(strip_is_full, turn);
        for (int tile = begin + number; tile < end; tile += sum_warps) {
            query_gradient<dims>(s, tokens, a, g, pass, tile);
        }
        for (int plane = turn * walk.at_once; plane < min((turn + 1) * walk.at_once, walk.planes); plane++) {
            const int d = __ffs((int)planes_left) - 1;
            const plane_rows in_strip =
                rows_in_strip<key_pass<dims>::strip_row>(rows, list, plane * list.plane_length);
            int last = sum_warps - 1;
            planes_left &= planes_left - 1;
#pragma unroll 1
            for (int k = 0; k < pass.planes; k++) {
                const int warp = walk.at_once > 1 ? (d - first_plane - k + side) % side % sum_warps : last;
                last = last > sum_warps - idle ? last - 1 : sum_warps - 1;
                if (warp == number) {
                    add_planes<dims>(s, in_strip, d, pass, k);
                }
            }
        }
        if (turn + 2 < walk.turns) {
            arrive<block_threads>(strip_is_empty, turn);
        }
    }
}

#endif
