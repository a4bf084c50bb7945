#include "compute/cpu/kernels/row_blocks.h"

struct pooled_pass {
    int channels;
    const activation *inp;
    const struct norm_activation *norm;
    const struct pooled_residual *residual;
    /* backward */
    const float *dpooled;
    size_t stride; /* of dpooled */
    float share;   /* of a row in the pool */
    const float *bends;
    size_t moments; /* of each kind of bends */
    activation *dinp, *dresidual;
};

/* What some channels of a grid have in common. */
struct channel_vector {
    vec mean, rstd, scale, centre; /* scale and centre: of the residual */
    float slope;
    int channel, count;
};

static ALWAYS_INLINE struct channel_vector channel_vector(const struct pooled_pass *p, size_t grid,
                                                          int channel)
{
    const int count = vector_length(channel, p->channels);
    const size_t place = grid * p->channels + channel;
    struct channel_vector v = {.channel = channel, .count = count, .slope = p->norm->slope};
    v.mean = load_part(p->norm->mean + place, count);
    v.rstd = load_part(p->norm->rstd + place, count);
    if (p->residual->scale != NULL) {
        v.scale = load_part(p->residual->scale + place, count);
        v.centre = broadcast(p->residual->centre[grid]);
    }
    return v;
}

/* What the activation takes: norm(inp) + residual of one row. distance: inp - mean; apart: of the residual's
 * one channel from its centre. */
static ALWAYS_INLINE vec before_activation(const struct pooled_pass *p, const struct channel_vector *v,
                                           size_t row, int scaled, vec *distance, vec *apart)
{
    const size_t element = row * p->channels + v->channel;
    *distance = load_activations_part(p->inp + element, v->count) - v->mean;
    if (scaled) {
        *apart = float_of(p->residual->x[row]) - v->centre;
        return *distance * v->rstd + *apart * v->scale;
    }
    return *distance * v->rstd + load_activations_part(p->residual->x + element, v->count);
}

/* With the slope b of the activation: sums of b, of b (inp - mean), and of b (x - centre) or, where the
 * residual has all channels, of the activation's result. */
static ALWAYS_INLINE void sum_block(const struct pooled_pass *p, const struct row_block *b, int scaled)
{
    const size_t whole = whole_channels(p->channels);
    for (int channel = 0; channel < p->channels; channel += lanes) {
        const struct channel_vector v = channel_vector(p, b->grid, channel);
        const vec positive = broadcast(1), negative = broadcast(v.slope);
        vec sum = {0}, product = {0}, third = {0}, distance, apart;
        for (int r = 0; r < b->rows; r++) {
            const vec x = before_activation(p, &v, b->first + r, scaled, &distance, &apart);
            const vec bend = choose_positive(x, positive, negative);
            sum += bend;
            product += bend * distance;
            third += bend * (scaled ? apart : x);
        }
        store(b->sums + channel, keep_part(sum, v.count));
        store(b->sums + whole + channel, keep_part(product, v.count));
        store(b->sums + 2 * whole + channel, keep_part(third, v.count));
    }
}

static ALWAYS_INLINE void write_gradients_of_block(const struct pooled_pass *p, const struct row_block *b,
                                                   int scaled)
{
    for (int channel = 0; channel < p->channels; channel += lanes) {
        const struct channel_vector v = channel_vector(p, b->grid, channel);
        const size_t place = b->grid * p->channels + channel;
        const vec g_positive = load_part(p->dpooled + b->grid * p->stride + channel, v.count) * p->share;
        const vec shift = load_part(p->bends + place, v.count) * v.rstd * g_positive;
        const vec factor = load_part(p->bends + p->moments + place, v.count) * v.rstd * v.rstd * g_positive;
        const vec g_negative = g_positive * v.slope;
        vec distance, apart;
        for (int r = 0; r < b->rows; r++) {
            const size_t element = (b->first + r) * p->channels + channel;
            const vec x = before_activation(p, &v, b->first + r, scaled, &distance, &apart);
            const vec g = choose_positive(x, g_positive, g_negative);
            if (!scaled) {
                store_activations_part(p->dresidual + element, g, v.count);
            }
            store_activations_part(p->dinp + element, v.rstd * g - (shift + distance * factor), v.count);
        }
    }
}

