#include "compute/reference/operations.h"

#include <math.h>
#include <stdlib.h>

/* Writes the mean and 1 / sqrt(variance + eps) of each channel of one sample, in double too. */
static void channel_statistics(real *mean, real *rstd, double *average, double *scale, const real *inp,
                               size_t space, int channels)
{
    for (int ch = 0; ch < channels; ch++) {
        average[ch] = scale[ch] = 0;
    }
    for (size_t row = 0; row < space; row++) {
        for (int ch = 0; ch < channels; ch++) {
            average[ch] += inp[row * channels + ch];
        }
    }
    for (int ch = 0; ch < channels; ch++) {
        average[ch] /= (double)space;
    }
    for (size_t row = 0; row < space; row++) {
        for (int ch = 0; ch < channels; ch++) {
            const double distance = inp[row * channels + ch] - average[ch];
            scale[ch] += distance * distance;
        }
    }
    for (int ch = 0; ch < channels; ch++) {
        scale[ch] = 1 / sqrt(scale[ch] / (double)space + normalisation_epsilon);
        mean[ch] = (real)average[ch];
        rstd[ch] = (real)scale[ch];
    }
}

void reference_instance_norm_forward(struct compute *c, real *out, real *mean, real *rstd, const real *inp,
                                     const real *residual, real slope, int n, size_t space, int channels)
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
                double v = (inp[k] - average[ch]) * scale[ch];
                if (residual != NULL) {
                    v += residual[k];
                }
                out[k] = (real)(v > 0 ? v : slope * v);
            }
        }
    }
done:
    free(scale);
    free(average);
}

/* The gradient with respect to the argument of act. */
static double before_activation(double dout, const real *out, size_t k, double slope)
{
    return slope == 1 || out[k] > 0 ? dout : slope * dout;
}

/* With xhat = (x - mean) rstd and g the gradient before the activation, means over space:
 * dinp = rstd (g - mean(g) - xhat mean(g xhat)), dresidual = g. */
void reference_instance_norm_backward(struct compute *c, real *dinp, real *dresidual, const real *dout,
                                      const real *out, const real *inp, const real *mean, const real *rstd,
                                      real slope, int n, size_t space, int channels)
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
            const double g = before_activation(dout[k], out, k, slope);
            g_mean[ch] += g / (double)space;
            g_xhat_mean[ch] += g * ((double)inp[k] - average[ch]) * scale[ch] / (double)space;
        }
        for (size_t k = first; k < first + space * channels; k++) {
            const int ch = (int)((k - first) % channels);
            const double g = before_activation(dout[k], out, k, slope);
            const double xhat = ((double)inp[k] - average[ch]) * scale[ch];
            if (dresidual != NULL) {
                dresidual[k] = (real)g;
            }
            dinp[k] = (real)(scale[ch] * (g - g_mean[ch] - xhat * g_xhat_mean[ch]));
        }
    }
done:
    free(g_xhat_mean);
    free(g_mean);
}
