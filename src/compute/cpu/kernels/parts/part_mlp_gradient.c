#include "compute/cpu/kernels/gelu.h"
#include "compute/cpu/kernels/mlp_rows_back.h"
#include "compute/cpu/kernels/parts/block_products.h"
#include "compute/cpu/kernels/parts/part_mlp.h"
#include "compute/cpu/kernels/parts/part_weights.h"
#include "compute/cpu/kernels/parts/sums_over_rows.h"
#include "compute/cpu/kernels/thread_sums.h"

enum {
    most_rows = 128,
    most_chunk = 128,            /* hidden features */
    pair_row = 2 * tile_columns, /* elements of a pair of rows in a tile of columns */
};

struct backward_pass {
    struct mlp_sizes z;
    const struct mlp *mlp;
    const activation *x, *dout;
    activation *dx;
    const part *weights1, *back1, *back2; /* of linear1 forward, and of both backward */
    const float *bias1;                   /* in whole tiles */
};

/* One thread's memory. */
struct backward_work {
    /* For all rows. */
    float *weight1, *weight2; /* (channel_tiles, hidden_tiles in fours, 16, 16): of the transposed weight1 */
    double *bias1;            /* (hidden_tiles 16) */
    double *channel_totals;   /* (3, channel_pitch): norm's weight and bias, bias2 */
    /* Of a block. */
    float *channel_sums;             /* as the totals */
    struct row_moments *moments;     /* (block) */
    activation *normed;              /* (block, channel_pitch) */
    float *dnormed;                  /* (block, channel_pitch) */
    part *normed_rows, *dout_rows;   /* (block, row_length(channels)) */
    part *normed_lines, *dout_lines; /* (part_count, channel_pitch, line_pitch) */
    /* Of hidden columns. */
    float *wide, *dactivated;             /* (2, group_sums): the group that is made and the one before it */
    float *wide_panel, *dactivated_panel; /* (block, 16): a last tile of hidden columns */
    float *bias_sums;                     /* (chunk) */
    /* Of a chunk. */
    part *activated_pairs, *dwide_pairs; /* (chunk / 16, part_count, block / 2, 16, 2) */
    part *dwide_rows;                    /* (block, row_length(chunk)) */
};

/* Keeps lines out of each other's cache sets. */
static size_t line_pitch(const struct mlp_sizes *z)
{
    return z->block + tile_depth;
}

static size_t lines_length(const struct mlp_sizes *z)
{
    return z->channel_pitch * line_pitch(z);
}

static int hidden_tiles_in_fours(const struct mlp_sizes *z)
{
    return (z->hidden_tiles + 3) / 4 * 4;
}

static size_t weight_sums(const struct mlp_sizes *z)
{
    return (size_t)z->channel_tiles * hidden_tiles_in_fours(z) * tile_sums;
}

/* What comes first is to be zeroed: *sums bytes of it. */
static size_t lay_out_work(struct backward_work *w, unsigned char *memory, const struct mlp_sizes *z,
                           size_t *sums)
{
    const size_t block = z->block, pitch = z->channel_pitch;
    const size_t rows = block * row_length(z->channels) * sizeof(part);
    const size_t pairs = block * z->chunk * part_count * sizeof(part);
    size_t at = 0;
    w->weight1 = take_bytes(&at, memory, weight_sums(z) * sizeof(float));
    w->weight2 = take_bytes(&at, memory, weight_sums(z) * sizeof(float));
    w->bias1 = take_bytes(&at, memory, z->hidden_tiles * tile_columns * sizeof(double));
    w->channel_totals = take_bytes(&at, memory, 3 * pitch * sizeof(double));
    *sums = at;
    w->channel_sums = take_bytes(&at, memory, 3 * pitch * sizeof(float));
    w->moments = take_bytes(&at, memory, block * sizeof *w->moments);
    w->normed = take_bytes(&at, memory, block * pitch * sizeof(activation));
    w->dnormed = take_bytes(&at, memory, block * pitch * sizeof(float));
    w->normed_rows = take_bytes(&at, memory, rows);
    w->dout_rows = take_bytes(&at, memory, rows);
    w->normed_lines = take_bytes(&at, memory, part_count * lines_length(z) * sizeof(part));
    w->dout_lines = take_bytes(&at, memory, part_count * lines_length(z) * sizeof(part));
    w->wide = take_bytes(&at, memory, 2 * group_sums * sizeof(float));
    w->dactivated = take_bytes(&at, memory, 2 * group_sums * sizeof(float));
    w->wide_panel = take_bytes(&at, memory, block * tile_columns * sizeof(float));
    w->dactivated_panel = take_bytes(&at, memory, block * tile_columns * sizeof(float));
    w->bias_sums = take_bytes(&at, memory, z->chunk * sizeof(float));
    w->activated_pairs = take_bytes(&at, memory, pairs);
    w->dwide_pairs = take_bytes(&at, memory, pairs);
    w->dwide_rows = take_bytes(&at, memory, block * row_length(z->chunk) * sizeof(part));
    return at;
}

