#include "compute/cpu/kernels/row_blocks.h"

/* What the passes over space read and write. */
struct norm_pass {
    int channels;
    activation *out;
    const activation *inp, *residual;
    struct norm_activation norm;
    /* backward */
    activation *dinp, *dresidual;
    const activation *dout, *result; /* result: of forward, for its sign */
    const float *shift, *factor;
};

/* The sum over a block's rows of some channels' values, or of their squared distances from the mean; x: the
 * first. Four partial sums: where an image is constant, all roundings of one would go the same way. */
static ALWAYS_INLINE vec sum_of_rows(const activation *x, size_t pitch, int rows, int count, vec mean,
                                     int squared)
{
    vec sums[4] = {{0}};
    for (int r = 0; r < rows; r++) {
        const vec value = load_activations_part(x + r * pitch, count) - mean;
        if (squared) {
            sums[r % 4] += value * value;
        } else {
            sums[r % 4] += value;
        }
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* Mean and sum of squared deviations of each channel of a block. */
static void moments_of_block(const void *pass, const struct row_block *b)
{
    const struct norm_pass *p = pass;
    const size_t whole = whole_channels(p->channels);
    for (int channel = 0; channel < p->channels; channel += lanes) {
        const int count = vector_length(channel, p->channels);
        const activation *x = p->inp + b->first * p->channels + channel;
        const vec mean = sum_of_rows(x, p->channels, b->rows, count, broadcast(0), 0) / (float)b->rows;
        store(b->sums + channel, mean);
        store(b->sums + whole + channel, sum_of_rows(x, p->channels, b->rows, count, mean, 1));
    }
}

void KERNEL(instance_norm_moments)(struct compute *c, float *mean, float *rstd, const activation *inp, int n,
                                   size_t space, int channels)
{
    const struct norm_pass p = {.channels = channels, .inp = inp};
    struct row_blocks blocks;
    if (!KERNEL(cut_row_blocks)(c, &blocks, n, space, channels, 2, 0, NULL)) {
        return;
    }
    KERNEL(work_on_row_blocks)(c, &blocks, moments_of_block, &p);
    for (int grid = 0; grid < n; grid++) {
        const struct block_sums sums = KERNEL(sums_of_grid)(&blocks, grid, 0);
        KERNEL(merge_moments)(mean + (size_t)grid * channels, rstd + (size_t)grid * channels, &sums);
    }
}

static ALWAYS_INLINE void result_of_block(const struct norm_pass *p, const struct row_block *b,
                                          int with_residual)
{
    for (int channel = 0; channel < p->channels; channel += lanes) {
        const int count = vector_length(channel, p->channels);
        const size_t place = b->grid * p->channels + channel;
        const vec mean = load_part(p->norm.mean + place, count),
                  rstd = load_part(p->norm.rstd + place, count);
        for (int r = 0; r < b->rows; r++) {
            const size_t element = (b->first + r) * p->channels + channel;
            vec v = (load_activations_part(p->inp + element, count) - mean) * rstd;
            if (with_residual) {
                v += load_activations_part(p->residual + element, count);
            }
            store_activations_part(p->out + element, choose_positive(v, v, v * p->norm.slope), count);
        }
    }
}

static void apply_to_block(const void *pass, const struct row_block *b)
{
    const struct norm_pass *p = pass;
    if (p->residual != NULL) {
        result_of_block(p, b, 1);
    } else {
        result_of_block(p, b, 0);
    }
}

void KERNEL(instance_norm_apply)(struct compute *c, activation *out, const activation *inp,
                                 const struct norm_activation *norm, const activation *residual, int n,
                                 size_t space, int channels)
{
    const struct norm_pass p = {
        .channels = channels, .out = out, .inp = inp, .residual = residual, .norm = *norm};
    struct row_blocks blocks;
    if (KERNEL(cut_row_blocks)(c, &blocks, n, space, channels, 0, 0, NULL)) {
        KERNEL(work_on_row_blocks)(c, &blocks, apply_to_block, &p);
    }
}

void KERNEL(instance_norm_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                   const activation *inp, const activation *residual, float slope, int n,
                                   size_t space, int channels)
{
    const struct norm_activation norm = {.mean = mean, .rstd = rstd, .slope = slope};
    KERNEL(instance_norm_moments)(c, mean, rstd, inp, n, space, channels);
    KERNEL(instance_norm_apply)(c, out, inp, &norm, residual, n, space, channels);
}

/* The gradient before the activation. */
static ALWAYS_INLINE vec before_activation(const struct norm_pass *p, size_t element, int count)
{
    const vec g = load_activations_part(p->dout + element, count);
    if (p->norm.slope == 1) {
        return g;
    }
    return choose_positive(load_activations_part(p->result + element, count), g, g * p->norm.slope);
}

/* Sums of g and of g (x - mean). */
static void gradient_sums_of_block(const void *pass, const struct row_block *b)
{
    const struct norm_pass *p = pass;
    const size_t whole = whole_channels(p->channels);
    for (int channel = 0; channel < p->channels; channel += lanes) {
        const int count = vector_length(channel, p->channels);
        const vec mean = load_part(p->norm.mean + b->grid * p->channels + channel, count);
        vec sum = {0}, product = {0};
        for (int r = 0; r < b->rows; r++) {
            const size_t element = (b->first + r) * p->channels + channel;
            const vec g = before_activation(p, element, count);
            sum += g;
            product += g * (load_activations_part(p->inp + element, count) - mean);
        }
        store(b->sums + channel, sum);
        store(b->sums + whole + channel, product);
    }
}

static void write_gradients_of_block(const void *pass, const struct row_block *b)
{
    const struct norm_pass *p = pass;
    for (int channel = 0; channel < p->channels; channel += lanes) {
        const int count = vector_length(channel, p->channels);
        const size_t place = b->grid * p->channels + channel;
        const vec mean = load_part(p->norm.mean + place, count),
                  rstd = load_part(p->norm.rstd + place, count);
        const vec shift = load_part(p->shift + place, count), factor = load_part(p->factor + place, count);
        for (int r = 0; r < b->rows; r++) {
            const size_t element = (b->first + r) * p->channels + channel;
            const vec g = before_activation(p, element, count);
            if (p->dresidual != NULL) {
                store_activations_part(p->dresidual + element, g, count);
            }
            store_activations_part(
                p->dinp + element,
                g * rstd - (shift + (load_activations_part(p->inp + element, count) - mean) * factor), count);
        }
    }
}

void KERNEL(norm_input_gradient)(struct compute *c, activation *dinp, const activation *inp,
                                 const struct norm_activation *norm, const float *shift, const float *factor,
                                 int n, size_t space, int channels)
{
    const struct norm_pass p = {.channels = channels,
                                .inp = inp,
                                .norm = {.mean = norm->mean, .rstd = norm->rstd, .slope = 1},
                                .dinp = dinp,
                                .dout = dinp,
                                .shift = shift,
                                .factor = factor};
    struct row_blocks blocks;
    if (KERNEL(cut_row_blocks)(c, &blocks, n, space, channels, 0, 0, NULL)) {
        KERNEL(work_on_row_blocks)(c, &blocks, write_gradients_of_block, &p);
    }
}

void KERNEL(instance_norm_backward)(struct compute *c, activation *dinp, activation *dresidual,
                                    const activation *dout, const activation *out, const activation *inp,
                                    const float *mean, const float *rstd, float slope, int n, size_t space,
                                    int channels)
{
    struct norm_pass p = {.channels = channels,
                          .inp = inp,
                          .norm = {.mean = mean, .rstd = rstd, .slope = slope},
                          .dinp = dinp,
                          .dresidual = dresidual,
                          .dout = dout,
                          .result = out};
    const size_t moments = (size_t)n * channels;
    struct row_blocks blocks;
    void *behind;
    if (!KERNEL(cut_row_blocks)(c, &blocks, n, space, channels, 2, 2 * moments * sizeof(float), &behind)) {
        return;
    }
    float *shift = behind, *factor = shift + moments;
    KERNEL(work_on_row_blocks)(c, &blocks, gradient_sums_of_block, &p);
    for (int grid = 0; grid < n; grid++) {
        const struct block_sums sums = KERNEL(sums_of_grid)(&blocks, grid, 0);
        const size_t first = (size_t)grid * channels;
        KERNEL(merge_norm_gradient)(shift + first, factor + first, rstd + first, &sums);
    }
    p.shift = shift;
    p.factor = factor;
    KERNEL(work_on_row_blocks)(c, &blocks, write_gradients_of_block, &p);
}
