#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"

void KERNEL(average_pool_forward)(struct compute *c, float *out, size_t out_stride, const activation *inp,
                                  int n, size_t space, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (int i = 0; i < n && c->status == VOCO_OK; i++) {
        float *mean = out + i * out_stride;
        for (int ch = 0; ch < channels; ch++) {
            mean[ch] = 0;
        }
        KERNEL(add_row_sums)(c, mean, inp + i * space * channels, space, channels);
        for (int ch = 0; ch < channels; ch++) {
            mean[ch] /= (float)space;
        }
    }
}

void KERNEL(average_pool_backward)(struct compute *c, activation *dinp, const float *dout, size_t dout_stride,
                                   int n, size_t space, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const float share = 1 / (float)space;
#pragma omp parallel for collapse(2) schedule(static) num_threads(cpu_state(c)->threads)
    for (int i = 0; i < n; i++) {
        for (size_t row = 0; row < space; row++) {
            activation *to = dinp + (i * space + row) * channels;
            const float *from = dout + i * dout_stride;
#pragma omp simd
            for (int ch = 0; ch < channels; ch++) {
                to[ch] = activation_of(from[ch] * share);
            }
        }
    }
}
