#include "compute/reference/operations.h"

#include <stdlib.h>

/* One grid's channels: where its rows begin, and its moments. */
struct grid {
    const activation *inp;
    size_t space;
    int channels;
    const real *mean, *rstd;
    const activation *residual; /* rows of channels, or of one channel */
    const real *scale;          /* or NULL */
    double centre, slope;
};

static struct grid grid_of(const activation *inp, const struct norm_activation *norm,
                           const struct pooled_residual *residual, int sample, size_t space, int channels)
{
    const size_t moments = (size_t)sample * channels, row = sample * space;
    return (struct grid){.inp = inp + row * channels,
                         .space = space,
                         .channels = channels,
                         .mean = norm->mean + moments,
                         .rstd = norm->rstd + moments,
                         .residual = residual->x + (residual->scale != NULL ? row : row * channels),
                         .scale = residual->scale != NULL ? residual->scale + moments : NULL,
                         .centre = residual->scale != NULL ? residual->centre[sample] : 0,
                         .slope = norm->slope};
}

static double normal(const struct grid *g, size_t row, int ch)
{
    return ((double)g->inp[row * g->channels + ch].value - g->mean[ch]) * g->rstd[ch];
}

/* What the activation takes. */
static double before_activation(const struct grid *g, size_t row, int ch)
{
    const double residual = g->scale != NULL ? g->scale[ch] * (g->residual[row].value - g->centre)
                                             : g->residual[row * g->channels + ch].value;
    return normal(g, row, ch) + residual;
}

void reference_pooled_norm_forward(struct compute *c, real *pooled, size_t stride, const activation *inp,
                                   const struct norm_activation *norm, const struct pooled_residual *residual,
                                   int n, size_t space, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (int sample = 0; sample < n; sample++) {
        const struct grid g = grid_of(inp, norm, residual, sample, space, channels);
        for (int ch = 0; ch < channels; ch++) {
            double sum = 0;
            for (size_t row = 0; row < space; row++) {
                const double v = before_activation(&g, row, ch);
                sum += v > 0 ? v : g.slope * v;
            }
            pooled[sample * stride + ch] = (real)(sum / (double)space);
        }
    }
}

/* Through activation, norm and residual of one channel, whose mean has the gradient dmean. */
static void channel_backward(const struct grid *g, int ch, double dmean, activation *dinp,
                             activation *dresidual, real *dscale)
{
    const double space = (double)g->space;
    double g_mean = 0, g_xhat_mean = 0, scale_sum = 0;
    for (size_t row = 0; row < g->space; row++) {
        const double gradient = dmean / space * (before_activation(g, row, ch) > 0 ? 1 : g->slope);
        g_mean += gradient / space;
        g_xhat_mean += gradient * normal(g, row, ch) / space;
        if (g->scale != NULL) {
            scale_sum += gradient * (g->residual[row].value - g->centre);
        }
    }
    for (size_t row = 0; row < g->space; row++) {
        const double gradient = dmean / space * (before_activation(g, row, ch) > 0 ? 1 : g->slope);
        dinp[row * g->channels + ch].value =
            (real)(g->rstd[ch] * (gradient - g_mean - normal(g, row, ch) * g_xhat_mean));
        if (g->scale == NULL) {
            dresidual[row * g->channels + ch].value = (real)gradient;
        }
    }
    if (g->scale != NULL) {
        *dscale = (real)scale_sum;
    }
}

void reference_pooled_norm_backward(struct compute *c, activation *dinp, activation *dresidual, real *dscale,
                                    const real *dpooled, size_t stride, const activation *inp,
                                    const struct norm_activation *norm,
                                    const struct pooled_residual *residual, int n, size_t space, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (int sample = 0; sample < n; sample++) {
        const struct grid g = grid_of(inp, norm, residual, sample, space, channels);
        const size_t first = sample * space * channels;
        for (int ch = 0; ch < channels; ch++) {
            channel_backward(&g, ch, dpooled[sample * stride + ch], dinp + first,
                             g.scale == NULL ? dresidual + first : NULL,
                             g.scale != NULL ? dscale + (size_t)sample * channels + ch : NULL);
        }
    }
}
