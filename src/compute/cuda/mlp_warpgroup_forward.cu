/* mlp.cuh's MLP on Hopper: a warpgroup takes 64 rows from x to out with everything between in registers, as
 * mlp_forward.cu's warps do with 16. While one warpgroup's products are under way, others compute.
 *
 * A thread loads and stores four neighbouring channels at a time. So what products have as columns 2t, 2t + 1,
 * 2t + 8 and 2t + 9 of sixteen are the channels 4t to 4t + 3, in the weights too. */
#include "compute/cuda/gelu.cuh"
#include "compute/cuda/mlp.cuh"
#include "compute/cuda/warpgroup.cuh"

enum {
    block_threads = 512,
    group_threads = 128,
    block_groups = block_threads / group_threads,
    octets = normed_channels / 8,
    chunk = 64, /* hidden features at once */
    weight1_pitch = mlp_hidden * 8,
    weight1_octets = octets + 2, /* of a row: two behind, the bias and zeros */
    weight2_pitch = normed_channels * 8,
};

/* In elements of bf16, weight1 [octet of columns][hidden feature], weight2 [octet of hidden features][column].
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

/* A bias as the sum of two elements of bf16. */
static __device__ __forceinline__ uint32_t in_two_parts(float bias)
{
    const float high = to_float(from_float<bf16>(bias));
    return pack_bf16(high, bias - high);
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
        bf16 *bias = s->weight1 + octets * weight1_pitch + row * 8;
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
                *reinterpret_cast<uint2 *>(out + at * normed_channels + 16 * k + 4 * t) =
                    make_uint2(pack_bf16(low[0] + bias.x + low_of(first), low[1] + bias.y + high_of(first)),
                               pack_bf16(high[0] + bias.z + low_of(second), high[1] + bias.w + high_of(second)));
            }
        }
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
        size_t first = ((size_t)blockIdx.x * block_groups + (size_t)group) * normed_tile;
        fill_shared(s, factors);
        show_to_warpgroup_products();
        __syncthreads();
        const uint64_t first_weight1 = operand_at(shared_address(s->weight1), 128, 2 * weight1_pitch);
        const uint64_t first_weight2 = operand_at(shared_address(s->weight2), 128, 2 * weight2_pitch);
        uint32_t ones[4] = {lane % 4 == 0 ? 0x3f803f80u : 0, lane % 4 == 0 ? 0x3f803f80u : 0, 0, 0};
        uint32_t next[normed_steps][4];
        load_rows(next, x, first + (size_t)(16 * warp + lane / 4), rows, lane % 4);
#pragma unroll 1
        for (; first < rows; first += step) {
            const size_t row = first + (size_t)(16 * warp + lane / 4);
            uint32_t inp[normed_steps][4], xhat[normed_steps][4], value[chunk / 16][4];
            float wide[chunk / 2], sum[24];
#pragma unroll
            for (int k = 0; k < normed_steps; k++) {
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    inp[k][r] = next[k][r];
                }
            }
            normalise_rows_kept(xhat, inp);
            load_rows(next, x, row + step, rows, lane % 4);
#pragma unroll
            for (int hidden = 0; hidden < mlp_hidden; hidden += chunk) {
                const uint64_t weight1 = first_weight1 + operand_shift(hidden * 16);
                const uint64_t weight2 = first_weight2 + operand_shift(hidden / 8 * 2 * weight2_pitch);
                begin_warpgroup_products();
#pragma unroll
                for (int k = 0; k < normed_steps; k++) {
                    warpgroup_multiply(wide, xhat[k], weight1 + operand_shift(4 * k * weight1_pitch), k > 0);
                }
                warpgroup_multiply(wide, ones, weight1 + operand_shift(2 * octets * weight1_pitch), 1);
                commit_warpgroup_products();
                wait_for_warpgroup_products<0>(wide);
#pragma unroll
                for (int k = 0; k < chunk / 16; k++) {
                    keep_until_here(value[k]);
                }
#pragma unroll
                for (int k = 0; k < chunk / 16; k++) {
#pragma unroll
                    for (int r = 0; r < 4; r++) {
                        value[k][r] =
                            pack_bf16(gelu<bf16>(wide[8 * k + 2 * r]), gelu<bf16>(wide[8 * k + 2 * r + 1]));
                    }
                    begin_warpgroup_products();
                    warpgroup_multiply(sum, value[k], weight2 + operand_shift(4 * k * weight2_pitch),
                                       hidden + k > 0);
                    commit_warpgroup_products();
                }
            }
            wait_for_warpgroup_products<0>(sum);
#pragma unroll
            for (int k = 0; k < chunk / 16; k++) {
                keep_until_here(value[k]);
            }
            store_rows(out, sum, inp, s->bias2, row, rows, lane % 4);
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
