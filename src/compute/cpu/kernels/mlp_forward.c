#include "compute/cpu/kernels/gelu.h"
#include "compute/cpu/kernels/layer_norm_rows.h"
#include "compute/cpu/kernels/mlp_blocks.h"

enum { most_rows = 64, most_panels = 2 };

struct forward_pass {
    struct mlp_blocks b;
    const struct mlp *mlp;
    const activation *x;
    activation *out;
    const factor *weights1, *weights2;
    const float *bias1; /* in whole vectors */
};

/* One thread's memory. */
struct forward_work {
    struct row_moments *moments; /* (rows) */
    factor *normed;              /* (rows, pitch) */
    float *wide;                 /* (rows, chunk) */
    factor *activated;           /* (rows, chunk) */
    float *sums;                 /* (rows, pitch) */
};

static size_t lay_out_work(struct forward_work *w, unsigned char *memory, const struct mlp_blocks *b)
{
    const size_t rows = b->rows;
    size_t at = 0;
    w->moments = take_bytes(&at, memory, rows * sizeof *w->moments);
    w->normed = take_bytes(&at, memory, rows * b->pitch * sizeof *w->normed);
    w->wide = take_bytes(&at, memory, rows * b->chunk * sizeof *w->wide);
    w->activated = take_bytes(&at, memory, rows * b->chunk * sizeof *w->activated);
    w->sums = take_bytes(&at, memory, rows * b->pitch * sizeof *w->sums);
    return at;
}

/* The norm, and the sums' beginnings, x + bias2. */
static void begin_rows(const struct forward_pass *p, const struct forward_work *w, size_t first, int rows)
{
    const struct mlp_blocks *b = &p->b;
    const activation *x = p->x + first * b->channels;
    normalise_rows(w->normed, w->moments, x, rows, b, p->mlp);
    for (int ch = 0; ch < b->channels; ch += lanes) {
        const int count = vector_length(ch, b->channels);
        const vec bias2 = load_part(p->mlp->bias2 + ch, count);
        for (int r = 0; r < rows; r++) {
            store(w->sums + (size_t)r * b->pitch + ch,
                  load_activations_up_to(x + (size_t)r * b->channels + ch, count) + bias2);
        }
    }
    memset(w->sums + (size_t)rows * b->pitch, 0,
           (size_t)(whole_rows(rows) - rows) * b->pitch * sizeof *w->sums);
}

static void forward_chunk(const struct forward_pass *p, const struct forward_work *w, int from, int rows)
{
    const struct mlp_blocks *b = &p->b;
    const int pitch = (int)whole_channels(chunk_width(b, from));
    widen_rows(w->wide, p->bias1 + from, w->normed, p->weights1, b, from, rows);
    for (size_t k = 0; k < (size_t)rows * pitch; k += row_step * lanes) {
        vec x[row_step];
        for (int i = 0; i < row_step; i++) {
            x[i] = load(w->wide + k + i * lanes);
        }
        gelus(x, row_step);
        for (int i = 0; i < row_step; i++) {
            store_factor_row(w->activated + k + i * lanes, x[i]);
        }
    }
    narrow_rows(w->sums, w->sums, w->activated, p->weights2, b, from, rows);
}

static void forward_block(const struct forward_pass *p, const struct forward_work *w, size_t first, int rows)
{
    const int channels = p->b.channels;
    begin_rows(p, w, first, rows);
    for (int from = 0; from < p->b.hidden; from += p->b.chunk) {
        forward_chunk(p, w, from, whole_rows(rows));
    }
    for (int r = 0; r < rows; r++) {
        for (int ch = 0; ch < channels; ch += lanes) {
            store_activations_up_to(p->out + (first + r) * channels + ch,
                                    load(w->sums + (size_t)r * p->b.pitch + ch), channels - ch);
        }
    }
}

void KERNEL(mlp_forward)(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                         size_t rows)
{
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    struct forward_pass p = {
        .b = mlp_blocks(mlp, rows, threads, most_rows, most_panels), .mlp = mlp, .x = x, .out = out};
    p.weights1 = KERNEL(weight_panels)(c, mlp->weight1, mlp->channels, mlp->hidden, 0);
    p.weights2 = KERNEL(weight_panels)(c, mlp->weight2, mlp->hidden, mlp->channels, 0);
    struct forward_work measured;
    const size_t own = lay_out_work(&measured, NULL, &p.b), bias = float_bytes(whole_channels(mlp->hidden));
    unsigned char *memory =
        p.weights1 != NULL && p.weights2 != NULL ? cpu_scratch(c, bias + threads * own) : NULL;
    if (memory == NULL) {
        return;
    }
    p.bias1 = in_whole_vectors((float *)memory, mlp->bias1, mlp->hidden);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int piece = 0; piece < threads; piece++) {
        struct forward_work work;
        lay_out_work(&work, memory + bias + piece * own, &p.b);
        const size_t end = share_begin(p.b.count, piece + 1, threads);
        for (size_t k = share_begin(p.b.count, piece, threads); k < end; k++) {
            const size_t first = k * p.b.rows;
            if (k + 1 < end) {
                fetch_rows(x + (first + p.b.rows) * mlp->channels, rows_of_block(&p.b, k + 1), mlp->channels);
            }
            forward_block(&p, &work, first, rows_of_block(&p.b, k));
        }
    }
}

int KERNEL(mlp_fits)(struct compute *c, int channels, int hidden)
{
    /* Of a weight. Where the sums of two weights' gradients fill a second-level cache, or more, the hidden
     * layer that is made twice costs more than its way through memory. */
    enum { most_elements = 128 * 512 };
    (void)c;
    return channels * (long)hidden <= most_elements;
}
