/* A block of rows of parts times columns of weights, into sums that lie in whole tiles. */
#ifndef COMPUTE_CPU_KERNELS_PARTS_BLOCK_PRODUCTS_H
#define COMPUTE_CPU_KERNELS_PARTS_BLOCK_PRODUCTS_H

#include "compute/cpu/kernels/parts/part_products.h"

struct block_product {
    float *sums;
    size_t pitch, next; /* floats from a row of sums to the next, and from a tile of columns to the next */
    const part *rows;
    size_t length; /* from a row of parts to the next */
    const part *weights;
    size_t column;     /* from a tile of columns of weights to the next */
    const float *bias; /* of all tiles, where sums begin there */
    int inner;
    int row_tiles; /* a multiple of 4 */
    int tiles;     /* of columns */
};

enum sums_begin { BEGIN_AT_ZERO, BEGIN_AT_BIAS, BEGIN_AT_SUMS };

static ALWAYS_INLINE void begin_block_two_by_two(const struct block_product *p, enum sums_begin begin,
                                                 const float *sums, int tile)
{
    const size_t bytes = p->pitch * sizeof *sums, down = tile_rows * p->pitch;
    if (begin == BEGIN_AT_ZERO) {
        zero_sums();
    } else if (begin == BEGIN_AT_BIAS) {
        begin_two_by_two(p->bias + (size_t)tile * tile_columns);
    } else {
        _tile_loadd(0, sums, bytes);
        _tile_loadd(1, sums + p->next, bytes);
        _tile_loadd(2, sums + down, bytes);
        _tile_loadd(3, sums + down + p->next, bytes);
    }
}

static ALWAYS_INLINE void begin_block_four_by_one(const struct block_product *p, enum sums_begin begin,
                                                  const float *sums, int tile)
{
    const size_t bytes = p->pitch * sizeof *sums, down = tile_rows * p->pitch;
    if (begin == BEGIN_AT_ZERO) {
        zero_sums();
    } else if (begin == BEGIN_AT_BIAS) {
        begin_four_by_one(p->bias + (size_t)tile * tile_columns);
    } else {
        _tile_loadd(0, sums, bytes);
        _tile_loadd(1, sums + down, bytes);
        _tile_loadd(2, sums + 2 * down, bytes);
        _tile_loadd(3, sums + 3 * down, bytes);
    }
}

static ALWAYS_INLINE void multiply_columns(const struct block_product *p, enum sums_begin begin)
{
    const size_t bytes = p->pitch * sizeof *p->sums, down = tile_rows * p->pitch;
    const size_t tile_of_rows = tile_rows * p->length;
    struct tile_factors f = {.row_bytes = p->length * sizeof(part)};
    int tile = 0;
    before_tile_loads();
    for (; tile + 2 <= p->tiles; tile += 2) {
        f.columns[0] = p->weights + tile * p->column;
        f.columns[1] = f.columns[0] + p->column;
        f.rows[0] = p->rows;
        float *to = p->sums + tile * p->next;
        for (int r = 0; r < p->row_tiles; r += 2, to += 2 * down, f.rows[0] += 2 * tile_of_rows) {
            f.rows[1] = f.rows[0] + tile_of_rows;
            begin_block_two_by_two(p, begin, to, tile);
            add_two_by_two(&f, p->inner, NULL);
            _tile_stored(0, to, bytes);
            _tile_stored(1, to + p->next, bytes);
            _tile_stored(2, to + down, bytes);
            _tile_stored(3, to + down + p->next, bytes);
        }
    }
    if (tile < p->tiles) {
        f.columns[0] = p->weights + tile * p->column;
        float *to = p->sums + tile * p->next;
        for (int r = 0; r < p->row_tiles; r += 4, to += 4 * down) {
            for (int k = 0; k < 4; k++) {
                f.rows[k] = p->rows + (r + k) * tile_of_rows;
            }
            begin_block_four_by_one(p, begin, to, tile);
            add_four_by_one(&f, p->inner);
            _tile_stored(0, to, bytes);
            _tile_stored(1, to + down, bytes);
            _tile_stored(2, to + 2 * down, bytes);
            _tile_stored(3, to + 3 * down, bytes);
        }
    }
}

/* 32 rows by 2 tiles of columns of a product; sums (2, 32, 16) begin at zero, or at the bias of the first of
 * these columns, and are made beside what vectors have to do. */
enum { group_rows = 2 * tile_rows, group_sums = 2 * group_rows * tile_columns };

static ALWAYS_INLINE void multiply_group(float *sums, const struct tile_factors *f, const float *bias,
                                         int inner, struct beside *b)
{
    if (bias == NULL) {
        zero_sums();
    } else {
        begin_two_by_two(bias);
    }
    add_two_by_two(f, inner, b);
    _tile_stored(0, sums, tile_row_bytes);
    _tile_stored(1, sums + group_sums / 2, tile_row_bytes);
    _tile_stored(2, sums + group_sums / 4, tile_row_bytes);
    _tile_stored(3, sums + group_sums / 4 * 3, tile_row_bytes);
}

static inline struct tile_factors group_factors(const part *rows, size_t length, const part *weights,
                                                size_t column)
{
    return (struct tile_factors){.rows = {rows, rows + tile_rows * length},
                                 .row_bytes = length * sizeof(part),
                                 .columns = {weights, weights + column}};
}

#endif
