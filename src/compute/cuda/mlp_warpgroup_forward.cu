/* mlp.cuh's MLP on Hopper: a warpgroup takes 64 rows from x to out with everything between in registers, as
 * mlp_forward.cu's warps do with 16. While a chunk of the hidden features goes through GELU, the next one's
 * products are under way.
 *
 * A thread loads and stores four neighbouring channels at a time. So what products have as columns 2t, 2t +
 * 1, 2t + 8 and 2t + 9 of sixteen are the channels 4t to 4t + 3, in the weights too. */
#include "compute/cuda/gelu.cuh"
#include "compute/cuda/mlp.cuh"
#include "compute/cuda/warpgroup.cuh"

enum {
    block_threads = 512,
    group_threads = 128,
    block_groups = block_threads / group_threads,
    chunk = 32, /* hidden features at once */
    chunks = mlp_hidden / chunk,
    weight1_pitch = mlp_hidden * 8,
    weight1_octets = normed_tiles + 2, /* of a row: two behind, the bias and zeros */
    weight2_pitch = normed_channels * 8,
};

/* In elements of bf16, weight1 [octet of columns][hidden feature], weight2 [octet of hidden
 * features][column].
 */
struct forward_shared {
    bf16 weight1[weight1_octets * weight1_pitch];
    bf16 weight2[mlp_hidden / 8 * weight2_pitch];
    float bias2[normed_channels];
};

/* The channel that products have as a column. */
static __device__ __forceinline__ int channel_of(int column)
{
    const int within = column % 8;
    return column / 16 * 16 + within / 2 * 4 + column / 8 % 2 * 2 + within % 2;
}

static __device__ __forceinline__ void fill_shared(forward_shared *s, const struct mlp_factors &factors)
{
    for (int k = (int)threadIdx.x; k < mlp_weights; k += block_threads) {
        const int row = k / normed_channels, column = k % normed_channels;
        s->weight1[column / 8 * weight1_pitch + row * 8 + column % 8] =
            factors.weight1[row * normed_channels + channel_of(column)];
    }
    for (int k = (int)threadIdx.x; k < mlp_weights / 8; k += block_threads) {
        const int column = k / (mlp_hidden / 8), octet = k % (mlp_hidden / 8);
        *reinterpret_cast<uint4 *>(s->weight2 + octet * weight2_pitch + column * 8) =
            *reinterpret_cast<const uint4 *>(factors.weight2 + channel_of(column) * mlp_hidden + octet * 8);
    }
    for (int row = (int)threadIdx.x; row < mlp_hidden; row += block_threads) {
        bf16 *bias = s->weight1 + normed_tiles * weight1_pitch + row * 8;
        *reinterpret_cast<uint4 *>(bias) = make_uint4(in_two_parts(factors.bias1[row]), 0, 0, 0);
        *reinterpret_cast<uint4 *>(bias + weight1_pitch) = make_uint4(0, 0, 0, 0);
        if (row < normed_channels) {
            s->bias2[row] = factors.bias2[row];
        }
    }
}

/* The thread's channels of its two rows, `row` and the one 8 below. */
static __device__ __forceinline__ void load_rows(uint32_t (&x)[normed_steps][4], const bf16 *from, size_t row,
                                                 size_t rows, int t)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const size_t at = row + (size_t)(8 * half);
#pragma unroll
        for (int k = 0; k < normed_steps; k++) {
            uint2 four = make_uint2(0, 0);
            if (at < rows) {
                four = *reinterpret_cast<const uint2 *>(from + at * normed_channels + 16 * k + 4 * t);
            }
            x[k][half] = four.x;
            x[k][half + 2] = four.y;
        }
    }
}

/* sum + bias2 + x */
static __device__ __forceinline__ void store_rows(bf16 *out, const float (&sum)[24],
                                                  const uint32_t (&x)[normed_steps][4], const float *bias2,
                                                  size_t row, size_t rows, int t)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const size_t at = row + (size_t)(8 * half);
#pragma unroll
        for (int k = 0; k < normed_steps; k++) {
            const float4 bias = *reinterpret_cast<const float4 *>(bias2 + 16 * k + 4 * t);
            const float *low = sum + 8 * k + 2 * half, *high = low + 4;
            const uint32_t first = x[k][half], second = x[k][half + 2];
            if (at < rows) {
                *reinterpret_cast<uint2 *>(out + at * normed_channels + 16 * k + 4 * t) = make_uint2(
                    pack_bf16(low[0] + bias.x + low_of(first), low[1] + bias.y + high_of(first)),
                    pack_bf16(high[0] + bias.z + low_of(second), high[1] + bias.w + high_of(second)));
            }
        }
    }
}

/* Begins wide = bias1 + xhat weight1 for a chunk. */
static __device__ __forceinline__ void begin_chunk(float (&wide)[chunk / 2],
                                                   const uint32_t (&xhat)[normed_steps][4],
                                                   const uint32_t (&ones)[4], uint64_t weight1)
{
    begin_warpgroup_products();
#pragma unroll
    for (int k = 0; k < normed_steps; k++) {
        warpgroup_multiply(wide, xhat[k], weight1 + operand_shift(4 * k * weight1_pitch), k > 0);
    }
    warpgroup_multiply(wide, ones, weight1 + operand_shift(2 * normed_tiles * weight1_pitch), 1);
    commit_warpgroup_products();
}

