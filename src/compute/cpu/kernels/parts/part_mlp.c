#include "compute/cpu/kernels/parts/part_mlp.h"

#include "compute/cpu/kernels/gelu.h"
#include "compute/cpu/kernels/layer_norm_rows.h"
#include "compute/cpu/kernels/parts/block_products.h"
#include "compute/cpu/kernels/parts/part_weights.h"

enum { most_rows = 256, most_chunk = 192 }; /* the latter: hidden features */

struct forward_pass {
    struct mlp_sizes z;
    const struct mlp *mlp;
    const activation *x;
    activation *out;
    const part *weights1, *weights2;
    const float *bias1; /* in whole tiles */
};

/* One thread's memory. */
struct forward_work {
    activation *row; /* (channel_pitch) */
    part *normed;    /* (block, row_length(channels)) */
    float *groups;   /* (2, group_sums) of hidden columns: the one that is made and the one before it */
    float *panel;    /* (block, 16): a last tile of them */
    part *activated; /* (block, row_length(chunk)) */
    float *sums;     /* (block, channel_pitch) */
};

static size_t lay_out_work(struct forward_work *w, unsigned char *memory, const struct mlp_sizes *z)
{
    const size_t block = z->block;
    size_t at = 0;
    w->row = take_bytes(&at, memory, z->channel_pitch * sizeof(activation));
    w->normed = take_bytes(&at, memory, block * row_length(z->channels) * sizeof(part));
    w->groups = take_bytes(&at, memory, 2 * group_sums * sizeof(float));
    w->panel = take_bytes(&at, memory, block * tile_columns * sizeof(float));
    w->activated = take_bytes(&at, memory, block * row_length(z->chunk) * sizeof(part));
    w->sums = take_bytes(&at, memory, block * z->channel_pitch * sizeof(float));
    return at;
}

/* The norm, in parts, and the sums' beginnings, x + bias2. */
static void begin_rows(const struct forward_pass *p, const struct forward_work *w, size_t first, int rows)
{
    const int channels = p->z.channels;
    const size_t length = row_length(channels);
    for (int r = 0; r < rows; r++) {
        const activation *x = p->x + (first + r) * channels;
        float *sums = w->sums + (size_t)r * p->z.channel_pitch;
        normalise_row(w->row, x, moments_of_row(x, channels), p->mlp->norm_weight, p->mlp->norm_bias,
                      channels);
        split_row(w->normed + r * length, w->row, channels);
        for (int ch = 0; ch < channels; ch += lanes) {
            const int count = channels - ch < lanes ? channels - ch : lanes;
            store(sums + ch, load_activations_part(x + ch, count) + load_part(p->mlp->bias2 + ch, count));
        }
    }
    clear_rows_behind(w->normed, length, rows);
}

/* GELU of a group, as a step of rows of parts. */
struct activation_step {
    part *to;
    size_t length;
    const float *group;
};

static __attribute__((noinline)) void activate_rows(const void *pass, int first, int count)
{
    const struct activation_step *s = pass;
    const float *low = s->group + (size_t)first * tile_columns, *high = low + group_sums / 2;
    part *to = s->to + first * s->length;
    for (int r = 0; r < count; r++, to += s->length, low += tile_columns, high += tile_columns) {
        const struct parts a = parts_of((__m512)gelu(load(low))), b = parts_of((__m512)gelu(load(high)));
        for (int k = 0; k < part_count; k++) {
            _mm512_storeu_si512(to + k * tile_depth, parts_in_order(&a, &b, k));
        }
    }
}

/* The last tile of columns, where they are odd in number. */
static void activate_half_step(const struct forward_pass *p, const struct forward_work *w, int tile, part *to,
                               size_t length, int row_tiles)
{
    const size_t column = column_length(p->z.channels);
    const struct block_product product = {.sums = w->panel,
                                          .pitch = tile_columns,
                                          .rows = w->normed,
                                          .length = row_length(p->z.channels),
                                          .weights = p->weights1 + tile * column,
                                          .column = column,
                                          .bias = p->bias1 + (size_t)tile * tile_columns,
                                          .inner = p->z.channels,
                                          .row_tiles = row_tiles,
                                          .tiles = 1};
    multiply_columns(&product, BEGIN_AT_BIAS);
    for (int r = 0; r < row_tiles * tile_rows; r++, to += length) {
        const struct parts a = parts_of((__m512)gelu(load(w->panel + (size_t)r * tile_columns)));
        store_half_step(to, &a);
    }
}

