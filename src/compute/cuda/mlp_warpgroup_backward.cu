/* The gradient of mlp.cuh's MLP on Hopper.
 *
 * A block streams tiles of 64 rows past the weights. Three of its four warpgroups have 64 of the hidden
 * features each, the features as rows of their products: what a tile leaves in their registers, a value and a
 * gradient of each feature and row, is there as the left factor of the products with dout and xhat that the
 * weights' gradients are sums of, which stay in registers to the end. Only the hidden layer's gradient goes
 * through shared memory, to the fourth warpgroup, which multiplies it by weight1 and takes it through the
 * norm to dx. It also loads and normalises tiles ahead. */
#include "compute/cuda/gelu.cuh"
#include "compute/cuda/mlp.cuh"
#include "compute/cuda/named_barrier.cuh"
#include "compute/cuda/normed_octets.cuh"
#include "compute/cuda/warpgroup.cuh"

enum {
    group_threads = 128,
    hidden_groups = 3,
    block_threads = (hidden_groups + 1) * group_threads,
    group_hidden = mlp_hidden / hidden_groups,
    hidden_registers = 144, /* of a thread: 3 * 144 + 80 = 4 * 128 */
    tail_registers = 80,
    stages = 4,              /* of x and dout: products taken, multiplied, normalised, loaded */
    ones = octets,           /* the octet behind xhat's: what biases are multiplied by and summed with */
    first_dout = octets + 1, /* dout's octets follow */
    stage_octets = first_dout + octets,
    weight_pitch = mlp_hidden * 8,
    weight_octets = octets + 2, /* of a row of weight1: two of them behind, the bias and zeros */
};

/* In elements of bf16, [octet of channels][row], weights too; dhidden [octet of features][row]. */
struct warpgroup_shared {
    bf16 weight1[weight_octets * weight_pitch];
    bf16 weight2[octets * weight_pitch]; /* right behind */
    bf16 dhidden[2][mlp_hidden * normed_tile];
    bf16 stage[stages][stage_octets * octet_pitch];
    float rstd[stages][normed_tile];
    float bias2[group_threads / warp_size][normed_channels];
};

/* ---- what the hidden layer and the tail wait for (named_barrier.cuh) ---- */

enum { hidden_is_there = 1, first_to_go = 3 }; /* to go: two for each group */

/* The tail: `tile` is normalised, and dhidden of the tile two before it is read. */
static __device__ __forceinline__ void let_go(int tile)
{
#pragma unroll
    for (int group = 0; group < hidden_groups; group++) {
        arrive<2 * group_threads>(first_to_go + 2 * group, tile);
    }
}

static __device__ __forceinline__ void wait_to_go(int tile, int group)
{
    wait_at<2 * group_threads>(first_to_go + 2 * group, tile);
}

/* A group: dhidden of `tile` is written, and no product of the tile before is under way. */
static __device__ __forceinline__ void hand_on(int tile)
{
    arrive<block_threads>(hidden_is_there, tile);
}

static __device__ __forceinline__ void wait_for_hidden(int tile)
{
    wait_at<block_threads>(hidden_is_there, tile);
}

/* ---- at the start ---- */

/* Weights, biases, ones. */
static __device__ __forceinline__ void fill_shared(warpgroup_shared *s, const struct mlp_factors &factors)
{
    for (int k = (int)threadIdx.x; k < mlp_hidden * octets; k += block_threads) {
        const int row = k / octets, octet = k % octets;
        *reinterpret_cast<uint4 *>(s->weight1 + octet * weight_pitch + row * 8) =
            *reinterpret_cast<const uint4 *>(factors.weight1 + row * normed_channels + octet * 8);
    }
    for (int k = (int)threadIdx.x; k < mlp_weights; k += block_threads) {
        const int channel = k / mlp_hidden, row = k % mlp_hidden;
        s->weight2[channel / 8 * weight_pitch + row * 8 + channel % 8] = factors.weight2[k];
    }
    for (int row = (int)threadIdx.x; row < mlp_hidden; row += block_threads) {
        bf16 *bias = s->weight1 + ones * weight_pitch + row * 8;
        *reinterpret_cast<uint4 *>(bias) = make_uint4(in_two_parts(factors.bias1[row]), 0, 0, 0);
        *reinterpret_cast<uint4 *>(bias + weight_pitch) = make_uint4(0, 0, 0, 0);
    }
    for (int k = (int)threadIdx.x; k < stages * normed_tile; k += block_threads) {
        *reinterpret_cast<uint4 *>(s->stage[k / normed_tile] + ones * octet_pitch + k % normed_tile * 8) =
            make_uint4(0x3f803f80u, 0, 0, 0);
    }
}

/* ---- the hidden layer ---- */

/* Sixteen rows' values, as a left factor, and GELU's slopes. */
static __device__ __forceinline__ void activate(uint32_t (&value)[4], float (&slope)[8], const float *wide)
{
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const gelu_pair low = gelu_and_derivative<bf16>(wide[2 * r]);
        const gelu_pair high = gelu_and_derivative<bf16>(wide[2 * r + 1]);
        value[r] = pack_bf16(low.value, high.value);
        slope[2 * r] = low.derivative;
        slope[2 * r + 1] = high.derivative;
    }
}