static void sum_pooled_block(const void *pass, const struct row_block *b)
{
    const struct pooled_pass *p = pass;
    p->residual->scale != NULL ? sum_block(p, b, 1) : sum_block(p, b, 0);
}

static void write_pooled_gradients(const void *pass, const struct row_block *b)
{
    const struct pooled_pass *p = pass;
    p->residual->scale != NULL ? write_gradients_of_block(p, b, 1) : write_gradients_of_block(p, b, 0);
}

/* The means of one grid's sums of kind k, as bends have them. */
static void mean_of_sums(float *to, const struct row_blocks *blocks, int grid, int k, double *totals)
{
    const struct block_sums sums = KERNEL(sums_of_grid)(blocks, grid, k);
    KERNEL(merge_first_sums)(totals, &sums);
    for (int ch = 0; ch < blocks->channels; ch++) {
        to[ch] = (float)(totals[ch] / (double)blocks->space);
    }
}

void KERNEL(pooled_norm_forward)(struct compute *c, float *pooled, size_t stride, float *bends,
                                 const activation *inp, const struct norm_activation *norm,
                                 const struct pooled_residual *residual, int n, size_t space, int channels)
{
    const struct pooled_pass p = {.channels = channels, .inp = inp, .norm = norm, .residual = residual};
    const size_t moments = (size_t)n * channels;
    struct row_blocks blocks;
    void *behind;
    if (!KERNEL(cut_row_blocks)(c, &blocks, n, space, channels, 3, channels * sizeof(double), &behind)) {
        return;
    }
    KERNEL(work_on_row_blocks)(c, &blocks, sum_pooled_block, &p);
    for (int grid = 0; grid < n; grid++) {
        const size_t first = (size_t)grid * channels;
        float *bend_xhat = bends + moments + first, *third = bends + 2 * moments + first;
        mean_of_sums(bends + first, &blocks, grid, 0, behind);
        mean_of_sums(bend_xhat, &blocks, grid, 1, behind);
        mean_of_sums(third, &blocks, grid, 2, behind);
        for (int ch = 0; ch < channels; ch++) {
            bend_xhat[ch] *= norm->rstd[first + ch];
            pooled[grid * stride + ch] =
                residual->scale != NULL ? bend_xhat[ch] + residual->scale[first + ch] * third[ch] : third[ch];
        }
    }
}

void KERNEL(pooled_norm_backward)(struct compute *c, activation *dinp, activation *dresidual, float *dscale,
                                  const float *dpooled, size_t stride, const float *bends,
                                  const activation *inp, const struct norm_activation *norm,
                                  const struct pooled_residual *residual, int n, size_t space, int channels)
{
    const size_t moments = (size_t)n * channels;
    const struct pooled_pass p = {.channels = channels,
                                  .inp = inp,
                                  .norm = norm,
                                  .residual = residual,
                                  .dpooled = dpooled,
                                  .stride = stride,
                                  .share = 1 / (float)space,
                                  .bends = bends,
                                  .moments = moments,
                                  .dinp = dinp,
                                  .dresidual = dresidual};
    struct row_blocks blocks;
    if (!KERNEL(cut_row_blocks)(c, &blocks, n, space, channels, 0, 0, NULL)) {
        return;
    }
    for (size_t k = 0; residual->scale != NULL && k < moments; k++) {
        dscale[k] = dpooled[k / channels * stride + k % channels] * bends[2 * moments + k];
    }
    KERNEL(work_on_row_blocks)(c, &blocks, write_pooled_gradients, &p);
}