/* Begins sum += GELU(wide) weight2, or =, for a chunk. */
static __device__ __forceinline__ void add_chunk(float (&sum)[24], uint32_t (&value)[chunk / 16][4],
                                                 const float (&wide)[chunk / 2], uint64_t weight2, int add)
{
#pragma unroll
    for (int k = 0; k < chunk / 16; k++) {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            value[k][r] = pack_bf16(gelu<bf16>(wide[8 * k + 2 * r]), gelu<bf16>(wide[8 * k + 2 * r + 1]));
        }
    }
    begin_warpgroup_products();
#pragma unroll
    for (int k = 0; k < chunk / 16; k++) {
        warpgroup_multiply(sum, value[k], weight2 + operand_shift(4 * k * weight2_pitch), add || k > 0);
    }
    commit_warpgroup_products();
}

/* wide and value are there twice, for chunks in turn: of the groups of products that are under way when a
 * chunk's values are asked for, the last two, the next chunk's first ones and the last chunk's second ones,
 * may go on. */
static __device__ __forceinline__ void pass_through(float (&sum)[24], const uint32_t (&xhat)[normed_steps][4],
                                                    uint64_t weight1, uint64_t weight2)
{
    const uint32_t one = threadIdx.x % 4 == 0 ? 0x3f803f80u : 0, ones[4] = {one, one, 0, 0};
    uint32_t value[2][chunk / 16][4];
    float wide[2][chunk / 2];
    begin_chunk(wide[0], xhat, ones, weight1);
#pragma unroll
    for (int number = 0; number < chunks; number++) {
        const int odd = number % 2, last = number + 1 == chunks;
        if (!last) {
            begin_chunk(wide[1 - odd], xhat, ones, weight1 + operand_shift((number + 1) * chunk * 16));
        }
        if (number > 0 && !last) {
            wait_for_warpgroup_products<2>(wide[odd]);
        } else {
            wait_for_warpgroup_products<1>(wide[odd]);
        }
        if (number > 1) {
#pragma unroll
            for (int k = 0; k < chunk / 16; k++) {
                keep_until_here(value[odd][k]);
            }
        }
        add_chunk(sum, value[odd], wide[odd], weight2 + operand_shift(number * chunk / 8 * 2 * weight2_pitch),
                  number > 0);
    }
    wait_for_warpgroup_products<0>(sum);
#pragma unroll
    for (int k = 0; k < chunk / 16; k++) {
        keep_until_here(value[0][k]);
        keep_until_here(value[1][k]);
    }
}

static __global__ void __launch_bounds__(block_threads, 1)
    pass_rows_through_by_warpgroups(bf16 *out, const bf16 *x, struct mlp_factors factors, size_t rows)
{
    dynamic_shared(forward_shared, s);
    if (WARPGROUP_PRODUCTS) {
        const int group = __shfl_sync(whole_warp, (int)threadIdx.x / group_threads, 0); /* the warp's */
        const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x % group_threads / warp_size;
        const size_t step = (size_t)gridDim.x * block_groups * normed_tile;
        const size_t own = (size_t)(16 * warp + lane / 4); /* of a tile's rows */
        size_t first = ((size_t)blockIdx.x * block_groups + (size_t)group) * normed_tile;
        uint32_t next[normed_steps][4];
        fill_shared(s, factors);
        show_to_warpgroup_products();
        __syncthreads();
        const uint64_t weight1 = operand_at(shared_address(s->weight1), 128, 2 * weight1_pitch);
        const uint64_t weight2 = operand_at(shared_address(s->weight2), 128, 2 * weight2_pitch);
        load_rows(next, x, first + own, rows, lane % 4);
#pragma unroll 1
        for (; first < rows; first += step) {
            uint32_t inp[normed_steps][4], xhat[normed_steps][4];
            float sum[24];
#pragma unroll
            for (int k = 0; k < normed_steps; k++) {
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    inp[k][r] = next[k][r];
                }
            }
            normalise_rows_kept(xhat, inp);
            load_rows(next, x, first + step + own, rows, lane % 4);
            pass_through(sum, xhat, weight1, weight2);
            store_rows(out, sum, inp, s->bias2, first + own, rows, lane % 4);
        }
    }
#if !WARPGROUP_PRODUCTS
    __trap(); /* a Hopper with code for sm_90 in place of sm_90a: an error, not a wrong result */
#endif
}

void mlp_rows_forward_by_warpgroups(struct compute *c, bf16 *out, const bf16 *x,
                                    const struct mlp_factors *factors, size_t rows)
{
    const size_t most = (size_t)cuda_state(c)->multiprocessors;
    const size_t wanted = divide_up(rows, block_groups * normed_tile);
    launch(c, pass_rows_through_by_warpgroups, dim3((unsigned)(wanted < most ? wanted : most)),
           dim3(block_threads), sizeof(forward_shared), out, x, *factors, rows);
}
