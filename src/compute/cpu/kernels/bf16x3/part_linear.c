#include "compute/cpu/kernels/bf16x3/part_linear.h"

#include "compute/cpu/kernels/bf16x3/part_products.h"
#include "compute/cpu/kernels/bf16x3/part_rows.h"
#include "compute/cpu/packed_weights.h"

enum { block_rows = 4 * tile_rows }; /* the unit that threads share out */

/* out (rows, outer) = inp (rows, inner) weights + bias. */
struct product {
    float *out;
    const float *inp;
    const part *weights; /* (tiles of outer, column_length) */
    const float *bias;   /* (whole tiles of outer), or NULL */
    size_t rows;
    int inner, outer, outer_tiles;
};

/* One thread's memory. */
struct product_work {
    part *rows;                           /* (block_rows, row_length) */
    float sums[tile_rows * tile_columns]; /* a tile on its way to where it fits in part */
};

/* ---- weights ---- */

/* The weight between two features of the product at work; zero behind the last ones. */
struct weight_view {
    const float *weight; /* (out_features, in_features) */
    int in_features, inner, outer, backward;
};

static float weight_at(const struct weight_view *w, int inner, int outer)
{
    if (inner >= w->inner || outer >= w->outer) {
        return 0;
    }
    return w->backward ? w->weight[(size_t)inner * w->in_features + outer]
                       : w->weight[(size_t)outer * w->in_features + inner];
}

/* The parts of two rows of a step, k and k + 1, for 16 columns. */
static void weight_pair(__m512i pair[part_count], const struct weight_view *w, int k, int first)
{
    float a[tile_columns], b[tile_columns];
    for (int column = 0; column < tile_columns; column++) {
        a[column] = weight_at(w, k, first + column);
        b[column] = weight_at(w, k + 1, first + column);
    }
    const struct parts upper = parts_of(_mm512_loadu_ps(a)), lower = parts_of(_mm512_loadu_ps(b));
    for (int p = 0; p < part_count; p++) {
        pair[p] = parts_in_turns(&upper, &lower, p);
    }
}

static void pack_columns(part *to, const struct weight_view *w, int first)
{
    enum { pair_length = 2 * tile_columns };
    __m512i pair[part_count];
    for (int step = 0; step < whole_steps(w->inner); step++, to += (size_t)part_count * tile_length) {
        for (int k = 0; k < tile_depth; k += 2) {
            weight_pair(pair, w, step * tile_depth + k, first);
            for (int p = 0; p < part_count; p++) {
                _mm512_storeu_si512(to + p * tile_length + k / 2 * pair_length, pair[p]);
            }
        }
    }
    for (int k = 0; k < half_depth && has_half_step(w->inner); k += 2) {
        weight_pair(pair, w, whole_steps(w->inner) * tile_depth + k, first);
        part *upper = to + k / 2 * pair_length, *lower = upper + tile_length / 2;
        _mm512_storeu_si512(upper, pair[0]);
        _mm512_storeu_si512(lower, pair[0]);
        _mm512_storeu_si512(upper + tile_length, pair[1]);
        _mm512_storeu_si512(lower + tile_length, pair[1]);
        _mm512_storeu_si512(upper + 2 * tile_length, pair[0]);
        _mm512_storeu_si512(lower + 2 * tile_length, pair[2]);
    }
}

const part *KERNEL(part_weights)(struct compute *c, const float *weight, int in_features, int out_features,
                                 int backward)
{
    const struct weight_view view = {.weight = weight,
                                     .in_features = in_features,
                                     .inner = backward ? out_features : in_features,
                                     .outer = backward ? in_features : out_features,
                                     .backward = backward};
    const int tiles = tiles_of(view.outer);
    const size_t length = column_length(view.inner);
    int fresh;
    part *packed = packed_weights(cpu_state(c)->packed, weight, backward ? PACKED_BACKWARD : PACKED_FORWARD,
                                  tiles * length * sizeof *packed, &fresh);
    if (packed == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "weights of a linear layer");
        return NULL;
    }
    if (!fresh) {
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
        for (int tile = 0; tile < tiles; tile++) {
            pack_columns(packed + tile * length, &view, tile * tile_columns);
        }
    }
    return packed;
}

/* ---- products ---- */

/* From the sums of tile `number` to its place in out, of which `rows` and `columns` are there. */
#define STORE_SUMS(number)                                                                                   \
    do {                                                                                                     \
        if (rows >= tile_rows && columns >= tile_columns) {                                                  \
            _tile_stored(number, to, p->outer * sizeof *to);                                                 \
        } else {                                                                                             \
            _tile_stored(number, work->sums, tile_row_bytes);                                                \
            store_part_of_tile(to, work->sums, rows, columns, p->outer);                                     \
        }                                                                                                    \
    } while (0)

static void store_part_of_tile(float *to, const float *from, int rows, int columns, int outer)
{
    for (int r = 0; r < rows && r < tile_rows; r++, to += outer, from += tile_columns) {
        _mm512_mask_storeu_ps(to, first_lanes(columns), _mm512_loadu_ps(from));
    }
}

static void store_sums_0(const struct product *p, struct product_work *work, float *to, int rows, int columns)
{
    STORE_SUMS(0);
}

