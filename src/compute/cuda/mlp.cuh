/* The MLP of the widest stage in one kernel each way: bf16, mlp_channels channels and mlp_hidden between.
 * Nothing of the hidden width is kept or goes through memory; backward computes it again.
 *
 * The norm's weight and bias are folded into the first layer, so that kernels see x normalised alone (xhat):
 *     weight1' = weight1 diag(norm_weight), bias1' = bias1 + weight1 norm_bias.
 * With S = dhidden^T xhat the gradients of what was folded are
 *     dweight1 = S diag(norm_weight) + dbias1 norm_bias^T,
 *     dnorm_weight = the columns' sums of weight1 S, dnorm_bias = those of weight1 dbias1. */
#ifndef COMPUTE_CUDA_MLP_CUH
#define COMPUTE_CUDA_MLP_CUH

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/tensor_core.cuh"

enum {
    mlp_channels = 48,
    mlp_hidden = 4 * mlp_channels,
    mlp_weights = mlp_channels * mlp_hidden,
    /* Of rows in shared memory, in elements; odd multiples of 16 bytes: rows of a fragment lie in different
     * banks. */
    mlp_narrow_pitch = mlp_channels + 8,
    mlp_wide_pitch = mlp_hidden + 8,
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
    mlp_sum_weight1 = 0, /* S */
    mlp_sum_weight2 = mlp_weights,
    mlp_sum_bias1 = 2 * mlp_weights,
    mlp_sum_bias2 = mlp_sum_bias1 + mlp_hidden,
    mlp_sums = mlp_sum_bias2 + mlp_channels,
};

/* ---- mlp_forward.cu ---- */

void mlp_rows_forward(struct compute *c, bf16 *out, const bf16 *x, const struct mlp_factors *factors,
                      size_t rows);

/* ---- mlp_backward.cu ---- */

/* Blocks of the kernel below, each of which writes mlp_sums floats. */
size_t mlp_backward_blocks(const struct compute *c, size_t rows);
void mlp_rows_backward(struct compute *c, bf16 *dx, float *partial, const bf16 *dout, const bf16 *x,
                       const struct mlp_factors *factors, size_t rows);

#ifdef __CUDACC__
#define MLP_DEVICE static __device__ __forceinline__
#else
#define MLP_DEVICE static inline
#endif

/* Both weights to shared memory, weight1 at mlp_narrow_pitch and weight2 at mlp_wide_pitch. */
MLP_DEVICE void load_mlp_weights(bf16 *weight1, bf16 *weight2, const struct mlp_factors &factors)
{
    const int pieces = mlp_weights / 8;
    for (int k = (int)threadIdx.x; k < pieces; k += (int)blockDim.x) {
        const int narrow_row = k / (mlp_channels / 8), narrow_at = k % (mlp_channels / 8) * 8;
        const int wide_row = k / (mlp_hidden / 8), wide_at = k % (mlp_hidden / 8) * 8;
        copy_async(weight1 + narrow_row * mlp_narrow_pitch + narrow_at, factors.weight1 + k * 8, 1);
        copy_async(weight2 + wide_row * mlp_wide_pitch + wide_at, factors.weight2 + k * 8, 1);
    }
}

#endif
