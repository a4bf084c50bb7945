#include "compute/reference/operations.h"

#include <math.h>
#include <stdlib.h>

void reference_layer_norm_forward(struct compute *c, real *out, real *mean, real *rstd, const real *inp,
                                  const real *weight, const real *bias, size_t rows, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (size_t row = 0; row < rows; row++) {
        const real *x = inp + row * channels;
        real *y = out + row * channels;
        double average = 0, variance = 0;
        for (int ch = 0; ch < channels; ch++) {
            average += x[ch];
        }
        average /= channels;
        for (int ch = 0; ch < channels; ch++) {
            variance += (x[ch] - average) * (x[ch] - average);
        }
        variance /= channels;
        const double scale = 1 / sqrt(variance + normalisation_epsilon);
        for (int ch = 0; ch < channels; ch++) {
            const double normal = (x[ch] - average) * scale;
            y[ch] = (real)(weight != NULL ? normal * weight[ch] + bias[ch] : normal);
        }
        mean[row] = (real)average;
        rstd[row] = (real)scale;
    }
}

/* With xhat = (x - mean) rstd and g = dout weight: dinp = rstd (g - mean(g) - xhat mean(g xhat)). */
void reference_layer_norm_backward(struct compute *c, real *dinp, real *dweight, real *dbias,
                                   const real *dout, const real *inp, const real *mean, const real *rstd,
                                   const real *weight, size_t rows, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    double *weight_sum = zeroed_doubles(c, channels), *bias_sum = zeroed_doubles(c, channels);
    if (weight_sum == NULL || bias_sum == NULL) {
        goto done;
    }
    for (size_t row = 0; row < rows; row++) {
        const real *x = inp + row * channels, *dy = dout + row * channels;
        const double average = mean[row], scale = rstd[row];
        double g_mean = 0, g_xhat_mean = 0;
        for (int ch = 0; ch < channels; ch++) {
            const double xhat = (x[ch] - average) * scale;
            const double g = weight != NULL ? (double)dy[ch] * weight[ch] : dy[ch];
            g_mean += g / channels;
            g_xhat_mean += g * xhat / channels;
            weight_sum[ch] += dy[ch] * xhat;
            bias_sum[ch] += dy[ch];
        }
        for (int ch = 0; ch < channels; ch++) {
            const double xhat = (x[ch] - average) * scale;
            const double g = weight != NULL ? (double)dy[ch] * weight[ch] : dy[ch];
            dinp[row * channels + ch] = (real)(scale * (g - g_mean - xhat * g_xhat_mean));
        }
    }
    for (int ch = 0; weight != NULL && ch < channels; ch++) {
        dweight[ch] += (real)weight_sum[ch];
        dbias[ch] += (real)bias_sum[ch];
    }
done:
    free(bias_sum);
    free(weight_sum);
}