static __device__ __forceinline__ void through_slopes(uint32_t (&gradient)[4], const float (&slope)[8],
                                                      const float *dwide)
{
#pragma unroll
    for (int r = 0; r < 4; r++) {
        gradient[r] = pack_bf16(dwide[2 * r] * slope[2 * r], dwide[2 * r + 1] * slope[2 * r + 1]);
    }
}

static __device__ __forceinline__ void store_sums(float *partial, const float (&sum1)[28],
                                                  const float (&sum2)[24], int feature, int t)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = feature + 8 * half;
#pragma unroll
        for (int j = 0; j < octets; j++) {
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const int channel = 8 * j + 2 * t + k, e = 4 * j + 2 * half + k;
                partial[mlp_sum_weight1 + row * normed_channels + channel] = sum1[e];
                partial[mlp_sum_weight2 + channel * mlp_hidden + row] = sum2[e];
            }
        }
        if (t == 0) {
            partial[mlp_sum_bias1 + row] = sum1[4 * ones + 2 * half];
        }
    }
}

static __device__ __forceinline__ void pass_hidden(warpgroup_shared *s, float *partial, const tile_walk &walk,
                                                   int group)
{
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x % group_threads / warp_size;
    const int feature = group * group_hidden + 16 * warp;
    const uint64_t first_weights =
        operand_at(shared_address(s->weight1 + group * group_hidden * 8), 128, 2 * weight_pitch);
    bf16 *const own =
        s->dhidden[0] + (feature / 8 + lane / 8 % 2) * normed_tile * 8 + (lane / 16 * 8 + lane % 8) * 8;
    float sum1[28] = {}, sum2[24] = {}; /* of dhidden^T [xhat, 1] and of value^T dout */
    uint32_t value[4][4] = {}, gradient[4][4] = {};
#pragma unroll 1
    for (int tile = 0; tile < walk.tiles; tile++) {
        const uint64_t weight1 = not_ahead(first_weights);
        const uint64_t weight2 = weight1 + operand_shift(2 * weight_octets * weight_pitch);
        const uint32_t stage = shared_address(s->stage[tile % stages]);
        const uint64_t xhat = operand_at(stage, 128, 2 * octet_pitch);
        const uint64_t dout = xhat + operand_shift(2 * first_dout * octet_pitch);
        const uint64_t xhat_across = operand_at(stage, 2 * octet_pitch, 128);
        const uint64_t dout_across = xhat_across + operand_shift(2 * first_dout * octet_pitch);
        bf16 *const to = own + tile % 2 * mlp_hidden * normed_tile;
        float wide[32], dwide[32];
        wait_for_warpgroup_products<0>();
#pragma unroll
        for (int k = 0; k < 4; k++) {
            keep_until_here(value[k]);
            keep_until_here(gradient[k]);
        }
        if (tile > 0) { /* late: what was stored has had time */
            show_to_warpgroup_products();
            hand_on(tile - 1);
        }
        wait_to_go(tile, group);
        begin_warpgroup_products();
#pragma unroll
        for (int k = 0; k < weight_octets; k += 2) {
            warpgroup_multiply(wide, weight1 + operand_shift(2 * k * weight_pitch),
                               xhat + operand_shift(2 * k * octet_pitch), k > 0);
        }
        commit_warpgroup_products();
#pragma unroll
        for (int k = 0; k < octets; k += 2) {
            warpgroup_multiply(dwide, weight2 + operand_shift(2 * k * weight_pitch),
                               dout + operand_shift(2 * k * octet_pitch), k > 0);
        }
        commit_warpgroup_products();
        wait_for_warpgroup_products<1>(wide);
#pragma unroll
        for (int k = 0; k < normed_tile / 16; k++) {
            float slope[8];
            activate(value[k], slope, wide + 8 * k);
            if (k == 0) {
                wait_for_warpgroup_products<0>(dwide);
            }
            through_slopes(gradient[k], slope, dwide + 8 * k);
            store_matrices_transposed(to + 16 * k * 8, gradient[k]);
            begin_warpgroup_products();
            warpgroup_multiply_transposed(sum2, value[k], dout_across + operand_shift(2 * k * 128));
            warpgroup_multiply_transposed(sum1, gradient[k], xhat_across + operand_shift(2 * k * 128));
            commit_warpgroup_products();
            end_of_stretch(walk.tiles + k);
        }
    }
    show_to_warpgroup_products();
    hand_on(walk.tiles - 1);
    wait_for_warpgroup_products<0>(sum1);
    wait_for_warpgroup_products<0>(sum2);
    store_sums(partial, sum1, sum2, feature + lane / 4, lane % 4);
}

/* ---- the tail ---- */