static void store_sums_1(const struct product *p, struct product_work *work, float *to, int rows, int columns)
{
    STORE_SUMS(1);
}

static void store_sums_2(const struct product *p, struct product_work *work, float *to, int rows, int columns)
{
    STORE_SUMS(2);
}

static void store_sums_3(const struct product *p, struct product_work *work, float *to, int rows, int columns)
{
    STORE_SUMS(3);
}

/* Up to block_rows rows from `first` on. What the rows behind the last one hold reaches no result. */
static void multiply_block(const struct product *p, struct product_work *work, size_t first, int rows)
{
    const size_t length = row_length(p->inner), column = column_length(p->inner);
    for (int r = 0; r < rows; r++) {
        split_row(work->rows + r * length, p->inp + (first + r) * p->inner, p->inner);
    }
    struct tile_factors f = {.row_bytes = length * sizeof(part)};
    const size_t tile_of_rows = tile_rows * length;
    int tile = 0;
    before_tile_loads();
    for (; tile + 2 <= p->outer_tiles; tile += 2) {
        const int columns = p->outer - tile * tile_columns;
        f.columns[0] = p->weights + tile * column;
        f.columns[1] = f.columns[0] + column;
        for (int r = 0; r < rows; r += 2 * tile_rows) {
            float *to = p->out + (first + r) * p->outer + (size_t)tile * tile_columns;
            f.rows[0] = work->rows + r * length;
            f.rows[1] = f.rows[0] + tile_of_rows;
            if (p->bias == NULL) {
                zero_sums();
            } else {
                begin_two_by_two(p->bias + (size_t)tile * tile_columns);
            }
            add_two_by_two(&f, p->inner, NULL);
            store_sums_0(p, work, to, rows - r, columns);
            store_sums_1(p, work, to + tile_columns, rows - r, columns - tile_columns);
            to += (size_t)tile_rows * p->outer;
            store_sums_2(p, work, to, rows - r - tile_rows, columns);
            store_sums_3(p, work, to + tile_columns, rows - r - tile_rows, columns - tile_columns);
        }
    }
    if (tile < p->outer_tiles) {
        const int columns = p->outer - tile * tile_columns;
        float *to = p->out + first * p->outer + (size_t)tile * tile_columns;
        const size_t down = (size_t)tile_rows * p->outer;
        f.columns[0] = p->weights + tile * column;
        for (int k = 0; k < 4; k++) {
            f.rows[k] = work->rows + k * tile_of_rows;
        }
        if (p->bias == NULL) {
            zero_sums();
        } else {
            begin_four_by_one(p->bias + (size_t)tile * tile_columns);
        }
        add_four_by_one(&f, p->inner);
        store_sums_0(p, work, to, rows, columns);
        store_sums_1(p, work, to + down, rows - tile_rows, columns);
        store_sums_2(p, work, to + 2 * down, rows - 2 * tile_rows, columns);
        store_sums_3(p, work, to + 3 * down, rows - 3 * tile_rows, columns);
    }
}

static void multiply(struct compute *c, struct product *p)
{
    const int threads = cpu_state(c)->threads;
    const size_t blocks = (p->rows + block_rows - 1) / block_rows;
    const size_t bias = float_bytes((size_t)p->outer_tiles * tile_columns);
    const size_t own = block_rows * row_length(p->inner) * sizeof(part); /* whole cache lines */
    unsigned char *memory = p->weights != NULL ? cpu_scratch(c, bias + threads * own) : NULL;
    if (memory == NULL) {
        return;
    }
    if (p->bias != NULL) {
        memset(memory, 0, bias);
        p->bias = memcpy(memory, p->bias, p->outer * sizeof *p->bias);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int piece = 0; piece < threads; piece++) {
        struct product_work work = {.rows = (part *)(memory + bias + piece * own)};
        configure_tiles(tile_depth);
        for (size_t k = share_begin(blocks, piece, threads); k < share_begin(blocks, piece + 1, threads);
             k++) {
            const size_t first = k * block_rows, left = p->rows - first;
            multiply_block(p, &work, first, left < block_rows ? (int)left : block_rows);
        }
        _tile_release();
    }
}

void KERNEL(part_linear_forward)(struct compute *c, activation *out, const activation *inp,
                                 const float *weight, const float *bias, size_t rows, int in_features,
                                 int out_features)
{
    struct product p = {.out = (float *)out,
                        .inp = (const float *)inp,
                        .weights = KERNEL(part_weights)(c, weight, in_features, out_features, 0),
                        .bias = bias,
                        .rows = rows,
                        .inner = in_features,
                        .outer = out_features,
                        .outer_tiles = tiles_of(out_features)};
    multiply(c, &p);
}

void KERNEL(part_linear_input_gradient)(struct compute *c, activation *dinp, const activation *dout,
                                        const float *weight, size_t rows, int in_features, int out_features)
{
    struct product p = {.out = (float *)dinp,
                        .inp = (const float *)dout,
                        .weights = KERNEL(part_weights)(c, weight, in_features, out_features, 1),
                        .rows = rows,
                        .inner = out_features,
                        .outer = in_features,
                        .outer_tiles = tiles_of(in_features)};
    multiply(c, &p);
}
