#include "compute/reference/operations.h"

#include <math.h>
#include <stdlib.h>

void reference_layer_norm_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                  const activation *inp, const real *weight, const real *bias, size_t rows,
                                  int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (size_t row = 0; row < rows; row++) {
        const activation *x = inp + row * channels;
        activation *y = out + row * channels;
        double average = 0, variance = 0;
        for (int ch = 0; ch < channels; ch++) {
            average += x[ch].value;
        }
        average /= channels;
        for (int ch = 0; ch < channels; ch++) {
            variance += (x[ch].value - average) * (x[ch].value - average);
        }
        variance /= channels;
        const double scale = 1 / sqrt(variance + normalisation_epsilon);
        for (int ch = 0; ch < channels; ch++) {
            const double normal = (x[ch].value - average) * scale;
            y[ch].value = (real)(weight != NULL ? normal * weight[ch] + bias[ch] : normal);
        }
        mean[row] = (real)average;
        rstd[row] = (real)scale;
    }
}

/* With xhat = (x - mean) rstd and g = dout weight: dinp = rstd (g - mean(g) - xhat mean(g xhat)), + residual.
 */
void reference_layer_norm_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                                   const activation *dout, const activation *inp, const real *mean,
                                   const real *rstd, const real *weight, const activation *residual,
                                   size_t rows, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    double *weight_sum = zeroed_doubles(c, channels), *bias_sum = zeroed_doubles(c, channels);
    if (weight_sum == NULL || bias_sum == NULL) {
        goto done;
    }
    for (size_t row = 0; row < rows; row++) {
        const activation *x = inp + row * channels, *dy = dout + row * channels;
        const double average = mean[row], scale = rstd[row];
        double g_mean = 0, g_xhat_mean = 0;
        for (int ch = 0; ch < channels; ch++) {
            const double xhat = (x[ch].value - average) * scale;
            const double g = weight != NULL ? (double)dy[ch].value * weight[ch] : dy[ch].value;
            g_mean += g / channels;
            g_xhat_mean += g * xhat / channels;
            weight_sum[ch] += dy[ch].value * xhat;
            bias_sum[ch] += dy[ch].value;
        }
        for (int ch = 0; ch < channels; ch++) {
            const double xhat = (x[ch].value - average) * scale;
            const double g = weight != NULL ? (double)dy[ch].value * weight[ch] : dy[ch].value;
            const double past = residual != NULL ? residual[row * channels + ch].value : 0;
            dinp[row * channels + ch].value = (real)(scale * (g - g_mean - xhat * g_xhat_mean) + past);
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
