#include "compute/cpu/kernels/gelu.h"
#include "compute/cpu/kernels/mlp_blocks.h"
#include "compute/cpu/kernels/mlp_rows_back.h"
#include "compute/cpu/kernels/thread_sums.h"

enum { most_rows = 64, most_panels = 2 };

struct backward_pass {
    struct mlp_blocks b;
    const struct mlp *mlp;
    const activation *x, *dout;
    activation *dx;
    const factor *weights1, *back1, *back2; /* of linear1 forward, and of both backward */
    const float *bias1;                     /* in whole vectors */
};

/* What is summed over the rows of a channel. */
enum channel_sums { NORM_WEIGHT, NORM_BIAS, BIAS2, channel_sums };

/* One thread's memory. Rows in turns: see factor.h; where factors are floats they are the rows themselves. */
struct backward_work {
    /* For all rows. */
    float *weight1, *weight2; /* chunk after chunk (channels, chunk): of the transposed weight1 */
    double *bias1;            /* (hidden in whole vectors) */
    double *channel_totals;   /* (channel_sums, pitch) */
    /* Of a block. */
    float *channel_sums;               /* as the totals */
    struct row_moments *moments;       /* (rows) */
    factor *normed, *dout;             /* (rows, pitch) */
    factor *normed_turns, *dout_turns; /* the same in turns */
    float *dnormed;                    /* (rows, pitch) */
    /* Of a chunk. */
    float *wide, *dactivated;              /* (rows, chunk) */
    factor *activated_turns, *dwide_turns; /* (rows, chunk) in turns */
    factor *dwide;                         /* (rows, chunk) */
    float *bias_sums;                      /* (chunk) */
};

/* What comes first is to be zeroed: *sums bytes of it. */
static size_t lay_out_work(struct backward_work *w, unsigned char *memory, const struct mlp_blocks *b,
                           size_t *sums)
{
    const size_t of_block = (size_t)b->rows * b->pitch, of_chunk = (size_t)b->rows * b->chunk;
    const size_t hidden = whole_channels(b->hidden), weight = b->channels * hidden;
    size_t at = 0;
    w->weight1 = take_bytes(&at, memory, weight * sizeof *w->weight1);
    w->weight2 = take_bytes(&at, memory, weight * sizeof *w->weight2);
    w->bias1 = take_bytes(&at, memory, hidden * sizeof *w->bias1);
    w->channel_totals = take_bytes(&at, memory, channel_sums * b->pitch * sizeof *w->channel_totals);
    *sums = at;
    w->channel_sums = take_bytes(&at, memory, channel_sums * b->pitch * sizeof *w->channel_sums);
    w->moments = take_bytes(&at, memory, b->rows * sizeof *w->moments);
    w->normed = take_bytes(&at, memory, of_block * sizeof *w->normed);
    w->dout = take_bytes(&at, memory, of_block * sizeof *w->dout);
    w->normed_turns = take_bytes(&at, memory, of_block * sizeof *w->normed);
    w->dout_turns = take_bytes(&at, memory, of_block * sizeof *w->dout);
    w->dnormed = take_bytes(&at, memory, of_block * sizeof *w->dnormed);
    w->wide = take_bytes(&at, memory, of_chunk * sizeof *w->wide);
    w->dactivated = take_bytes(&at, memory, of_chunk * sizeof *w->dactivated);
    w->activated_turns = take_bytes(&at, memory, of_chunk * sizeof *w->activated_turns);
    w->dwide_turns = take_bytes(&at, memory, of_chunk * sizeof *w->dwide_turns);
    w->dwide = take_bytes(&at, memory, of_chunk * sizeof *w->dwide);
    w->bias_sums = take_bytes(&at, memory, b->chunk * sizeof *w->bias_sums);
    return at;
}

static inline void add_to_doubles(double *to, const float *from, size_t count)
{
#pragma omp simd
    for (size_t k = 0; k < count; k++) {
        to[k] += from[k];
    }
}

/* The norm, and dout, as factors. */
static void begin_rows(const struct backward_pass *p, const struct backward_work *w, size_t first, int rows)
{
    const struct mlp_blocks *b = &p->b;
    const activation *dout = p->dout + first * b->channels;
    normalise_rows(w->normed, w->moments, p->x + first * b->channels, rows, b, p->mlp);
    for (int r = 0; r < rows; r++) {
        for (int ch = 0; ch < b->channels; ch += lanes) {
            store_factor_row(w->dout + (size_t)r * b->pitch + ch,
                             load_activations_up_to(dout + (size_t)r * b->channels + ch, b->channels - ch));
        }
    }
    memset(w->dout + (size_t)rows * b->pitch, 0,
           (size_t)(whole_rows(rows) - rows) * b->pitch * sizeof *w->dout);
}

