#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/layer_norm_rows.h"
#include "compute/cpu/kernels/thread_sums.h"
#include "compute/cpu/kernels/vector.h"

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
        const struct row_moments moments = moments_of_row(x, channels);
        normalise_row(out + row * channels, x, moments, weight, bias, channels);
        mean[row] = moments.average;
        rstd[row] = moments.scale;
    }
}

void KERNEL(layer_norm_backward)(struct compute *c, activation *dinp, float *dweight, float *dbias,
                                 const activation *dout, const activation *inp, const float *mean,
                                 const float *rstd, const float *weight, const activation *residual,
                                 size_t rows, int channels)
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
    if (weight != NULL) {
        const struct thread_sums all = {stride * sizeof *totals, threads};
        add_thread_sums(dweight, totals, &all, channels);
        add_thread_sums(dbias, totals + stride / 2, &all, channels);
    }
    if (residual != NULL) {
        KERNEL(add)(c, dinp, dinp, residual, rows * (size_t)channels);
    }
}
