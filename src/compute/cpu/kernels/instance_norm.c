#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

#include <math.h>

/* Rows of channels are not whole vectors, but every `period` floats, the least common multiple of channels
 * and lanes, vectors and channels meet again. What belongs to a channel is therefore kept repeated over a
 * period, and a sample is worked through in blocks of whole periods: blocks are what threads share out, and
 * what sums in float run over before they are merged in double, in order. */
struct blocks {
    int n, channels;
    size_t sample;     /* floats of one sample */
    size_t period;     /* floats */
    size_t block;      /* floats of a block, but for the last of a sample */
    size_t per_sample; /* blocks */
    size_t stride;     /* floats between the sums of two blocks: two for each channel */
};

enum { preferred_block = 8192 };

static struct blocks cut_blocks(int n, size_t space, int channels)
{
    int period = channels;
    while (period % lanes != 0) {
        period += channels;
    }
    struct blocks b = {.n = n, .channels = channels, .sample = space * channels, .period = period};
    const size_t periods = preferred_block / period;
    b.block = b.period * (periods > 0 ? periods : 1);
    b.per_sample = (b.sample + b.block - 1) / b.block;
    b.stride = 2 * (size_t)channels;
    return b;
}

/* Scratch memory: sums of all blocks, four repeated statistics for each sample, two sums over a period for
 * each thread. */
struct norm_memory {
    float *sums, *repeated, *period_sums;
};

static int norm_memory(struct compute *c, struct norm_memory *m, const struct blocks *b)
{
    const size_t sums = float_bytes(b->n * b->per_sample * b->stride);
    const size_t repeated = float_bytes(4 * b->n * b->period);
    const size_t period_sums = float_bytes(2 * cpu_state(c)->threads * b->period);
    unsigned char *memory = cpu_scratch(c, sums + repeated + period_sums);
    if (memory == NULL) {
        return 0;
    }
    m->sums = (float *)memory;
    m->repeated = (float *)(memory + sums);
    m->period_sums = (float *)(memory + sums + repeated);
    return 1;
}

static size_t block_length(const struct blocks *b, size_t index)
{
    const size_t start = index % b->per_sample * b->block;
    return b->sample - start < b->block ? b->sample - start : b->block;
}

static size_t block_rows(const struct blocks *b, size_t index)
{
    return block_length(b, index) / b->channels;
}

static size_t sample_rows(const struct blocks *b)
{
    return b->sample / b->channels;
}

static size_t block_start(const struct blocks *b, size_t index)
{
    return index / b->per_sample * b->sample + index % b->per_sample * b->block;
}

/* result (channels) = the sum over a period's repetitions; then repeated over the period again. */
static void fold(float *result, const float *period_sum, const struct blocks *b)
{
    for (int ch = 0; ch < b->channels; ch++) {
        result[ch] = 0;
    }
    for (size_t k = 0; k < b->period; k += b->channels) {
        for (int ch = 0; ch < b->channels; ch++) {
            result[ch] += period_sum[k + ch];
        }
    }
}

static void repeat(float *period, const float *value, const struct blocks *b)
{
    for (size_t k = 0; k < b->period; k += b->channels) {
        memcpy(period + k, value, b->channels * sizeof *value);
    }
}

static vec deviation_squared(const activation *x, vec mean)
{
    const vec distance = load_activations(x) - mean;
    return distance * distance;
}

static void block_sum(float *sum, const activation *x, size_t length, size_t period)
{
    for (size_t v = 0; v < period; v += lanes) {
        vec first = {0}, second = {0};
        size_t k = v;
        for (; k + period + lanes <= length; k += 2 * period) {
            first += load_activations(x + k);
            second += load_activations(x + k + period);
        }
        if (k < length) {
            const size_t left = length - k;
            first += left < lanes ? load_activations_part(x + k, (int)left) : load_activations(x + k);
        }
        if (k < length && length - k > period) {
            second += load_activations_part(x + k + period, (int)(length - k - period));
        }
        store(sum + v, first + second);
    }
}

