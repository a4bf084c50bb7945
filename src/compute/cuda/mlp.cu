#include "compute/cuda/mlp.cuh"
#include "compute/cuda/row_sums.cuh"
#include "compute/cuda/vector.cuh"

extern "C" {
#include "compute/reference/operations.h"
}

enum { block_threads = 256, block_warps = block_threads / warp_size };

/* A warp folds the norm into a row of weight1. */
static __global__ void fold_norm(bf16 *folded, float *folded_bias, const float *weight1, const float *bias1,
                                 const float *norm_weight, const float *norm_bias)
{
    const int row = (int)blockIdx.x * block_warps + (int)threadIdx.x / warp_size;
    const int lane = (int)threadIdx.x % warp_size;
    float sum = 0;
    for (int k = lane; row < mlp_hidden && k < mlp_channels; k += warp_size) {
        const float weight = weight1[row * mlp_channels + k];
        folded[row * mlp_channels + k] = from_float<bf16>(weight * norm_weight[k]);
        sum += weight * norm_bias[k];
    }
    sum = warp_sum(sum);
    if (lane == 0 && row < mlp_hidden) {
        folded_bias[row] = bias1[row] + sum;
    }
}

/* From the sums over all blocks, the gradients; a warp more for each channel of the norm. */
static __global__ void finish_gradients(struct mlp_gradients gradients, const float *sums,
                                        const float *weight1, const float *norm_weight,
                                        const float *norm_bias)
{
    const float *s = sums + mlp_sum_weight1, *dweight2 = sums + mlp_sum_weight2;
    const float *dbias1 = sums + mlp_sum_bias1, *dbias2 = sums + mlp_sum_bias2;
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int lane = (int)threadIdx.x % warp_size, channel = k / warp_size;
    if (k < mlp_weights) {
        const int i = k % mlp_channels;
        gradients.weight1[k] += s[k] * norm_weight[i] + dbias1[k / mlp_channels] * norm_bias[i];
        gradients.weight2[k] += dweight2[k];
    }
    if (k < mlp_hidden) {
        gradients.bias1[k] += dbias1[k];
    }
    if (k < mlp_channels) {
        gradients.bias2[k] += dbias2[k];
    }
    if (channel < mlp_channels) {
        float dweight = 0, dbias = 0;
        for (int row = lane; row < mlp_hidden; row += warp_size) {
            const float weight = weight1[row * mlp_channels + channel];
            dweight += weight * s[row * mlp_channels + channel];
            dbias += weight * dbias1[row];
        }
        dweight = warp_sum(dweight);
        dbias = warp_sum(dbias);
        if (lane == 0) {
            gradients.norm_weight[channel] += dweight;
            gradients.norm_bias[channel] += dbias;
        }
    }
}

int cuda_mlp_fits(struct compute *c, int channels, int hidden)
{
    return c->precision == PRECISION_BF16 && channels == mlp_channels && hidden == mlp_hidden;
}

/* Scratch memory of `more` bytes and what is derived of the MLP; the former is returned. */
static void *derive_factors(struct compute *c, struct mlp_factors *factors, const struct mlp *mlp,
                            size_t more)
{
    const size_t weights = cuda_aligned(mlp_weights * sizeof(bf16)), biases = cuda_aligned(mlp_hidden * 4);
    const void *weight2 = cuda_weights(c, mlp->weight2, WEIGHTS_PLAIN, mlp_channels, mlp_hidden, 1);
    unsigned char *memory = (unsigned char *)cuda_scratch(c, weights + biases + more);
    bf16 *folded = (bf16 *)memory;
    float *folded_bias = (float *)(memory + weights);
    if (memory == NULL || weight2 == NULL) {
        return NULL;
    }
    launch(c, fold_norm, dim3(mlp_hidden / block_warps), dim3(block_threads), 0, folded, folded_bias,
           mlp->weight1, mlp->bias1, mlp->norm_weight, mlp->norm_bias);
    factors->weight1 = folded;
    factors->weight2 = (const bf16 *)weight2;
    factors->bias1 = folded_bias;
    factors->bias2 = mlp->bias2;
    return memory + weights + biases;
}

void cuda_mlp_forward(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                      size_t rows)
{
    struct mlp_factors factors;
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    if (!cuda_mlp_fits(c, mlp->channels, mlp->hidden) || !all_aligned(out, x)) {
        reference_mlp_forward(c, out, x, mlp, rows);
    } else if (derive_factors(c, &factors, mlp, 0) != NULL) {
        mlp_rows_forward(c, (bf16 *)out, (const bf16 *)x, &factors, rows);
    }
}

void cuda_mlp_backward(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                       const activation *dout, const activation *x, const struct mlp *mlp, size_t rows)
{
    struct mlp_factors factors;
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    if (!cuda_mlp_fits(c, mlp->channels, mlp->hidden) || !all_aligned(dx, dout, x)) {
        reference_mlp_backward(c, dx, gradients, dout, x, mlp, rows);
        return;
    }
    const size_t blocks = mlp_backward_blocks(c, rows);
    float *sums = (float *)derive_factors(c, &factors, mlp, (1 + blocks) * mlp_sums * sizeof(float));
    if (sums != NULL) {
        cuda_fill_zero(c, sums, mlp_sums * sizeof(float));
        mlp_rows_backward(c, (bf16 *)dx, sums + mlp_sums, (const bf16 *)dout, (const bf16 *)x, &factors,
                          rows);
        cuda_add_parts(c, sums, mlp_sums, NULL, 0, sums + mlp_sums, blocks, mlp_sums);
        launch(c, finish_gradients, dim3(mlp_weights / block_threads), dim3(block_threads), 0, *gradients,
               (const float *)sums, mlp->weight1, mlp->norm_weight, mlp->norm_bias);
    }
}