/* ---- rows to parts ---- */

static void make_lines(part *to, const struct mlp_sizes *z, const activation *from, size_t pitch, int rows)
{
    const struct line_sizes sizes = {
        .features = pitch, .pitch = line_pitch(z), .part_length = lines_length(z)};
    for (int first = 0; first < z->channels; first += tile_rows) {
        for (int row = 0; row < rows; row += tile_depth) {
            split_lines(to + first * sizes.pitch + row, &sizes, from + row * pitch + first, rows - row,
                        z->channels - first);
        }
    }
}

static void begin_rows(const struct backward_pass *p, const struct backward_work *w, size_t first, int rows)
{
    const struct mlp_sizes *z = &p->z;
    const size_t channels = z->channels, length = row_length(z->channels);
    const activation *dout = p->dout + first * channels;
    for (int r = 0; r < rows; r++) {
        const activation *x = p->x + (first + r) * channels;
        activation *normed = w->normed + (size_t)r * z->channel_pitch;
        w->moments[r] = moments_of_row(x, z->channels);
        normalise_row(normed, x, w->moments[r], p->mlp->norm_weight, p->mlp->norm_bias, z->channels);
        split_row(w->normed_rows + r * length, normed, z->channels);
        split_row(w->dout_rows + r * length, dout + r * channels, z->channels);
    }
    clear_rows_behind(w->normed_rows, length, rows);
    clear_rows_behind(w->dout_rows, length, rows);
    make_lines(w->normed_lines, z, w->normed, z->channel_pitch, rows);
    make_lines(w->dout_lines, z, dout, channels, rows);
}

/* ---- hidden columns ---- */

static ALWAYS_INLINE void store_pairs(part *to, size_t part_length, const struct parts *upper,
                                      const struct parts *lower)
{
    for (int k = 0; k < part_count; k++) {
        _mm512_storeu_si512(to + k * part_length, parts_in_turns(upper, lower, k));
    }
}

static ALWAYS_INLINE void store_step(part *to, const struct parts *low, const struct parts *high)
{
    for (int k = 0; k < part_count; k++) {
        _mm512_storeu_si512(to + k * tile_depth, parts_in_order(low, high, k));
    }
}

static ALWAYS_INLINE void add_to_doubles(double *to, __m512 x)
{
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    _mm512_storeu_pd(to, _mm512_add_pd(_mm512_loadu_pd(to), low));
    _mm512_storeu_pd(to + 8, _mm512_add_pd(_mm512_loadu_pd(to + 8), high));
}

/* A step of hidden columns, and where its parts go: those of GELU in pairs, those of dwide in pairs and in
 * rows. Columns are 16 floats of each row, the two tiles `next` floats apart. */
struct hidden_step {
    const float *wide, *dactivated;
    size_t next;
    part *activated, *dwide;
    size_t part_length, next_pairs; /* from a part of these to the next, and from a tile to the other */
    part *rows;
    size_t length;
    float *bias_sums;
};