/* linear1 and GELU of the hidden features from `from` on: products of a group beside GELU of the one before.
 */
static void activate_chunk(const struct forward_pass *p, const struct forward_work *w, int from, int width,
                           int row_tiles)
{
    const int channels = p->z.channels;
    const size_t column = column_length(channels), length = row_length(width), inner = row_length(channels);
    struct activation_step step = {.length = length};
    struct beside beside = {.work = activate_rows, .pass = &step, .every = 1};
    int turn = 0;
    for (int done = 0; done < whole_steps(width) * tile_depth; done += tile_depth) {
        const int tile = (from + done) / tile_columns;
        for (int r = 0; r < row_tiles * tile_rows; r += group_rows, turn = 1 - turn) {
            float *group = w->groups + (size_t)turn * group_sums;
            const struct tile_factors f =
                group_factors(w->normed + r * inner, inner, p->weights1 + tile * column, column);
            multiply_group(group, &f, p->bias1 + (size_t)tile * tile_columns, channels, &beside);
            finish_beside(&beside);
            step.group = group;
            step.to = w->activated + r * length + (size_t)done * part_count;
            beside.total = group_rows;
        }
    }
    finish_beside(&beside);
    if (has_half_step(width)) {
        const int done = whole_steps(width) * tile_depth;
        activate_half_step(p, w, (from + done) / tile_columns, w->activated + (size_t)done * part_count,
                           length, row_tiles);
    }
}

static void forward_block(const struct forward_pass *p, const struct forward_work *w, size_t first, int rows)
{
    const struct mlp_sizes *z = &p->z;
    const int row_tiles = row_tiles_of(rows);
    begin_rows(p, w, first, rows);
    before_tile_loads();
    for (int from = 0; from < z->hidden; from += z->chunk) {
        const int width = z->hidden - from < z->chunk ? z->hidden - from : z->chunk;
        activate_chunk(p, w, from, width, row_tiles);
        const struct block_product product = {.sums = w->sums,
                                              .pitch = z->channel_pitch,
                                              .next = tile_columns,
                                              .rows = w->activated,
                                              .length = row_length(width),
                                              .weights = p->weights2 + column_length(from),
                                              .column = column_length(z->hidden),
                                              .inner = width,
                                              .row_tiles = row_tiles,
                                              .tiles = z->channel_tiles};
        multiply_columns(&product, BEGIN_AT_SUMS);
    }
    for (int r = 0; r < rows; r++) {
        activations_of(p->out + (first + r) * z->channels, w->sums + (size_t)r * z->channel_pitch,
                       z->channels);
    }
}

int KERNEL(part_mlp_fits)(struct compute *c, int channels, int hidden)
{
    enum { most_elements = 384 * 1536 }; /* of a weight in bf16: measured up to there */
    (void)c;
    return part_count > 1 || channels * (long)hidden <= most_elements;
}

void KERNEL(part_mlp_forward)(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                              size_t rows)
{
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    struct forward_pass p = {
        .z = mlp_sizes(mlp, rows, threads, most_rows, most_chunk), .mlp = mlp, .x = x, .out = out};
    p.weights1 = KERNEL(part_weights)(c, mlp->weight1, mlp->channels, mlp->hidden, 0);
    p.weights2 = KERNEL(part_weights)(c, mlp->weight2, mlp->hidden, mlp->channels, 0);
    struct forward_work measured;
    const size_t own = lay_out_work(&measured, NULL, &p.z);
    const size_t bias = float_bytes((size_t)p.z.hidden_tiles * tile_columns);
    unsigned char *memory =
        p.weights1 != NULL && p.weights2 != NULL ? cpu_scratch(c, bias + threads * own) : NULL;
    if (memory == NULL) {
        return;
    }
    p.bias1 = whole_tiles_of((float *)memory, mlp->bias1, mlp->hidden);
    const size_t blocks = (rows + p.z.block - 1) / p.z.block;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int piece = 0; piece < threads; piece++) {
        struct forward_work work;
        lay_out_work(&work, memory + bias + piece * own, &p.z);
        configure_tiles(tile_depth);
        for (size_t k = share_begin(blocks, piece, threads); k < share_begin(blocks, piece + 1, threads);
             k++) {
            const size_t first = k * p.z.block, left = rows - first;
            forward_block(&p, &work, first, left < (size_t)p.z.block ? (int)left : p.z.block);
        }
        _tile_release();
    }
}
