#include "compute/cuda/direct_conv3d.cuh"

enum { lanes = 32, layers = 8 }; /* of a block that adds partial sums: values, and parts at a time */

static __global__ void add_partials(float *dweight, const float *partials, int parts, int in, int taps,
                                    size_t count)
{
    __shared__ float sums[layers][lanes];
    const size_t value = (size_t)blockIdx.x * lanes + threadIdx.x;
    float sum = 0;
    for (int part = (int)threadIdx.y; value < count && part < parts; part += layers) {
        sum += partials[(size_t)part * count + value];
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || value >= count) {
        return;
    }
    for (int layer = 1; layer < layers; layer++) {
        sum += sums[layer][threadIdx.x];
    }
    const size_t i = value % (size_t)in, tap = value / (size_t)in % (size_t)taps;
    const size_t o = value / (size_t)in / (size_t)taps;
    dweight[(o * (size_t)in + i) * (size_t)taps + tap] += sum;
}

void conv3d_add_partials(struct compute *c, float *dweight, const float *partials, int parts, int out, int in,
                         int taps)
{
    const size_t count = (size_t)out * (size_t)in * (size_t)taps;
    launch(c, add_partials, dim3((unsigned)divide_up(count, lanes)), dim3(lanes, layers), 0, dweight,
           partials, parts, in, taps, count);
}

/* A channel's sums over a sample's parts, in their order, by a warp. */
static __device__ __forceinline__ void sum_parts(double &sum, double &square, const float *sums, int k,
                                                 int parts, int channels)
{
    const float *from = sums + ((size_t)(k / channels) * parts * channels + k % channels) * 2;
    sum = square = 0;
    for (int part = (int)threadIdx.x % warp_size; part < parts; part += warp_size) {
        const float2 both = *(const float2 *)(from + (size_t)part * channels * 2);
        sum += both.x;
        square += both.y;
    }
    sum = warp_sum(sum);
    square = warp_sum(square);
}

enum { finish_threads = 256, finish_warps = finish_threads / warp_size };

/* Mean and rstd of a sample's channel, or where `mean_product` is given the means of its two sums. */
static __global__ void finish_sums(float *mean, float *rstd, float *mean_product, const float *sums,
                                   int parts, int channels, int count, double space)
{
    const int k = (int)blockIdx.x * finish_warps + (int)threadIdx.x / warp_size;
    double sum, square;
    if (k >= count) {
        return;
    }
    sum_parts(sum, square, sums, k, parts, channels);
    if (threadIdx.x % warp_size == 0) {
        const double m = sum / space, variance = square / space - m * m;
        mean[k] = (float)m;
        if (mean_product != NULL) {
            mean_product[k] = (float)(square / space);
        } else {
            rstd[k] = (float)(1 / sqrt((variance > 0 ? variance : 0) + normalisation_epsilon));
        }
    }
}

void conv3d_finish_sums(struct compute *c, float *mean, float *rstd, float *mean_product, const float *sums,
                        int parts, int n, size_t space, int channels)
{
    const int count = n * channels;
    launch(c, finish_sums, dim3((unsigned)divide_up((size_t)count, finish_warps)), dim3(finish_threads), 0,
           mean, rstd, mean_product, sums, parts, channels, count, (double)space);
}
