#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

#include <math.h>

static float row_sum(const activation *x, int channels)
{
    vec sum = {0};
    int ch = 0;
    for (; ch + lanes <= channels; ch += lanes) {
        sum += load_activations(x + ch);
    }
    return sum_of_lanes(sum + load_activations_part(x + ch, channels - ch));
}

static float row_squares(const activation *x, float mean, int channels)
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

void KERNEL(layer_norm_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                const activation *inp, const float *weight, const float *bias, size_t rows,
                                int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t row = 0; row < rows; row++) {
        const activation *x = inp + row * channels;
        activation *y = out + row * channels;
        const float average = row_sum(x, channels) / (float)channels;
        const float variance = row_squares(x, average, channels) / (float)channels;
        const float scale = 1 / sqrtf(variance + normalisation_epsilon);
        for (int ch = 0; ch < channels; ch += lanes) {
            const int count = channels - ch < lanes ? channels - ch : lanes;
            vec normal = (load_activations_part(x + ch, count) - average) * scale;
            if (weight != NULL) {
                normal = normal * load_part(weight + ch, count) + load_part(bias + ch, count);
            }
            store_activations_part(y + ch, normal, count);
        }
        mean[row] = average;
        rstd[row] = scale;
    }
}

/* dinp = rstd (g - mean(g) - xhat mean(g xhat)) with g = dout weight; adds the row's share of dweight and
 * dbias to the partial sums where there are weights. */
static void row_backward(activation *dx, float *dweight, float *dbias, const activation *dy,
                         const activation *x, float average, float scale, const float *weight, int channels)
{
    vec g_sum = {0}, g_xhat_sum = {0};
    for (int ch = 0; ch < channels; ch += lanes) {
        const int count = channels - ch < lanes ? channels - ch : lanes;
        const vec upstream = load_activations_part(dy + ch, count);
        const vec xhat = (load_activations_part(x + ch, count) - average) * scale;
        const vec product = upstream * xhat; /* zero behind the last channel, as upstream is */
        if (weight != NULL) {
            const vec factor = load_part(weight + ch, count);
            g_sum += upstream * factor;
            g_xhat_sum += product * factor;
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

void KERNEL(layer_norm_backward)(struct compute *c, activation *dinp, float *dweight, float *dbias,
                                 const activation *dout, const activation *inp, const float *mean,
                                 const float *rstd, const float *weight, size_t rows, int channels)
{
    enum { block = 128 }; /* rows whose dweight and dbias are summed in float before they join the double */
    if (c->status != VOCO_OK) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    const size_t blocks = (rows + block - 1) / block;
    const size_t stride = 2 * float_bytes(channels) / sizeof(float); /* dweight, then dbias */
    double *totals = cpu_scratch(c, threads * stride * (sizeof(double) + sizeof(float)));
    if (totals == NULL) {
        return;
    }
    float *partials = (float *)(totals + threads * stride);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        double *total = totals + part * stride;
        float *partial = partials + part * stride;
        memset(total, 0, stride * sizeof *total);
        for (size_t b = share_begin(blocks, part, threads); b < share_begin(blocks, part + 1, threads); b++) {
            const size_t end = (b + 1) * block < rows ? (b + 1) * block : rows;
            memset(partial, 0, stride * sizeof *partial);
            for (size_t row = b * block; row < end; row++) {
                row_backward(dinp + row * channels, partial, partial + stride / 2, dout + row * channels,
                             inp + row * channels, mean[row], rstd[row], weight, channels);
            }
            for (size_t k = 0; k < stride; k++) {
                total[k] += partial[k];
            }
        }
    }
    for (int ch = 0; weight != NULL && ch < channels; ch++) {
        double weight_sum = 0, bias_sum = 0;
        for (int part = 0; part < threads; part++) {
            weight_sum += totals[part * stride + ch];
            bias_sum += totals[part * stride + stride / 2 + ch];
        }
        dweight[ch] += (float)weight_sum;
        dbias[ch] += (float)bias_sum;
    }
}
