#include "compute/reference/operations.h"

#include <math.h>

void reference_channel_scale_forward(struct compute *c, real *scale, real *dscale_dweight, const real *weight,
                                     const real *rstd, int n, int channels)
{
    const size_t count = (size_t)n * channels;
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        const double r = rstd[k / channels], w = weight[k % channels];
        const double variance = fmax(1 / (r * r) - normalisation_epsilon, 0);
        const double root = sqrt(w * w * variance + normalisation_epsilon);
        scale[k] = (real)(w / root);
        dscale_dweight[k] = (real)(normalisation_epsilon / (root * root * root));
    }
}

void reference_channel_scale_backward(struct compute *c, real *dweight, const real *dscale,
                                      const real *dscale_dweight, int n, int channels)
{
    for (int ch = 0; c->status == VOCO_OK && ch < channels; ch++) {
        double sum = 0;
        for (int i = 0; i < n; i++) {
            const size_t k = (size_t)i * channels + ch;
            sum += (double)dscale[k] * dscale_dweight[k];
        }
        dweight[ch] += (real)sum;
    }
}
