/* Layer norm of one row, forward and backward. */
#ifndef COMPUTE_CPU_KERNELS_LAYER_NORM_ROWS_H
#define COMPUTE_CPU_KERNELS_LAYER_NORM_ROWS_H

#include "compute/compute.h"
#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/vector.h"

#include <math.h>

static inline float row_sum(const activation *x, int channels)
{
    vec sum = {0};
    int ch = 0;
    for (; ch + lanes <= channels; ch += lanes) {
        sum += load_activations(x + ch);
    }
    return sum_of_lanes(sum + load_activations_part(x + ch, channels - ch));
}

static inline float row_squares(const activation *x, float mean, int channels)
{
    vec sum = {0};
    int ch = 0;
    for (; ch + lanes <= channels; ch += lanes) {
        const vec distance = load_activations(x + ch) - mean;
        sum += distance * distance;
    }
    const vec distance = keep_part(load_activations_part(x + ch, channels - ch) - mean, channels - ch);
    return sum_of_lanes(sum + distance * distance);
}

struct row_moments {
    float average, scale; /* mean, and 1 / sqrt(variance + eps) */
};

static inline struct row_moments moments_of_row(const activation *x, int channels)
{
    const float average = row_sum(x, channels) / (float)channels;
    const float variance = row_squares(x, average, channels) / (float)channels;
    return (struct row_moments){average, 1 / sqrtf(variance + (float)normalisation_epsilon)};
}

enum { moment_rows = 16 };

/* Of up to moment_rows rows at once, whose lanes are summed together. */
static inline void moments_of_rows(struct row_moments *moments, const activation *x, int rows, int channels)
{
    const float share = 1 / (float)channels;
    vec sum[moment_rows] = {{0}}, squares[moment_rows] = {{0}};
    float average[moment_rows], variance[moment_rows];
    for (int r = 0; r < rows; r++) {
        for (int ch = 0; ch < channels; ch += lanes) {
            sum[r] += load_activations_up_to(x + (size_t)r * channels + ch, channels - ch);
        }
    }
    sums_of_16(average, sum);
    for (int r = 0; r < rows; r++) {
        average[r] *= share;
        for (int ch = 0; ch < channels; ch += lanes) {
            vec distance = load_activations_up_to(x + (size_t)r * channels + ch, channels - ch) - average[r];
            if (channels - ch < lanes) {
                distance = keep_part(distance, channels - ch);
            }
            squares[r] += distance * distance;
        }
    }
    sums_of_16(variance, squares);
    for (int r = 0; r < rows; r++) {
        moments[r].average = average[r];
        moments[r].scale = 1 / sqrtf(variance[r] * share + (float)normalisation_epsilon);
    }
}

/* y may be x; weight and bias both or neither. */
static inline void normalise_row(activation *y, const activation *x, struct row_moments m,
                                 const float *weight, const float *bias, int channels)
{
    for (int ch = 0; ch < channels; ch += lanes) {
        const int count = channels - ch < lanes ? channels - ch : lanes;
        vec normal = (load_activations_part(x + ch, count) - m.average) * m.scale;
        if (weight != NULL) {
            normal = normal * load_part(weight + ch, count) + load_part(bias + ch, count);
        }
        store_activations_part(y + ch, normal, count);
    }
}

/* dinp = rstd (g - mean(g) - xhat mean(g xhat)) with g = dout weight; adds the row's share of dweight and
 * dbias to the partial sums where there are weights. */
static inline void row_backward(activation *dx, float *dweight, float *dbias, const activation *dy,
                                const activation *x, float average, float scale, const float *weight,
                                int channels)
{
    vec g_sum = {0}, g_xhat_sum = {0};
    for (int ch = 0; ch < channels; ch += lanes) {
        const int count = channels - ch < lanes ? channels - ch : lanes;
        const vec upstream = load_activations_part(dy + ch, count);
        const vec xhat = (load_activations_part(x + ch, count) - average) * scale;
        const vec product = upstream * xhat; /* zero behind the last channel, as upstream is */
        if (weight != NULL) {
            const vec of_channel = load_part(weight + ch, count);
            g_sum += upstream * of_channel;
            g_xhat_sum += product * of_channel;
            store_part(dweight + ch, load_part(dweight + ch, count) + product, count);
            store_part(dbias + ch, load_part(dbias + ch, count) + upstream, count);
        } else {
            g_sum += upstream;
            g_xhat_sum += product;
        }
    }
    const float g_mean = sum_of_lanes(g_sum) / (float)channels;
    const float g_xhat_mean = sum_of_lanes(g_xhat_sum) / (float)channels;
    for (int ch = 0; ch < channels; ch += lanes) {
        const int count = channels - ch < lanes ? channels - ch : lanes;
        vec g = load_activations_part(dy + ch, count);
        if (weight != NULL) {
            g *= load_part(weight + ch, count);
        }
        const vec xhat = (load_activations_part(x + ch, count) - average) * scale;
        store_activations_part(dx + ch, (g - g_mean - xhat * g_xhat_mean) * scale, count);
    }
}

#endif