/* Two rows of a tile of columns: all but dwide in rows, whose parts are returned. */
static ALWAYS_INLINE void backward_pair(struct parts dwide[2], __m512 *sum, const struct hidden_step *s,
                                        int pair, int tile)
{
    const float *wide = s->wide + tile * s->next + (size_t)pair * pair_row;
    const float *dactivated = s->dactivated + tile * s->next + (size_t)pair * pair_row;
    const size_t to = tile * s->next_pairs + (size_t)pair * pair_row;
    vec slope[2];
    const struct parts upper = parts_of((__m512)gelu_and_slope(load(wide), &slope[0]));
    const struct parts lower = parts_of((__m512)gelu_and_slope(load(wide + tile_columns), &slope[1]));
    const vec a = slope[0] * load(dactivated), b = slope[1] * load(dactivated + tile_columns);
    store_pairs(s->activated + to, s->part_length, &upper, &lower);
    dwide[0] = parts_of((__m512)a);
    dwide[1] = parts_of((__m512)b);
    store_pairs(s->dwide + to, s->part_length, &dwide[0], &dwide[1]);
    *sum = _mm512_add_ps(*sum, (__m512)(a + b));
}

static __attribute__((noinline)) void backward_pairs(const void *pass, int first, int count)
{
    const struct hidden_step *s = pass;
    __m512 low_sum = _mm512_loadu_ps(s->bias_sums), high_sum = _mm512_loadu_ps(s->bias_sums + tile_columns);
    part *to = s->rows + 2 * first * s->length;
    for (int pair = first; pair < first + count; pair++, to += 2 * s->length) {
        struct parts low[2], high[2];
        backward_pair(low, &low_sum, s, pair, 0);
        backward_pair(high, &high_sum, s, pair, 1);
        store_step(to, &low[0], &high[0]);
        store_step(to + s->length, &low[1], &high[1]);
    }
    _mm512_storeu_ps(s->bias_sums, low_sum);
    _mm512_storeu_ps(s->bias_sums + tile_columns, high_sum);
}

static void backward_pairs_of_half_step(const struct hidden_step *s, int count)
{
    __m512 sum = _mm512_loadu_ps(s->bias_sums);
    part *to = s->rows;
    for (int pair = 0; pair < count; pair++, to += 2 * s->length) {
        struct parts dwide[2];
        backward_pair(dwide, &sum, s, pair, 0);
        store_half_step(to, &dwide[0]);
        store_half_step(to + s->length, &dwide[1]);
    }
    _mm512_storeu_ps(s->bias_sums, sum);
}

/* ---- a chunk of hidden features ---- */

/* Where the parts of a chunk go from its column `done` and row `r` on. */
static struct hidden_step hidden_step_at(const struct backward_work *w, const struct mlp_sizes *z, int width,
                                         int done, int r)
{
    const size_t part_length = (size_t)z->block * tile_columns, length = row_length(width);
    const size_t pairs = (size_t)done / tile_columns * part_count * part_length + (size_t)r * tile_columns;
    return (struct hidden_step){.next = group_sums / 2,
                                .activated = w->activated_pairs + pairs,
                                .dwide = w->dwide_pairs + pairs,
                                .part_length = part_length,
                                .next_pairs = part_count * part_length,
                                .rows = w->dwide_rows + r * length + (size_t)done * part_count,
                                .length = length,
                                .bias_sums = w->bias_sums + done};
}