/* One vector of hidden features: the result of GELU, and the gradient in front of it, dwide; both for
 * products over rows, dwide for those with a weight, too. */
static ALWAYS_INLINE void backward_column(const struct backward_work *w, int rows, int pitch, int column)
{
    vec sum = {0};
    for (int r = 0; r < rows; r += row_step) {
        vec activated[row_step], dwide[row_step];
        for (int k = 0; k < row_step; k++) {
            activated[k] = load(w->wide + (size_t)(r + k) * pitch + column);
        }
        gelus_and_slopes(activated, dwide, row_step);
        for (int k = 0; k < row_step; k++) {
            const size_t at = (size_t)(r + k) * pitch + column;
            dwide[k] *= load(w->dactivated + at);
            sum += dwide[k];
            store_factor_row(w->dwide + at, dwide[k]);
        }
        for (int k = 0; k < row_step; k += factors_together) {
            const size_t turns = (size_t)(r + k) * pitch + column * factors_together;
            store_factors(w->activated_turns + turns, factors_of(activated + k));
            if (factors_together > 1) {
                store_factors(w->dwide_turns + turns, factors_of(dwide + k));
            }
        }
    }
    store(w->bias_sums + column, sum);
}

static void backward_chunk(const struct backward_pass *p, const struct backward_work *w,
                           const factor *normed_turns, const factor *dout_turns, int from, int rows)
{
    const struct mlp_blocks *b = &p->b;
    const int width = chunk_width(b, from), pitch = (int)whole_channels(width);
    const size_t sums = (size_t)from * b->channels;
    widen_rows(w->wide, p->bias1 + from, w->normed, p->weights1, b, from, rows);
    widen_rows(w->dactivated, NULL, w->dout, p->back2, b, from, rows); /* the gradient behind GELU */
    for (int column = 0; column < pitch; column += lanes) {
        backward_column(w, rows, pitch, column);
    }
    add_to_doubles(w->bias1 + from, w->bias_sums, pitch);
    const struct row_pair of_weight2 = {.inp = dout_turns, .dout = w->activated_turns};
    KERNEL(add_products_over_rows)(w->weight2 + sums, &of_weight2, 1, rows, b->channels, width);
    const struct row_pair of_weight1 = {.inp = normed_turns,
                                        .dout = factors_together > 1 ? w->dwide_turns : w->dwide};
    KERNEL(add_products_over_rows)(w->weight1 + sums, &of_weight1, 1, rows, b->channels, width);
    narrow_rows(w->dnormed, from > 0 ? w->dnormed : NULL, w->dwide, p->back1, b, from, rows);
}

static void backward_block(const struct backward_pass *p, const struct backward_work *w, size_t first,
                           int rows)
{
    const struct mlp_blocks *b = &p->b;
    const int whole = whole_rows(rows);
    const size_t sums = channel_sums * (size_t)b->pitch;
    begin_rows(p, w, first, rows);
    const factor *normed_turns = rows_in_turns(w->normed_turns, w->normed, whole, b->pitch);
    const factor *dout_turns = rows_in_turns(w->dout_turns, w->dout, whole, b->pitch);
    for (int from = 0; from < b->hidden; from += b->chunk) {
        backward_chunk(p, w, normed_turns, dout_turns, from, whole);
    }
    memset(w->channel_sums, 0, sums * sizeof *w->channel_sums);
    const size_t at = first * b->channels;
    mlp_rows_back(&(struct rows_back){.x = p->x + at,
                                      .dout = p->dout + at,
                                      .dx = p->dx + at,
                                      .dnormed = w->dnormed,
                                      .pitch = b->pitch,
                                      .moments = w->moments,
                                      .count = rows,
                                      .channels = b->channels,
                                      .weight = p->mlp->norm_weight,
                                      .dweight = w->channel_sums + NORM_WEIGHT * b->pitch,
                                      .dbias = w->channel_sums + NORM_BIAS * b->pitch,
                                      .dbias2 = w->channel_sums + BIAS2 * b->pitch});
    add_to_doubles(w->channel_totals, w->channel_sums, sums);
}

/* ---- sums of all threads ---- */

