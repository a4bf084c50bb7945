#include "compute/cuda/folded_norm.cuh"
#include "compute/cuda/row_sums.cuh"

enum { block_threads = 256, block_warps = block_threads / warp_size };

/* A warp a row of the weights. */
static __global__ void fold(bf16 *folded, float *folded_bias, struct normed_linear layer)
{
    const int row = (int)blockIdx.x * block_warps + (int)threadIdx.x / warp_size;
    const int lane = (int)threadIdx.x % warp_size;
    const int count = row < layer.out_features ? layer.in_features : 0;
    const float *weights = layer.weight + row * layer.in_features;
    float sum = 0, of_folded = 0;
    for (int k = lane; k < count; k += warp_size) {
        sum += weights[k] * layer.norm_bias[k];
        of_folded += weights[k] * layer.norm_weight[k];
    }
    sum = warp_sum(sum);
    const float mean = warp_sum(of_folded) / (float)layer.in_features;
    for (int k = lane; k < count; k += warp_size) {
        folded[row * layer.in_features + k] = from_float<bf16>(weights[k] * layer.norm_weight[k] - mean);
    }
    if (lane == 0 && row < layer.out_features) {
        folded_bias[row] = layer.bias[row] + sum;
    }
}

void fold_norm(struct compute *c, bf16 *weight, float *bias, const struct normed_linear *layer)
{
    launch(c, fold, dim3((unsigned)divide_up((size_t)layer->out_features, block_warps)), dim3(block_threads),
           0, weight, bias, *layer);
}

/* A thread an element of the weights; the first warps, in_features of them, one of the norm's each. */
static __global__ void add_gradients(struct normed_linear_gradients gradients, const float *sums,
                                     struct normed_linear layer)
{
    const int in = layer.in_features, out = layer.out_features;
    const float *dbias = sums + out * in;
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int lane = (int)threadIdx.x % warp_size, channel = k / warp_size;
    if (k < out * in) {
        gradients.weight[k] += sums[k] * layer.norm_weight[k % in] + dbias[k / in] * layer.norm_bias[k % in];
    }
    if (k < out) {
        gradients.bias[k] += dbias[k];
    }
    if (channel < in) {
        float dweight_sum = 0, dbias_sum = 0;
        for (int row = lane; row < out; row += warp_size) {
            const float weight = layer.weight[row * in + channel];
            dweight_sum += weight * sums[row * in + channel];
            dbias_sum += weight * dbias[row];
        }
        dweight_sum = warp_sum(dweight_sum);
        dbias_sum = warp_sum(dbias_sum);
        if (lane == 0) {
            gradients.norm_weight[channel] += dweight_sum;
            gradients.norm_bias[channel] += dbias_sum;
        }
    }
}

void add_folded_gradients(struct compute *c, const struct normed_linear_gradients *gradients, float *sums,
                          const float *partial, size_t parts, size_t pitch, const struct normed_linear *layer)
{
    const size_t weights = (size_t)layer->out_features * (size_t)layer->in_features;
    const size_t count = weights + (size_t)layer->out_features;
    const size_t norms = (size_t)layer->in_features * warp_size;
    cuda_fill_zero(c, sums, count * sizeof *sums);
    cuda_add_parts(c, sums, count, NULL, 0, partial, parts, pitch);
    launch(c, add_gradients, dim3((unsigned)divide_up(weights > norms ? weights : norms, block_threads)),
           dim3(block_threads), 0, *gradients, (const float *)sums, *layer);
}