/* The last tile of columns, where they are odd in number. */
static void backward_half_step(const struct backward_pass *p, const struct backward_work *w, int tile,
                               struct hidden_step *step, int row_tiles)
{
    const struct mlp_sizes *z = &p->z;
    const size_t column = column_length(z->channels);
    struct block_product product = {.sums = w->wide_panel,
                                    .pitch = tile_columns,
                                    .rows = w->normed_rows,
                                    .length = row_length(z->channels),
                                    .weights = p->weights1 + tile * column,
                                    .column = column,
                                    .bias = p->bias1 + (size_t)tile * tile_columns,
                                    .inner = z->channels,
                                    .row_tiles = row_tiles,
                                    .tiles = 1};
    multiply_columns(&product, BEGIN_AT_BIAS);
    product.sums = w->dactivated_panel;
    product.rows = w->dout_rows;
    product.weights = p->back2 + tile * column;
    multiply_columns(&product, BEGIN_AT_ZERO);
    step->wide = w->wide_panel;
    step->dactivated = w->dactivated_panel;
    backward_pairs_of_half_step(step, row_tiles * tile_rows / 2);
}

/* linear1 once more and the gradient behind GELU, through it: products of a group beside GELU of the one
 * before. */
static void backward_chunk(const struct backward_pass *p, const struct backward_work *w, int from, int width,
                           int row_tiles)
{
    const struct mlp_sizes *z = &p->z;
    const size_t column = column_length(z->channels), inner = row_length(z->channels);
    const int whole = whole_steps(width) * tile_depth;
    struct hidden_step step;
    struct beside beside = {.work = backward_pairs, .pass = &step, .every = 2};
    int turn = 0;
    memset(w->bias_sums, 0, z->chunk * sizeof *w->bias_sums);
    for (int done = 0; done < whole; done += tile_depth) {
        const int tile = (from + done) / tile_columns;
        for (int r = 0; r < row_tiles * tile_rows; r += group_rows, turn = 1 - turn) {
            float *wide = w->wide + (size_t)turn * group_sums;
            float *dactivated = w->dactivated + (size_t)turn * group_sums;
            struct tile_factors f =
                group_factors(w->normed_rows + r * inner, inner, p->weights1 + tile * column, column);
            multiply_group(wide, &f, p->bias1 + (size_t)tile * tile_columns, z->channels, &beside);
            f = group_factors(w->dout_rows + r * inner, inner, p->back2 + tile * column, column);
            multiply_group(dactivated, &f, NULL, z->channels, &beside);
            finish_beside(&beside);
            step = hidden_step_at(w, z, width, done, r);
            step.wide = wide;
            step.dactivated = dactivated;
            beside.total = group_rows / 2;
        }
    }
    finish_beside(&beside);
    if (has_half_step(width)) {
        step = hidden_step_at(w, z, width, whole, 0);
        backward_half_step(p, w, (from + whole) / tile_columns, &step, row_tiles);
    }
    for (int k = 0; k < tiles_of(width) * tile_columns; k += tile_columns) {
        add_to_doubles(w->bias1 + from + k, _mm512_loadu_ps(w->bias_sums + k));
    }
}

/* sums (channels, hidden) += lines x pairs for the chunk's tiles of hidden columns. */
static void add_to_weight(const struct mlp_sizes *z, float *sums, const part *lines, const part *pairs,
                          int first_tile, int tiles, int steps)
{
    const size_t along = (size_t)hidden_tiles_in_fours(z) * tile_sums;
    struct sums_over_rows s = {.sums_down = along,
                               .line_bytes = line_pitch(z) * sizeof(part),
                               .pair_bytes = tile_row_bytes,
                               .next_lines = tile_rows * line_pitch(z),
                               .next_pairs = (size_t)part_count * z->block * tile_columns,
                               .line_parts = lines_length(z),
                               .pair_parts = (size_t)z->block * tile_columns,
                               .pair_step = tile_depth / 2 * pair_row,
                               .steps = steps};
    for (int ch = 0; ch < z->channel_tiles; ch += 2) {
        const int single = ch + 1 == z->channel_tiles;
        s.lines = lines + ch * s.next_lines;
        for (int tile = 0; tile < tiles; tile += single ? 4 : 2) {
            s.pairs = pairs + tile * s.next_pairs;
            s.sums = sums + ch * along + (size_t)(first_tile + tile) * tile_sums;
            if (single) {
                add_one_by_four(s);
            } else {
                add_two_lines(s, 1);
            }
        }
    }
}