static void block_deviation(float *sum, const activation *x, const float *mean, size_t length, size_t period)
{
    for (size_t v = 0; v < period; v += lanes) {
        const vec average = load(mean + v);
        vec first = {0}, second = {0};
        size_t k = v;
        for (; k + period + lanes <= length; k += 2 * period) {
            first += deviation_squared(x + k, average);
            second += deviation_squared(x + k + period, average);
        }
        for (; k < length; k += period) {
            const int left = length - k < lanes ? (int)(length - k) : lanes;
            const vec distance = keep_part(load_activations_part(x + k, left) - average, left);
            first += distance * distance;
        }
        store(sum + v, first + second);
    }
}

/* Mean and sum of squared deviations from it, for each channel of one block. */
static void block_statistics(float *sums, float *work, const activation *x, size_t length,
                             const struct blocks *b)
{
    const size_t row_count = length / b->channels;
    const float rows = (float)row_count;
    float *mean = sums, *deviation = sums + b->channels;
    block_sum(work, x, length, b->period);
    fold(mean, work, b);
    for (int ch = 0; ch < b->channels; ch++) {
        mean[ch] /= rows;
    }
    repeat(work + b->period, mean, b);
    block_deviation(work, x, work + b->period, length, b->period);
    fold(deviation, work, b);
}

/* Statistics of a sample from those of its blocks (Chan et al., "Algorithms for computing the sample
 * variance", 1983). */
static void merge_statistics(float *mean, float *rstd, const float *sums, const struct blocks *b)
{
    const double rows = (double)sample_rows(b);
    for (int ch = 0; ch < b->channels; ch++) {
        double average = 0, deviation = 0;
        for (size_t k = 0; k < b->per_sample; k++) {
            average += (double)block_rows(b, k) * sums[k * b->stride + ch];
        }
        average /= rows;
        for (size_t k = 0; k < b->per_sample; k++) {
            const double apart = sums[k * b->stride + ch] - average;
            deviation += sums[k * b->stride + b->channels + ch] + (double)block_rows(b, k) * apart * apart;
        }
        mean[ch] = (float)average;
        rstd[ch] = (float)(1 / sqrt(deviation / rows + normalisation_epsilon));
    }
}

static vec activate(vec v, float slope)
{
    return choose_positive(v, v, v * slope);
}

static void normalise_block(activation *out, const activation *inp, const activation *residual, float slope,
                            const float *mean, const float *rstd, size_t length, size_t period)
{
    for (size_t start = 0; start < length; start += period) {
        const size_t end = length - start < period ? length - start : period;
        size_t k = 0;
        for (; k + lanes <= end; k += lanes) {
            vec v = (load_activations(inp + start + k) - load(mean + k)) * load(rstd + k);
            if (residual != NULL) {
                v += load_activations(residual + start + k);
            }
            store_activations(out + start + k, activate(v, slope));
        }
        if (k < end) {
            const int left = (int)(end - k);
            vec v = (load_activations_part(inp + start + k, left) - load(mean + k)) * load(rstd + k);
            if (residual != NULL) {
                v += load_activations_part(residual + start + k, left);
            }
            store_activations_part(out + start + k, activate(v, slope), left);
        }
    }
}

/* One norm: what forward works on. */
struct forward_pass {
    struct blocks b;
    struct norm_memory m;
    activation *out;
    float *mean, *rstd;
    const activation *inp, *residual;
    float slope;
};

static void statistics_of_block(const struct forward_pass *p, size_t k, int part)
{
    block_statistics(p->m.sums + k * p->b.stride, p->m.period_sums + 2 * part * p->b.period,
                     p->inp + block_start(&p->b, k), block_length(&p->b, k), &p->b);
}

