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

void reference_pooled_norm_forward(struct compute *c, real *pooled, size_t stride, real *bends,
                                   const activation *inp, const struct norm_activation *norm,
                                   const struct pooled_residual *residual, int n, size_t space, int channels)
{
    const size_t moments = (size_t)n * channels;
    if (c->status != VOCO_OK) {
        return;
    }
    for (int sample = 0; sample < n; sample++) {
        const struct grid g = grid_of(inp, norm, residual, sample, space, channels);
        for (int ch = 0; ch < channels; ch++) {
            double sum = 0, bend_sum = 0, bend_xhat = 0, bend_distance = 0;
            for (size_t row = 0; row < space; row++) {
                const double v = before_activation(&g, row, ch), bend = v > 0 ? 1 : g.slope;
                sum += bend * v;
                bend_sum += bend;
                bend_xhat += bend * normal(&g, row, ch);
                bend_distance += g.scale != NULL ? bend * (g.residual[row].value - g.centre) : 0;
            }
            real *to = bends + (size_t)sample * channels + ch;
            pooled[sample * stride + ch] = (real)(sum / (double)space);
            to[0] = (real)(bend_sum / (double)space);
            to[moments] = (real)(bend_xhat / (double)space);
            to[2 * moments] = (real)((g.scale != NULL ? bend_distance : sum) / (double)space);
        }
    }
}

/* Through activation, norm and residual of one channel, whose mean has the gradient dmean. */
static void channel_backward(const struct grid *g, int ch, double dmean, double bend_mean,
                             double bend_xhat_mean, activation *dinp, activation *dresidual)
{
    const double share = dmean / (double)g->space;
    for (size_t row = 0; row < g->space; row++) {
        const double bend = before_activation(g, row, ch) > 0 ? 1 : g->slope;
        dinp[row * g->channels + ch].value =
            (real)(share * g->rstd[ch] * (bend - bend_mean - normal(g, row, ch) * bend_xhat_mean));
        if (g->scale == NULL) {
            dresidual[row * g->channels + ch].value = (real)(share * bend);
        }
    }
}

void reference_pooled_norm_backward(struct compute *c, activation *dinp, activation *dresidual, real *dscale,
                                    const real *dpooled, size_t stride, const real *bends,
                                    const activation *inp, const struct norm_activation *norm,
                                    const struct pooled_residual *residual, int n, size_t space, int channels)
{
    const size_t moments = (size_t)n * channels;
    if (c->status != VOCO_OK) {
        return;
    }
    for (int sample = 0; sample < n; sample++) {
        const struct grid g = grid_of(inp, norm, residual, sample, space, channels);
        const size_t first = sample * space * channels;
        for (int ch = 0; ch < channels; ch++) {
            const size_t moment = (size_t)sample * channels + ch;
            const double dmean = dpooled[sample * stride + ch];
            channel_backward(&g, ch, dmean, bends[moment], bends[moments + moment], dinp + first,
                             g.scale == NULL ? dresidual + first : NULL);
            if (g.scale != NULL) {
                dscale[moment] = (real)(dmean * bends[2 * moments + moment]);
            }
        }
    }
}