/* ---- blocks ---- */

/* The norm's backward and what goes past it; sums over the block's rows. */
static void end_rows(const struct backward_pass *p, const struct backward_work *w, size_t first, int rows)
{
    const int channels = p->z.channels, pitch = p->z.channel_pitch;
    memset(w->channel_sums, 0, 3 * pitch * sizeof *w->channel_sums);
    const size_t at = first * channels;
    mlp_rows_back(&(struct rows_back){.x = p->x + at,
                                      .dout = p->dout + at,
                                      .dx = p->dx + at,
                                      .dnormed = w->dnormed,
                                      .pitch = pitch,
                                      .moments = w->moments,
                                      .count = rows,
                                      .channels = channels,
                                      .weight = p->mlp->norm_weight,
                                      .dweight = w->channel_sums,
                                      .dbias = w->channel_sums + pitch,
                                      .dbias2 = w->channel_sums + 2 * (size_t)pitch});
    for (int k = 0; k < 3 * pitch; k += tile_columns) {
        add_to_doubles(w->channel_totals + k, _mm512_loadu_ps(w->channel_sums + k));
    }
}

static void backward_block(const struct backward_pass *p, const struct backward_work *w, size_t first,
                           int rows)
{
    const struct mlp_sizes *z = &p->z;
    const int row_tiles = row_tiles_of(rows), steps = (rows + tile_depth - 1) / tile_depth;
    begin_rows(p, w, first, rows);
    before_tile_loads();
    for (int from = 0; from < z->hidden; from += z->chunk) {
        const int width = z->hidden - from < z->chunk ? z->hidden - from : z->chunk;
        const int tile = from / tile_columns, tiles = tiles_of(width);
        const struct block_product product = {.sums = w->dnormed,
                                              .pitch = z->channel_pitch,
                                              .next = tile_columns,
                                              .rows = w->dwide_rows,
                                              .length = row_length(width),
                                              .weights = p->back1 + column_length(from),
                                              .column = column_length(z->hidden),
                                              .inner = width,
                                              .row_tiles = row_tiles,
                                              .tiles = z->channel_tiles};
        backward_chunk(p, w, from, width, row_tiles);
        before_tile_loads();
        add_to_weight(z, w->weight2, w->dout_lines, w->activated_pairs, tile, tiles, steps);
        add_to_weight(z, w->weight1, w->normed_lines, w->dwide_pairs, tile, tiles, steps);
        if (from == 0) {
            multiply_columns(&product, BEGIN_AT_ZERO);
        } else {
            multiply_columns(&product, BEGIN_AT_SUMS);
        }
    }
    end_rows(p, w, first, rows);
}

/* ---- sums of all threads ---- */

/* A tile of sums of all threads. */
static void tile_of_threads(__m512 tile[tile_rows], const float *sums, const struct thread_sums *t)
{
    for (int row = 0; row < tile_rows; row++) {
        const float *from = sums + (size_t)row * tile_columns;
        __m512 sum = _mm512_loadu_ps(from);
        for (int k = 1; k < t->threads; k++) {
            sum = _mm512_add_ps(sum, _mm512_loadu_ps(sums_of_thread(from, t, k)));
        }
        tile[row] = sum;
    }
}

static void add_tile(float *to, size_t pitch, const __m512 tile[tile_rows], int rows, int columns)
{
    const __mmask16 present = first_lanes(columns);
    for (int row = 0; row < rows && row < tile_rows; row++, to += pitch) {
        _mm512_mask_storeu_ps(to, present, _mm512_add_ps(_mm512_maskz_loadu_ps(present, to), tile[row]));
    }
}