static void statistics_of_sample(const struct forward_pass *p, size_t i)
{
    const struct blocks *b = &p->b;
    float *mean = p->mean + i * b->channels, *rstd = p->rstd + i * b->channels;
    merge_statistics(mean, rstd, p->m.sums + i * b->per_sample * b->stride, b);
    repeat(p->m.repeated + 4 * i * b->period, mean, b);
    repeat(p->m.repeated + (4 * i + 1) * b->period, rstd, b);
}

static void result_of_block(const struct forward_pass *p, size_t k)
{
    const size_t start = block_start(&p->b, k);
    const float *average = p->m.repeated + 4 * (k / p->b.per_sample) * p->b.period;
    normalise_block(p->out + start, p->inp + start, p->residual != NULL ? p->residual + start : NULL,
                    p->slope, average, average + p->b.period, block_length(&p->b, k), p->b.period);
}

static void forward_of_sample(const struct forward_pass *p, size_t i, int part)
{
    const size_t begin = i * p->b.per_sample, end = begin + p->b.per_sample;
    for (size_t k = begin; k < end; k++) {
        statistics_of_block(p, k, part);
    }
    statistics_of_sample(p, i);
    for (size_t k = begin; k < end; k++) {
        result_of_block(p, k);
    }
}

/* Whole samples for each thread, which then find the second pass in their cache, where there are enough
 * samples. */
static int share_samples(int n, int threads)
{
    return n % threads == 0 || n >= 4 * threads;
}

void KERNEL(instance_norm_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                   const activation *inp, const activation *residual, float slope, int n,
                                   size_t space, int channels)
{
    struct forward_pass p = {.b = cut_blocks(n, space, channels),
                             .out = out,
                             .mean = mean,
                             .rstd = rstd,
                             .inp = inp,
                             .residual = residual,
                             .slope = slope};
    if (c->status != VOCO_OK || !norm_memory(c, &p.m, &p.b)) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    const size_t count = n * p.b.per_sample;
    if (share_samples(n, threads)) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int part = 0; part < threads; part++) {
            for (size_t i = share_begin(n, part, threads); i < share_begin(n, part + 1, threads); i++) {
                forward_of_sample(&p, i, part);
            }
        }
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        for (size_t k = share_begin(count, part, threads); k < share_begin(count, part + 1, threads); k++) {
            statistics_of_block(&p, k, part);
        }
    }
    for (int i = 0; i < n; i++) {
        statistics_of_sample(&p, i);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t k = 0; k < count; k++) {
        result_of_block(&p, k);
    }
}

/* What one block's backward pass reads; out is NULL where there is no activation. */
struct backward_block {
    const activation *dout, *out, *inp;
    float slope;
    size_t length;
};

/* The gradient before the activation. */
static ALWAYS_INLINE vec before_activation(const struct backward_block *x, size_t k, int active)
{
    const vec g = load_activations(x->dout + k);
    return active ? choose_positive(load_activations(x->out + k), g, g * x->slope) : g;
}

/* The same of the last `left` floats. */
static vec last_before_activation(const struct backward_block *x, size_t k, int left)
{
    const vec g = load_activations_part(x->dout + k, left);
    return x->out == NULL ? g : choose_positive(load_activations_part(x->out + k, left), g, g * x->slope);
}

/* Over the repetitions of one vector of the period. Four sums of each kind run side by side, which an
 * addition's latency would otherwise keep waiting for each other. */
static ALWAYS_INLINE void vector_gradient_sums(float *g_sum, float *product_sum,
                                               const struct backward_block *x, vec mean, size_t first,
                                               size_t period, int active)
{
    vec g_sums[4] = {{0}}, product_sums[4] = {{0}};
    size_t k = first;
    for (; k + 3 * period + lanes <= x->length; k += 4 * period) {
        for (int j = 0; j < 4; j++) {
            const vec g = before_activation(x, k + j * period, active);
            g_sums[j] += g;
            product_sums[j] += g * (load_activations(x->inp + k + j * period) - mean);
        }
    }
    for (; k < x->length; k += period) {
        const int left = x->length - k < lanes ? (int)(x->length - k) : lanes;
        const vec g = last_before_activation(x, k, left);
        g_sums[0] += g;
        product_sums[0] += g * (load_activations_part(x->inp + k, left) - mean);
    }
    store(g_sum, (g_sums[0] + g_sums[1]) + (g_sums[2] + g_sums[3]));
    store(product_sum, (product_sums[0] + product_sums[1]) + (product_sums[2] + product_sums[3]));
}

