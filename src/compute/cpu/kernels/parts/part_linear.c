#include "compute/cpu/kernels/parts/part_linear.h"

#include "compute/cpu/kernels/parts/part_products.h"
#include "compute/cpu/kernels/parts/part_rows.h"
#include "compute/cpu/kernels/parts/part_weights.h"

enum { block_rows = 4 * tile_rows }; /* the unit that threads share out */

/* out (rows, outer) = inp (rows, inner) weights + bias. */
struct product {
    float *out;
    const activation *inp;
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
                        .inp = inp,
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
                        .inp = dout,
                        .weights = KERNEL(part_weights)(c, weight, in_features, out_features, 1),
                        .rows = rows,
                        .inner = out_features,
                        .outer = in_features,
                        .outer_tiles = tiles_of(in_features)};
    multiply(c, &p);
}
