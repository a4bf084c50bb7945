/* A layer norm whose weight and bias are folded into the linear layer behind it, in bf16, so that kernels see
 * the rows normalised alone (xhat):
 *     weight' = weight diag(norm_weight), bias' = bias + weight norm_bias.
 * From each row of weight' its mean is subtracted: xhat has mean 0 and does not notice, and the gradient of
 * xhat, dout weight', has mean 0 as well, which the norm's gradient would have to take away. With S = dout^T
 * xhat the gradients are dweight = S diag(norm_weight) + dbias norm_bias^T, dnorm_weight = the columns' sums
 * of weight S, dnorm_bias = those of weight dbias. */
#ifndef COMPUTE_CUDA_FOLDED_NORM_CUH
#define COMPUTE_CUDA_FOLDED_NORM_CUH

#include "compute/cuda/kernel.cuh"

/* Bytes of weight' and bias', the latter behind the former. */
static inline size_t folded_weight_bytes(const struct normed_linear *layer)
{
    return cuda_aligned((size_t)layer->out_features * (size_t)layer->in_features * sizeof(bf16));
}

static inline size_t folded_bytes(const struct normed_linear *layer)
{
    return folded_weight_bytes(layer) + cuda_aligned((size_t)layer->out_features * sizeof(float));
}

void fold_norm(struct compute *c, bf16 *weight, float *bias, const struct normed_linear *layer);

/* Adds to the gradients. Each of `parts` arrays that lie `pitch` floats apart begins with its part of the
 * sums: S (out_features, in_features), then dbias. `sums` has room for them. */
void add_folded_gradients(struct compute *c, const struct normed_linear_gradients *gradients, float *sums,
                          const float *partial, size_t parts, size_t pitch,
                          const struct normed_linear *layer);

#endif
