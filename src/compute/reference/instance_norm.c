#include "compute/reference/operations.h"

#include <math.h>
#include <stdlib.h>

/* The mean and 1 / sqrt(variance + eps) of each channel of one sample. */
static void sample_moments(real *mean, real *rstd, const activation *inp, size_t space, int channels)
{
    for (int ch = 0; ch < channels; ch++) {
        double average = 0, variance = 0;
        for (size_t row = 0; row < space; row++) {
            average += inp[row * channels + ch].value;
        }
        average /= (double)space;
        for (size_t row = 0; row < space; row++) {
            const double distance = inp[row * channels + ch].value - average;
            variance += distance * distance;
        }
        mean[ch] = (real)average;
        rstd[ch] = (real)(1 / sqrt(variance / (double)space + normalisation_epsilon));
    }
}

void reference_instance_norm_moments(struct compute *c, real *mean, real *rstd, const activation *inp, int n,
                                     size_t space, int channels)
{
    for (int sample = 0; c->status == VOCO_OK && sample < n; sample++) {
        const size_t first = (size_t)sample * channels;
        sample_moments(mean + first, rstd + first, inp + first * space, space, channels);
    }
}

void reference_instance_norm_apply(struct compute *c, activation *out, const activation *inp,
                                   const struct norm_activation *norm, const activation *residual, int n,
                                   size_t space, int channels)
{
    const size_t size = space * channels;
    if (c->status != VOCO_OK) {
        return;
    }
    for (size_t k = 0; k < n * size; k++) {
        const size_t moment = k / size * channels + k % channels;
        double v = ((double)inp[k].value - norm->mean[moment]) * norm->rstd[moment];
        if (residual != NULL) {
            v += residual[k].value;
        }
        out[k].value = (real)(v > 0 ? v : norm->slope * v);
    }
}

void reference_instance_norm_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                     const activation *inp, const activation *residual, real slope, int n,
                                     size_t space, int channels)
{
    const struct norm_activation norm = {.mean = mean, .rstd = rstd, .slope = slope};
    reference_instance_norm_moments(c, mean, rstd, inp, n, space, channels);
    reference_instance_norm_apply(c, out, inp, &norm, residual, n, space, channels);
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
