/* The MLP of the widest stage in one kernel each way: bf16, normed_channels channels and mlp_hidden between.
 * Nothing of the hidden width is kept or goes through memory; backward computes it again. */
#ifndef COMPUTE_CUDA_MLP_CUH
#define COMPUTE_CUDA_MLP_CUH

#include "compute/cuda/normed_rows.cuh"

enum {
    mlp_hidden = 4 * normed_channels,
    mlp_weights = normed_channels * mlp_hidden,
    mlp_wide_pitch = mlp_hidden + 8, /* in shared memory, as normed_pitch */
};

/* What kernels read of an MLP. */
struct mlp_factors {
    const bf16 *weight1; /* folded, (hidden, channels) */
    const bf16 *weight2; /* (channels, hidden) */
    const float *bias1;  /* folded */
    const float *bias2;
};

/* Where a block's sums of the gradients begin, in floats, and how many there are. */
enum {
    mlp_sum_weight1 = 0, /* dhidden^T xhat, as folded_norm.cuh has it */
    mlp_sum_bias1 = mlp_weights,
    mlp_sum_weight2 = mlp_sum_bias1 + mlp_hidden,
    mlp_sum_bias2 = mlp_sum_weight2 + mlp_weights,
    mlp_sums = mlp_sum_bias2 + normed_channels,
};

/* ---- mlp_forward.cu ---- */

void mlp_rows_forward(struct compute *c, bf16 *out, const bf16 *x, const struct mlp_factors *factors,
                      size_t rows);

/* ---- mlp_backward.cu ---- */

/* Bytes of shared memory that a block needs: not every GPU has as many. */
size_t mlp_backward_shared(void);

/* Blocks of the kernel below, each of which writes mlp_sums floats. */
size_t mlp_backward_blocks(const struct compute *c, size_t rows);
void mlp_rows_backward(struct compute *c, bf16 *dx, float *partial, const bf16 *dout, const bf16 *x,
                       const struct mlp_factors *factors, size_t rows);

/* ---- mlp_warpgroup_forward.cu and mlp_warpgroup_backward.cu: the same on Hopper ---- */

void mlp_rows_forward_by_warpgroups(struct compute *c, bf16 *out, const bf16 *x,
                                    const struct mlp_factors *factors, size_t rows);
void mlp_rows_backward_by_warpgroups(struct compute *c, bf16 *dx, float *partial, const bf16 *dout,
                                     const bf16 *x, const struct mlp_factors *factors, size_t rows);

/* Both weights to shared memory, weight1 at normed_pitch and weight2 at mlp_wide_pitch. */
static __device__ __forceinline__ void load_mlp_weights(bf16 *weight1, bf16 *weight2,
                                                        const struct mlp_factors &factors)
{
    const int pieces = mlp_weights / 8, across = normed_channels / 8, wide = mlp_hidden / 8;
    for (int k = (int)threadIdx.x; k < pieces; k += (int)blockDim.x) {
        copy_async(weight1 + k / across * normed_pitch + k % across * 8, factors.weight1 + k * 8, 1);
        copy_async(weight2 + k / wide * mlp_wide_pitch + k % wide * 8, factors.weight2 + k * 8, 1);
    }
}

/* A bias as the sum of two elements of bf16: where products with ones add it. */
static __device__ __forceinline__ uint32_t in_two_parts(float bias)
{
    const float high = to_float(from_float<bf16>(bias));
    return pack_bf16(high, bias - high);
}

#endif
