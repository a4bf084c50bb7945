#include "compute/cuda/kernel.cuh"
#include "compute/cuda/leaves.cuh"

/* In double: 1 / rstd^2 - eps loses digits where the variance is small. */
static __global__ void scale_channels(float *scale, float *dscale_dweight, const float *weight,
                                      const float *rstd, int n, int channels)
{
    const size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (k < (size_t)n * channels) {
        const double r = rstd[k / channels], w = weight[k % channels];
        const double variance = fmax(1 / (r * r) - normalisation_epsilon, 0.0);
        const double root = sqrt(w * w * variance + normalisation_epsilon);
        scale[k] = (float)(w / root);
        dscale_dweight[k] = (float)(normalisation_epsilon / (root * root * root));
    }
}

static __global__ void add_scale_gradient(float *dweight, const float *dscale, const float *dscale_dweight,
                                          int n, int channels)
{
    const int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    double sum = 0;
    if (channel < channels) {
        for (int i = 0; i < n; i++) {
            const size_t k = (size_t)i * channels + channel;
            sum += (double)dscale[k] * dscale_dweight[k];
        }
        dweight[channel] += (float)sum;
    }
}

void cuda_channel_scale_forward(struct compute *c, float *scale, float *dscale_dweight, const float *weight,
                                const float *rstd, int n, int channels)
{
    launch(c, scale_channels, dim3((unsigned)divide_up((size_t)n * channels, 128)), dim3(128), 0, scale,
           dscale_dweight, weight, rstd, n, channels);
}

void cuda_channel_scale_backward(struct compute *c, float *dweight, const float *dscale,
                                 const float *dscale_dweight, int n, int channels)
{
    const size_t count = (size_t)n * channels;
    leaf_begin(c);
    launch(c, add_scale_gradient, dim3((unsigned)divide_up((size_t)channels, 32)), dim3(32), 0, dweight,
           dscale, dscale_dweight, n, channels);
    leaf_end(c,
             {range_of(dweight, (size_t)channels), range_of(dscale, count), range_of(dscale_dweight, count)});
}