/* Sums of g and of g (x - mean) for each channel of one block. */
static void block_gradient_sums(float *sums, float *work, const struct backward_block *x, const float *mean,
                                const struct blocks *b)
{
    for (size_t v = 0; v < b->period; v += lanes) {
        if (x->out != NULL) {
            vector_gradient_sums(work + v, work + b->period + v, x, load(mean + v), v, b->period, 1);
        } else {
            vector_gradient_sums(work + v, work + b->period + v, x, load(mean + v), v, b->period, 0);
        }
    }
    fold(sums, work, b);
    fold(sums + b->channels, work + b->period, b);
}

/* With xhat = (x - mean) rstd, means over space: dinp = rstd (g - mean(g) - xhat mean(g xhat))
 *  = rstd g - (shift + (x - mean) factor): shift and factor of each channel replace the sums of the first
 * block. */
static void merge_gradient_sums(float *shift, float *factor, const float *sums, const float *rstd,
                                const struct blocks *b)
{
    const double rows = (double)sample_rows(b);
    for (int ch = 0; ch < b->channels; ch++) {
        double g = 0, product = 0;
        for (size_t k = 0; k < b->per_sample; k++) {
            g += sums[k * b->stride + ch];
            product += sums[k * b->stride + b->channels + ch];
        }
        const double scale = rstd[ch];
        shift[ch] = (float)(scale * g / rows);
        factor[ch] = (float)(scale * scale * scale * product / rows);
    }
}

/* What dinp is made of, each repeated over a period. */
struct gradient_terms {
    const float *mean, *rstd, *shift, *factor;
};

static ALWAYS_INLINE vec input_gradient(const struct gradient_terms *t, vec g, vec x, size_t k)
{
    return g * load(t->rstd + k) - load(t->shift + k) - (x - load(t->mean + k)) * load(t->factor + k);
}

static ALWAYS_INLINE void block_input_gradient(activation *dinp, activation *dresidual,
                                               const struct backward_block *x,
                                               const struct gradient_terms *terms, size_t period, int active,
                                               int with_residual)
{
    for (size_t start = 0; start < x->length; start += period) {
        const size_t end = x->length - start < period ? x->length - start : period;
        size_t k = 0;
        for (; k + lanes <= end; k += lanes) {
            const vec g = before_activation(x, start + k, active);
            if (with_residual) {
                store_activations(dresidual + start + k, g);
            }
            store_activations(dinp + start + k,
                              input_gradient(terms, g, load_activations(x->inp + start + k), k));
        }
        if (k < end) {
            const int left = (int)(end - k);
            const vec g = last_before_activation(x, start + k, left);
            if (with_residual) {
                store_activations_part(dresidual + start + k, g, left);
            }
            store_activations_part(
                dinp + start + k,
                input_gradient(terms, g, load_activations_part(x->inp + start + k, left), k), left);
        }
    }
}

/* What backward works on. */
struct backward_pass {
    struct blocks b;
    struct norm_memory m;
    activation *dinp, *dresidual;
    const activation *dout, *out, *inp;
    const float *mean, *rstd;
    float slope;
};

static struct backward_block backward_block(const struct backward_pass *p, size_t k)
{
    const size_t start = block_start(&p->b, k);
    return (struct backward_block){.dout = p->dout + start,
                                   .out = p->slope == 1 ? NULL : p->out + start,
                                   .inp = p->inp + start,
                                   .slope = p->slope,
                                   .length = block_length(&p->b, k)};
}