static void add_weight_sums(const struct mlp_gradients *gradients, const struct backward_work *w,
                            const struct thread_sums *t, const struct mlp_sizes *z)
{
    const int count = z->channel_tiles * z->hidden_tiles;
#pragma omp parallel for schedule(static) num_threads(t->threads)
    for (int k = 0; k < count; k++) {
        const int ch = k / z->hidden_tiles * tile_rows, hidden = k % z->hidden_tiles * tile_columns;
        const size_t at =
            ((size_t)k / z->hidden_tiles * hidden_tiles_in_fours(z) + k % z->hidden_tiles) * tile_sums;
        __m512 tile[tile_rows];
        __m512i rows[tile_rows], columns[tile_rows];
        tile_of_threads(tile, w->weight2 + at, t);
        add_tile(gradients->weight2 + (size_t)ch * z->hidden + hidden, z->hidden, tile, z->channels - ch,
                 z->hidden - hidden);
        tile_of_threads(tile, w->weight1 + at, t);
        for (int row = 0; row < tile_rows; row++) {
            rows[row] = _mm512_castps_si512(tile[row]);
        }
        transpose_pairs(columns, rows);
        for (int row = 0; row < tile_rows; row++) {
            tile[row] = _mm512_castsi512_ps(columns[row]);
        }
        add_tile(gradients->weight1 + (size_t)hidden * z->channels + ch, z->channels, tile,
                 z->hidden - hidden, z->channels - ch);
    }
}

static void add_sums(const struct mlp_gradients *gradients, unsigned char *memory,
                     const struct thread_sums *t, const struct mlp_sizes *z)
{
    struct backward_work first;
    size_t sums;
    lay_out_work(&first, memory, z, &sums);
    const double *totals = first.channel_totals;
    add_weight_sums(gradients, &first, t, z);
    add_thread_sums(gradients->bias1, first.bias1, t, z->hidden);
    add_thread_sums(gradients->norm_weight, totals, t, z->channels);
    add_thread_sums(gradients->norm_bias, totals + z->channel_pitch, t, z->channels);
    add_thread_sums(gradients->bias2, totals + 2 * (size_t)z->channel_pitch, t, z->channels);
}

void KERNEL(part_mlp_backward)(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                               const activation *dout, const activation *x, const struct mlp *mlp,
                               size_t rows)
{
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    struct backward_pass p = {.z = mlp_sizes(mlp, rows, threads, most_rows, most_chunk),
                              .mlp = mlp,
                              .x = x,
                              .dout = dout,
                              .dx = dx};
    p.weights1 = KERNEL(part_weights)(c, mlp->weight1, mlp->channels, mlp->hidden, 0);
    p.back1 = KERNEL(part_weights)(c, mlp->weight1, mlp->channels, mlp->hidden, 1);
    p.back2 = KERNEL(part_weights)(c, mlp->weight2, mlp->hidden, mlp->channels, 1);
    struct backward_work measured;
    size_t sums;
    const size_t own = lay_out_work(&measured, NULL, &p.z, &sums);
    const size_t bias = float_bytes((size_t)p.z.hidden_tiles * tile_columns);
    const int have_weights = p.weights1 != NULL && p.back1 != NULL && p.back2 != NULL;
    unsigned char *memory = have_weights ? cpu_scratch(c, bias + threads * own) : NULL;
    if (memory == NULL) {
        return;
    }
    p.bias1 = whole_tiles_of((float *)memory, mlp->bias1, mlp->hidden);
    const size_t blocks = (rows + p.z.block - 1) / p.z.block;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int piece = 0; piece < threads; piece++) {
        struct backward_work work;
        lay_out_work(&work, memory + bias + piece * own, &p.z, &sums);
        memset(memory + bias + piece * own, 0, sums);
        configure_tiles(tile_depth);
        for (size_t k = share_begin(blocks, piece, threads); k < share_begin(blocks, piece + 1, threads);
             k++) {
            const size_t first = k * p.z.block, left = rows - first;
            backward_block(&p, &work, first, left < (size_t)p.z.block ? (int)left : p.z.block);
        }
        _tile_release();
    }
    add_sums(gradients, memory + bias, &(struct thread_sums){own, threads}, &p.z);
}
