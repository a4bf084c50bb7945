#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/thread_sums.h"
#include "compute/cpu/kernels/vector.h"

void KERNEL(activations_from_reals)(struct compute *c, activation *out, const float *inp, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const int threads = cpu_state(c)->threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        const size_t begin = share_begin(count, part, threads), end = share_begin(count, part + 1, threads);
        activations_of(out + begin, inp + begin, end - begin);
    }
}

void KERNEL(reals_from_activations)(struct compute *c, float *out, const activation *inp, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const int threads = cpu_state(c)->threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        const size_t begin = share_begin(count, part, threads), end = share_begin(count, part + 1, threads);
        floats_of(out + begin, inp + begin, end - begin);
    }
}

void KERNEL(add)(struct compute *c, activation *out, const activation *a, const activation *b, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const size_t whole = count / lanes * lanes;
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < whole; k += lanes) {
        store_activations(out + k, load_activations(a + k) + load_activations(b + k));
    }
    const int rest = (int)(count - whole);
    store_activations_part(
        out + whole, load_activations_part(a + whole, rest) + load_activations_part(b + whole, rest), rest);
}

/* previous, not NULL, is written too. */
static void move_and_remember(const struct compute *c, float *average, float *previous, const float *value,
                              float decay, size_t count)
{
    const float rest = 1 - decay;
#pragma omp parallel for simd schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < count; k++) {
        const float before = average[k];
        previous[k] = before;
        average[k] = decay * before + rest * value[k];
    }
}

void KERNEL(moving_average)(struct compute *c, float *average, float *previous, const float *value,
                            float decay, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    if (previous != NULL) {
        move_and_remember(c, average, previous, value, decay, count);
        return;
    }
    const float rest = 1 - decay;
#pragma omp parallel for simd schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < count; k++) {
        average[k] = decay * average[k] + rest * value[k];
    }
}

void KERNEL(zero)(struct compute *c, float *x, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
#pragma omp parallel for simd schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < count; k++) {
        x[k] = 0;
    }
}

void KERNEL(sum_in_order)(struct compute *c, float *out, const activation *parts, int n, size_t count,
                          float scale)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const size_t whole = count / lanes * lanes;
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < whole; k += lanes) {
        vec sum = load_activations(parts + k);
        for (int part = 1; part < n; part++) {
            sum += load_activations(parts + (size_t)part * count + k);
        }
        store(out + k, sum * scale);
    }
    for (size_t k = whole; k < count; k++) {
        float sum = float_of(parts[k]);
        for (int part = 1; part < n; part++) {
            sum += float_of(parts[(size_t)part * count + k]);
        }
        out[k] = sum * scale;
    }
}

void KERNEL(sum_of_squares)(struct compute *c, double *sum, const float *x, size_t count)
{
    enum { block = 4096 };
    const size_t blocks = (count + block - 1) / block;
    const int threads = cpu_state(c)->threads;
    *sum = 0;
    if (c->status != VOCO_OK) {
        return;
    }
    double *sums = cpu_scratch(c, threads * sizeof *sums);
    if (sums == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        double of_part = 0;
        for (size_t b = share_begin(blocks, part, threads); b < share_begin(blocks, part + 1, threads); b++) {
            const size_t end = (b + 1) * block < count ? (b + 1) * block : count;
            double of_block = 0;
#pragma omp simd reduction(+ : of_block)
            for (size_t k = b * block; k < end; k++) {
                of_block += (double)x[k] * x[k];
            }
            of_part += of_block;
        }
        sums[part] = of_part;
    }
    for (int part = 0; part < threads; part++) {
        *sum += sums[part];
    }
}

void KERNEL(add_bias)(struct compute *c, activation *x, const float *bias, size_t rows, int channels)
{
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t row = 0; row < rows; row++) {
        activation *to = x + row * channels;
        for (int ch = 0; ch < channels; ch += lanes) {
            const int count = channels - ch < lanes ? channels - ch : lanes;
            store_activations_part(
                to + ch, load_activations_part(to + ch, count) + load_part(bias + ch, count), count);
        }
    }
}

void KERNEL(add_row_sums)(struct compute *c, float *sums, const activation *x, size_t rows, int channels)
{
    enum { block = 256 }; /* rows that are summed in float before they join the double */
    const int threads = cpu_state(c)->threads;
    const size_t blocks = (rows + block - 1) / block;
    const size_t stride = float_bytes(channels) / sizeof(float);
    double *totals = cpu_scratch(c, threads * stride * (sizeof(double) + sizeof(float)));
    if (totals == NULL) {
        return;
    }
    float *partials = (float *)(totals + threads * stride);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        double *total = totals + part * stride;
        float *partial = partials + part * stride;
        memset(total, 0, channels * sizeof *total);
        for (size_t b = share_begin(blocks, part, threads); b < share_begin(blocks, part + 1, threads); b++) {
            const size_t end = (b + 1) * block < rows ? (b + 1) * block : rows;
            memset(partial, 0, channels * sizeof *partial);
            for (size_t row = b * block; row < end; row++) {
#pragma omp simd
                for (int ch = 0; ch < channels; ch++) {
                    partial[ch] += float_of(x[row * channels + ch]);
                }
            }
            for (int ch = 0; ch < channels; ch++) {
                total[ch] += partial[ch];
            }
        }
    }
    add_thread_sums(sums, totals, &(struct thread_sums){stride * sizeof *totals, threads}, channels);
}
