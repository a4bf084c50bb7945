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
