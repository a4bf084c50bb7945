#include "compute/reference/operations.h"

#include <stdlib.h>

void reference_average_pool_forward(struct compute *c, real *out, size_t out_stride, const activation *inp,
                                    int n, size_t space, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    double *sum = zeroed_doubles(c, channels);
    if (sum == NULL) {
        return;
    }
    for (int sample = 0; sample < n; sample++) {
        for (int ch = 0; ch < channels; ch++) {
            sum[ch] = 0;
        }
        for (size_t row = 0; row < space; row++) {
            for (int ch = 0; ch < channels; ch++) {
                sum[ch] += inp[(sample * space + row) * channels + ch].value;
            }
        }
        for (int ch = 0; ch < channels; ch++) {
            out[sample * out_stride + ch] = (real)(sum[ch] / (double)space);
        }
    }
    free(sum);
}

void reference_average_pool_backward(struct compute *c, activation *dinp, const real *dout,
                                     size_t dout_stride, int n, size_t space, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (int sample = 0; sample < n; sample++) {
        for (size_t row = 0; row < space; row++) {
            for (int ch = 0; ch < channels; ch++) {
                dinp[(sample * space + row) * channels + ch].value =
                    (real)(dout[sample * dout_stride + ch] / (double)space);
            }
        }
    }
}
