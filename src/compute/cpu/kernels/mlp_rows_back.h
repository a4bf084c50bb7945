/* Rows of an MLP on their way back through its norm, and past it. */
#ifndef COMPUTE_CPU_KERNELS_MLP_ROWS_BACK_H
#define COMPUTE_CPU_KERNELS_MLP_ROWS_BACK_H

#include "compute/cpu/kernels/layer_norm_rows.h"
#include "compute/cpu/kernels/row_blocks.h"

/* dx = dout + rstd (g - mean(g) - xhat mean(g xhat)) with g = dnormed weight. */
struct rows_back {
    const activation *x, *dout; /* (count, channels) */
    activation *dx;
    const float *dnormed; /* (count, pitch), zeros behind the last channel up to a whole vector */
    int pitch;
    const struct row_moments *moments;
    int count, channels;
    const float *weight;             /* of the norm */
    float *dweight, *dbias, *dbias2; /* whole vectors, to which the rows' share is added */
};

static ALWAYS_INLINE vec xhat_of(const struct rows_back *rows, int r, int ch)
{
    const vec x =
        load_activations_up_to(rows->x + (size_t)r * rows->channels + ch, vector_length(ch, rows->channels));
    return (x - rows->moments[r].average) * rows->moments[r].scale;
}

/* The means of g and of g xhat of up to moment_rows rows, and their share of the norm's parameters. */
static inline void means_of_rows_back(float g_mean[moment_rows], float g_xhat_mean[moment_rows],
                                      const struct rows_back *rows)
{
    vec g[moment_rows] = {{0}}, g_xhat[moment_rows] = {{0}};
    for (int ch = 0; ch < rows->channels; ch += lanes) {
        const vec weight = load_part(rows->weight + ch, vector_length(ch, rows->channels));
        vec weight_sum = load(rows->dweight + ch), bias_sum = load(rows->dbias + ch);
        for (int r = 0; r < rows->count; r++) {
            const vec upstream = load(rows->dnormed + (size_t)r * rows->pitch + ch);
            const vec product = upstream * xhat_of(rows, r, ch);
            weight_sum += product;
            bias_sum += upstream;
            g[r] += upstream * weight;
            g_xhat[r] += product * weight;
        }
        store(rows->dweight + ch, weight_sum);
        store(rows->dbias + ch, bias_sum);
    }
    sums_of_16(g_mean, g);
    sums_of_16(g_xhat_mean, g_xhat);
    for (int r = 0; r < moment_rows; r++) {
        g_mean[r] /= (float)rows->channels;
        g_xhat_mean[r] /= (float)rows->channels;
    }
}

static inline void few_rows_back(const struct rows_back *rows)
{
    float g_mean[moment_rows], g_xhat_mean[moment_rows];
    means_of_rows_back(g_mean, g_xhat_mean, rows);
    for (int ch = 0; ch < rows->channels; ch += lanes) {
        const int count = vector_length(ch, rows->channels);
        const vec weight = load_part(rows->weight + ch, count);
        vec bias_sum = load(rows->dbias2 + ch);
        for (int r = 0; r < rows->count; r++) {
            const size_t at = (size_t)r * rows->channels + ch;
            const vec past = load_activations_up_to(rows->dout + at, count);
            const vec g = load(rows->dnormed + (size_t)r * rows->pitch + ch) * weight;
            const vec through = g - g_mean[r] - xhat_of(rows, r, ch) * g_xhat_mean[r];
            bias_sum += past;
            store_activations_up_to(rows->dx + at, through * rows->moments[r].scale + past, count);
        }
        store(rows->dbias2 + ch, bias_sum);
    }
}

static inline void mlp_rows_back(const struct rows_back *rows)
{
    for (int first = 0; first < rows->count; first += moment_rows) {
        const size_t at = (size_t)first * rows->channels;
        struct rows_back few = *rows;
        few.x += at;
        few.dout += at;
        few.dx += at;
        few.dnormed += (size_t)first * rows->pitch;
        few.moments += first;
        few.count = rows->count - first < moment_rows ? rows->count - first : moment_rows;
        few_rows_back(&few);
    }
}

#endif