static quad sum_of_threads(const float *sums, const struct thread_sums *t)
{
    quad sum = load_quad(sums);
    for (int k = 1; k < t->threads; k++) {
        sum += load_quad(sums_of_thread(sums, t, k));
    }
    return sum;
}

/* Four hidden features from `hidden` on of a chunk of whole vectors of `pitch`: dweight2 (channels, hidden)
 * and dweight1 (hidden, channels). */
static void add_weight_sums(const struct mlp_gradients *gradients, const struct backward_work *w,
                            const struct mlp_blocks *b, const struct thread_sums *t, int hidden)
{
    const int from = hidden / b->chunk * b->chunk, pitch = (int)whole_channels(chunk_width(b, from));
    const int count = b->hidden - hidden < 4 ? b->hidden - hidden : 4;
    const size_t sums = (size_t)from * b->channels + hidden - from;
    for (int ch = 0; ch < b->channels; ch++) {
        const quad of_weight1 = sum_of_threads(w->weight1 + sums + (size_t)ch * pitch, t);
        const quad of_weight2 = sum_of_threads(w->weight2 + sums + (size_t)ch * pitch, t);
        for (int k = 0; k < count; k++) {
            gradients->weight1[(size_t)(hidden + k) * b->channels + ch] += of_weight1[k];
            gradients->weight2[(size_t)ch * b->hidden + hidden + k] += of_weight2[k];
        }
    }
}

static void add_sums(const struct mlp_gradients *gradients, unsigned char *memory,
                     const struct thread_sums *t, const struct mlp_blocks *b)
{
    struct backward_work first;
    size_t sums;
    lay_out_work(&first, memory, b, &sums);
#pragma omp parallel for schedule(static) num_threads(t->threads)
    for (int hidden = 0; hidden < b->hidden; hidden += 4) {
        add_weight_sums(gradients, &first, b, t, hidden);
    }
    const double *totals = first.channel_totals;
    add_thread_sums(gradients->bias1, first.bias1, t, b->hidden);
    add_thread_sums(gradients->norm_weight, totals + NORM_WEIGHT * b->pitch, t, b->channels);
    add_thread_sums(gradients->norm_bias, totals + NORM_BIAS * b->pitch, t, b->channels);
    add_thread_sums(gradients->bias2, totals + BIAS2 * b->pitch, t, b->channels);
}

void KERNEL(mlp_backward)(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                          const activation *dout, const activation *x, const struct mlp *mlp, size_t rows)
{
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    struct backward_pass p = {.b = mlp_blocks(mlp, rows, threads, most_rows, most_panels),
                              .mlp = mlp,
                              .x = x,
                              .dout = dout,
                              .dx = dx};
    p.weights1 = KERNEL(weight_panels)(c, mlp->weight1, mlp->channels, mlp->hidden, 0);
    p.back1 = KERNEL(weight_panels)(c, mlp->weight1, mlp->channels, mlp->hidden, 1);
    p.back2 = KERNEL(weight_panels)(c, mlp->weight2, mlp->hidden, mlp->channels, 1);
    struct backward_work measured;
    size_t sums;
    const size_t own = lay_out_work(&measured, NULL, &p.b, &sums);
    const size_t bias = float_bytes(whole_channels(mlp->hidden));
    const int have_weights = p.weights1 != NULL && p.back1 != NULL && p.back2 != NULL;
    unsigned char *memory = have_weights ? cpu_scratch(c, bias + threads * own) : NULL;
    if (memory == NULL) {
        return;
    }
    p.bias1 = in_whole_vectors((float *)memory, mlp->bias1, mlp->hidden);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int piece = 0; piece < threads; piece++) {
        struct backward_work work;
        lay_out_work(&work, memory + bias + piece * own, &p.b, &sums);
        memset(memory + bias + piece * own, 0, sums);
        const size_t end = share_begin(p.b.count, piece + 1, threads);
        for (size_t k = share_begin(p.b.count, piece, threads); k < end; k++) {
            const size_t first = k * p.b.rows;
            if (k + 1 < end) {
                const size_t next = (first + p.b.rows) * mlp->channels;
                fetch_rows(x + next, rows_of_block(&p.b, k + 1), mlp->channels);
                fetch_rows(dout + next, rows_of_block(&p.b, k + 1), mlp->channels);
            }
            backward_block(&p, &work, first, rows_of_block(&p.b, k));
        }
    }
    add_sums(gradients, memory + bias, &(struct thread_sums){own, threads}, &p.b);
}