static void repeat_statistics(const struct backward_pass *p, size_t i)
{
    const struct blocks *b = &p->b;
    repeat(p->m.repeated + 4 * i * b->period, p->mean + i * b->channels, b);
    repeat(p->m.repeated + (4 * i + 1) * b->period, p->rstd + i * b->channels, b);
}

static void gradient_sums_of_block(const struct backward_pass *p, size_t k, int part)
{
    const struct backward_block x = backward_block(p, k);
    block_gradient_sums(p->m.sums + k * p->b.stride, p->m.period_sums + 2 * part * p->b.period, &x,
                        p->m.repeated + 4 * (k / p->b.per_sample) * p->b.period, &p->b);
}

static void gradient_sums_of_sample(const struct backward_pass *p, size_t i)
{
    const struct blocks *b = &p->b;
    float *sums = p->m.sums + i * b->per_sample * b->stride;
    merge_gradient_sums(sums, sums + b->channels, sums, p->rstd + i * b->channels, b);
    repeat(p->m.repeated + (4 * i + 2) * b->period, sums, b);
    repeat(p->m.repeated + (4 * i + 3) * b->period, sums + b->channels, b);
}

static void input_gradient_of_block(const struct backward_pass *p, size_t k)
{
    const struct backward_block x = backward_block(p, k);
    const size_t start = block_start(&p->b, k), period = p->b.period;
    const float *statistics = p->m.repeated + 4 * (k / p->b.per_sample) * period;
    const struct gradient_terms terms = {.mean = statistics,
                                         .rstd = statistics + period,
                                         .shift = statistics + 2 * period,
                                         .factor = statistics + 3 * period};
    if (p->dresidual != NULL && x.out != NULL) {
        block_input_gradient(p->dinp + start, p->dresidual + start, &x, &terms, period, 1, 1);
    } else if (p->dresidual != NULL) {
        block_input_gradient(p->dinp + start, p->dresidual + start, &x, &terms, period, 0, 1);
    } else if (x.out != NULL) {
        block_input_gradient(p->dinp + start, NULL, &x, &terms, period, 1, 0);
    } else {
        block_input_gradient(p->dinp + start, NULL, &x, &terms, period, 0, 0);
    }
}

static void backward_of_sample(const struct backward_pass *p, size_t i, int part)
{
    const size_t begin = i * p->b.per_sample, end = begin + p->b.per_sample;
    repeat_statistics(p, i);
    for (size_t k = begin; k < end; k++) {
        gradient_sums_of_block(p, k, part);
    }
    gradient_sums_of_sample(p, i);
    for (size_t k = begin; k < end; k++) {
        input_gradient_of_block(p, k);
    }
}

void KERNEL(instance_norm_backward)(struct compute *c, activation *dinp, activation *dresidual,
                                    const activation *dout, const activation *out, const activation *inp,
                                    const float *mean, const float *rstd, float slope, int n, size_t space,
                                    int channels)
{
    struct backward_pass p = {.b = cut_blocks(n, space, channels),
                              .dinp = dinp,
                              .dresidual = dresidual,
                              .dout = dout,
                              .out = out,
                              .inp = inp,
                              .mean = mean,
                              .rstd = rstd,
                              .slope = slope};
    if (c->status != VOCO_OK || !norm_memory(c, &p.m, &p.b)) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    const size_t count = n * p.b.per_sample;
    if (share_samples(n, threads)) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int part = 0; part < threads; part++) {
            for (size_t i = share_begin(n, part, threads); i < share_begin(n, part + 1, threads); i++) {
                backward_of_sample(&p, i, part);
            }
        }
        return;
    }
    for (int i = 0; i < n; i++) {
        repeat_statistics(&p, i);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        for (size_t k = share_begin(count, part, threads); k < share_begin(count, part + 1, threads); k++) {
            gradient_sums_of_block(&p, k, part);
        }
    }
    for (int i = 0; i < n; i++) {
        gradient_sums_of_sample(&p, i);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t k = 0; k < count; k++) {
        input_gradient_of_block(&p, k);
    }
}
