#include "compute/reference/operations.h"

#include <math.h>
#include <stdlib.h>

/* Writes the mean and 1 / sqrt(variance + eps) of each channel of one sample, in double too. */
static void channel_statistics(real *mean, real *rstd, double *average, double *scale, const activation *inp,
                               size_t space, int channels)
{
    for (int ch = 0; ch < channels; ch++) {
        average[ch] = scale[ch] = 0;
    }
    for (size_t row = 0; row < space; row++) {
        for (int ch = 0; ch < channels; ch++) {
            average[ch] += inp[row * channels + ch].value;
        }
    }
    for (int ch = 0; ch < channels; ch++) {
        average[ch] /= (double)space;
    }
    for (size_t row = 0; row < space; row++) {
        for (int ch = 0; ch < channels; ch++) {
            const double distance = inp[row * channels + ch].value - average[ch];
            scale[ch] += distance * distance;
        }
    }
    for (int ch = 0; ch < channels; ch++) {
        scale[ch] = 1 / sqrt(scale[ch] / (double)space + normalisation_epsilon);
        mean[ch] = (real)average[ch];
        rstd[ch] = (real)scale[ch];
    }
}

void reference_instance_norm_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                     const activation *inp, const activation *residual, real slope, int n,
                                     size_t space, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    double *average = zeroed_doubles(c, channels), *scale = zeroed_doubles(c, channels);
    if (average == NULL || scale == NULL) {
        goto done;
    }
    for (int sample = 0; sample < n; sample++) {
        const size_t first = sample * space * channels;
        channel_statistics(mean + (size_t)sample * channels, rstd + (size_t)sample * channels, average, scale,
                           inp + first, space, channels);
        for (size_t row = 0; row < space; row++) {
            for (int ch = 0; ch < channels; ch++) {
                const size_t k = first + row * channels + ch;
                double v = (inp[k].value - average[ch]) * scale[ch];
                if (residual != NULL) {
                    v += residual[k].value;
                }
                out[k].value = (real)(v > 0 ? v : slope * v);
            }
        }
    }
done:
    free(scale);
    free(average);
}

/* The gradient with respect to the argument of act. */
static double before_activation(double dout, const activation *out, size_t k, double slope)
{
    return slope == 1 || out[k].value > 0 ? dout : slope * dout;
}

/* With xhat = (x - mean) rstd and g the gradient before the activation, means over space:
 * dinp = rstd (g - mean(g) - xhat mean(g xhat)), dresidual = g. */
void reference_instance_norm_backward(struct compute *c, activation *dinp, activation *dresidual,
                                      const activation *dout, const activation *out, const activation *inp,
                                      const real *mean, const real *rstd, real slope, int n, size_t space,
                                      int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    double *g_mean = zeroed_doubles(c, channels), *g_xhat_mean = zeroed_doubles(c, channels);
    if (g_mean == NULL || g_xhat_mean == NULL) {
        goto done;
    }
    for (int sample = 0; sample < n; sample++) {
        const size_t first = sample * space * channels;
        const real *average = mean + (size_t)sample * channels, *scale = rstd + (size_t)sample * channels;
        for (int ch = 0; ch < channels; ch++) {
            g_mean[ch] = g_xhat_mean[ch] = 0;
        }
        for (size_t k = first; k < first + space * channels; k++) {
            const int ch = (int)((k - first) % channels);
            const double g = before_activation(dout[k].value, out, k, slope);
            g_mean[ch] += g / (double)space;
            g_xhat_mean[ch] += g * ((double)inp[k].value - average[ch]) * scale[ch] / (double)space;
        }
        for (size_t k = first; k < first + space * channels; k++) {
            const int ch = (int)((k - first) % channels);
            const double g = before_activation(dout[k].value, out, k, slope);
            const double xhat = ((double)inp[k].value - average[ch]) * scale[ch];
            if (dresidual != NULL) {
                dresidual[k].value = (real)g;
            }
            dinp[k].value = (real)(scale[ch] * (g - g_mean[ch] - xhat * g_xhat_mean[ch]));
        }
    }
done:
    free(g_xhat_mean);
    free(g_mean);
}