/* Over the lanes of a quad's place, to the warp's own line. */
static __device__ __forceinline__ void store_bias_sums(float *to, const float (&sum)[normed_pairs / 2],
                                                       int lane)
{
#pragma unroll
    for (int k = 0; k < normed_pairs / 2; k++) {
        float of_lanes = sum[k];
#pragma unroll
        for (int offset = 4; offset < warp_size; offset *= 2) {
            of_lanes += __shfl_xor_sync(whole_warp, of_lanes, offset);
        }
        if (lane < 4) {
            to[k / 2 * 8 + 2 * lane + k % 2] = of_lanes;
        }
    }
}

static __device__ __forceinline__ void load_stage(bf16 *stage, const bf16 *x, const bf16 *dout,
                                                  const tile_walk &walk, int tile, int thread)
{
    load_octets(stage, x, walk, tile, thread);
    load_octets(stage + first_dout * octet_pitch, dout, walk, tile, thread);
    copy_async_commit();
}

static __device__ __forceinline__ void pass_tail(warpgroup_shared *s, bf16 *dx, const bf16 *x,
                                                 const bf16 *dout, const tile_walk &walk)
{
    const int thread = (int)threadIdx.x % group_threads;
    const uint64_t across = operand_at(shared_address(s->weight1), 2 * weight_pitch, 128);
    float bias_sum[normed_pairs / 2] = {};
    for (int tile = 0; tile < stages - 1; tile++) {
        load_stage(s->stage[tile], x, dout, walk, tile, thread);
    }
    copy_async_wait<1>();
    for (int tile = 0; tile < 2 && tile < walk.tiles; tile++) {
        normalise_octets(s->stage[tile], s->rstd[tile], load_half_row(s->stage[tile], thread), thread);
        show_to_warpgroup_products();
        let_go(tile);
    }
#pragma unroll 1
    for (int tile = 0; tile < walk.tiles; tile++) {
        const uint64_t dhidden = operand_at(shared_address(s->dhidden[tile % 2]), 128, normed_tile * 16);
        const bf16 *stage = s->stage[tile % stages];
        const int next = (tile + 2) % stages;
        float g[4 * octets];
        copy_async_wait<0>();
        const half_row row = load_half_row(s->stage[next], thread); /* early: nobody else hides waits */
        wait_for_hidden(tile);
        begin_warpgroup_products();
#pragma unroll
        for (int k = 0; k < mlp_hidden / 16; k++) {
            warpgroup_multiply_transposed(g, dhidden + operand_shift(2 * k * normed_tile * 16),
                                          across + operand_shift(2 * k * 128), k > 0);
        }
        commit_warpgroup_products();
        load_stage(s->stage[(tile + 3) % stages], x, dout, walk, tile + 3, thread);
        if (tile + 2 < walk.tiles) {
            normalise_octets(s->stage[next], s->rstd[next], row, thread);
            show_to_warpgroup_products();
        }
        const octet_pairs xhats = load_octet_pairs(stage, thread);
        wait_for_warpgroup_products<0>(g);
        if (tile + 2 < walk.tiles) {
            let_go(tile + 2);
        }
        write_octets_gradient(dx, bias_sum, g, xhats, stage + first_dout * octet_pitch,
                              s->rstd[tile % stages], walk, tile, thread);
    }
    store_bias_sums(s->bias2[thread / warp_size], bias_sum, thread % warp_size);
}

static __global__ void __launch_bounds__(block_threads, 1)
    pass_rows_back_by_warpgroups(bf16 *dx, float *partials, const bf16 *dout, const bf16 *x,
                                 struct mlp_factors factors, size_t rows, int tiles)
{
    dynamic_shared(warpgroup_shared, s);
    if (WARPGROUP_PRODUCTS) {
        const int group = __shfl_sync(whole_warp, (int)threadIdx.x / group_threads, 0); /* the warp's */
        const int thread = (int)threadIdx.x % group_threads;
        const tile_walk walk = own_tiles(rows, tiles);
        float *partial = partials + (size_t)blockIdx.x * mlp_sums;
        fill_shared(s, factors);
        show_to_warpgroup_products();
        __syncthreads();
        if (group < hidden_groups) {
            ask_for_registers<hidden_registers>();
            pass_hidden(s, partial, walk, group);
            __syncthreads();
        } else {
            keep_registers<tail_registers>();
            pass_tail(s, dx, x, dout, walk);
            __syncthreads();
            if (thread < normed_channels) {
                float sum = 0;
                for (int warp = 0; warp < group_threads / warp_size; warp++) {
                    sum += s->bias2[warp][thread];
                }
                partial[mlp_sum_bias2 + thread] = sum;
            }
        }
    }
#if !WARPGROUP_PRODUCTS
    __trap(); /* a Hopper with code for sm_90 in place of sm_90a: an error, not a wrong gradient */
#endif
}

void mlp_rows_backward_by_warpgroups(struct compute *c, bf16 *dx, float *partial, const bf16 *dout,
                                     const bf16 *x, const struct mlp_factors *factors, size_t rows)
{
    launch(c, pass_rows_back_by_warpgroups, dim3((unsigned)mlp_backward_blocks(c, rows)), dim3(block_threads),
           sizeof(warpgroup_shared), dx, partial, dout, x, *factors, rows, (int)divide_up(rows, normed_tile));
}
