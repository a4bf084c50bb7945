/* Products of matrices of parts (parts.h) in registers: four tiles of sums, two by two or four below each
 * other, tiles 0 to 3. */
#ifndef COMPUTE_CPU_KERNELS_PARTS_PART_PRODUCTS_H
#define COMPUTE_CPU_KERNELS_PARTS_PART_PRODUCTS_H

#include "compute/cpu/kernels/parts/parts.h"

/* Up to four tiles of rows of the left factor, 16 rows each, and one or two tiles of columns of the right
 * one.
 */
struct tile_factors {
    const part *rows[4];
    size_t row_bytes; /* between two rows */
    const part *columns[2];
};

/* What vectors do while tiles multiply: a processor looks some hundred instructions ahead, so that both go on
 * at once where a little of the one follows a little of the other. Not much of it: while tiles multiply,
 * vectors are half as fast. */
struct beside {
    void (*work)(const void *pass, int first, int count);
    const void *pass;
    int total, done;     /* units of work */
    int every, products; /* a unit after so many products of four tiles, and those since the last one */
};

static ALWAYS_INLINE void go_on(struct beside *b)
{
    if (b != NULL && b->done < b->total && ++b->products >= b->every) {
        b->work(b->pass, b->done, 1);
        b->done++;
        b->products = 0;
    }
}

/* Does what is left. */
static inline void finish_beside(struct beside *b)
{
    if (b->done < b->total) {
        b->work(b->pass, b->done, b->total - b->done);
    }
    b->total = b->done = b->products = 0;
}

/* Sums begin at the bias of their columns, which all rows of a tile share: there is no step from one to the
 * next. */
static ALWAYS_INLINE void begin_two_by_two(const float *bias)
{
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + tile_columns, 0);
    _tile_loadd(2, bias, 0);
    _tile_loadd(3, bias + tile_columns, 0);
}

static ALWAYS_INLINE void begin_four_by_one(const float *bias)
{
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias, 0);
    _tile_loadd(2, bias, 0);
    _tile_loadd(3, bias, 0);
}

/* Sums 0, 1: rows[0]; 2, 3: rows[1]. The numbers of tiles must be known when this is compiled. */
#define MULTIPLY_TWO_BY_TWO()                                                                                \
    do {                                                                                                     \
        _tile_dpbf16ps(0, 4, 6);                                                                             \
        _tile_dpbf16ps(1, 4, 7);                                                                             \
        _tile_dpbf16ps(2, 5, 6);                                                                             \
        _tile_dpbf16ps(3, 5, 7);                                                                             \
    } while (0)

static ALWAYS_INLINE void load_two_rows(const struct tile_factors *f, size_t offset)
{
    _tile_loadd(4, f->rows[0] + offset, f->row_bytes);
    _tile_loadd(5, f->rows[1] + offset, f->row_bytes);
}

static ALWAYS_INLINE void load_two_columns(const struct tile_factors *f, size_t offset)
{
    _tile_loadd(6, f->columns[0] + offset, tile_row_bytes);
    _tile_loadd(7, f->columns[1] + offset, tile_row_bytes);
}

/* Smaller products come first, and each tile of the right factor is loaded once. b may be NULL. */
static ALWAYS_INLINE void add_two_by_two(const struct tile_factors *f, int inner, struct beside *b)
{
    for (int k = 0; part_count == 1 && k < all_steps(inner); k++) {
        load_two_rows(f, (size_t)k * tile_depth);
        load_two_columns(f, (size_t)k * tile_length);
        go_on(b);
        MULTIPLY_TWO_BY_TWO();
    }
    if (part_count == 1) {
        return;
    }
    size_t row = 0, column = 0;
    for (int k = 0; k < whole_steps(inner); k++) {
        load_two_rows(f, row);
        load_two_columns(f, column + 2 * tile_length);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x1 y3 */
        load_two_columns(f, column + tile_length);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x1 y2 */
        load_two_rows(f, row + tile_depth);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x2 y2 */
        load_two_columns(f, column);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x2 y1 */
        load_two_rows(f, row + 2 * tile_depth);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x3 y1 */
        load_two_rows(f, row);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x1 y1 */
        row += part_count * tile_depth;
        column += (size_t)part_count * tile_length;
    }
    if (has_half_step(inner)) {
        load_two_rows(f, row + tile_depth);
        load_two_columns(f, column + 2 * tile_length);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x3 y1 + x1 y3 */
        load_two_rows(f, row);
        load_two_columns(f, column + tile_length);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x1 y2 + x2 y2 */
        load_two_columns(f, column);
        go_on(b);
        MULTIPLY_TWO_BY_TWO(); /* x1 y1 + x2 y1 */
    }
}

/* Sums 0 to 3: rows[0] to rows[3], times tile 5, 6 or 7. */
#define MULTIPLY_FOUR(column)                                                                                \
    do {                                                                                                     \
        _tile_loadd(4, f->rows[0] + offset, f->row_bytes);                                                   \
        _tile_dpbf16ps(0, 4, column);                                                                        \
        _tile_loadd(4, f->rows[1] + offset, f->row_bytes);                                                   \
        _tile_dpbf16ps(1, 4, column);                                                                        \
        _tile_loadd(4, f->rows[2] + offset, f->row_bytes);                                                   \
        _tile_dpbf16ps(2, 4, column);                                                                        \
        _tile_loadd(4, f->rows[3] + offset, f->row_bytes);                                                   \
        _tile_dpbf16ps(3, 4, column);                                                                        \
    } while (0)

static ALWAYS_INLINE void multiply_four_by_5(const struct tile_factors *f, size_t offset)
{
    MULTIPLY_FOUR(5);
}

static ALWAYS_INLINE void multiply_four_by_6(const struct tile_factors *f, size_t offset)
{
    MULTIPLY_FOUR(6);
}

static ALWAYS_INLINE void multiply_four_by_7(const struct tile_factors *f, size_t offset)
{
    MULTIPLY_FOUR(7);
}

static ALWAYS_INLINE void load_one_column(const struct tile_factors *f, size_t offset)
{
    _tile_loadd(5, f->columns[0] + offset, tile_row_bytes);
    _tile_loadd(6, f->columns[0] + offset + tile_length, tile_row_bytes);
    _tile_loadd(7, f->columns[0] + offset + 2 * tile_length, tile_row_bytes);
}

static ALWAYS_INLINE void add_four_by_one(const struct tile_factors *f, int inner)
{
    for (int k = 0; part_count == 1 && k < all_steps(inner); k++) {
        _tile_loadd(5, f->columns[0] + (size_t)k * tile_length, tile_row_bytes);
        multiply_four_by_5(f, (size_t)k * tile_depth);
    }
    if (part_count == 1) {
        return;
    }
    size_t row = 0, column = 0;
    for (int k = 0; k < whole_steps(inner); k++) {
        load_one_column(f, column);
        multiply_four_by_7(f, row);                  /* x1 y3 */
        multiply_four_by_6(f, row + tile_depth);     /* x2 y2 */
        multiply_four_by_5(f, row + 2 * tile_depth); /* x3 y1 */
        multiply_four_by_6(f, row);                  /* x1 y2 */
        multiply_four_by_5(f, row + tile_depth);     /* x2 y1 */
        multiply_four_by_5(f, row);                  /* x1 y1 */
        row += part_count * tile_depth;
        column += (size_t)part_count * tile_length;
    }
    if (has_half_step(inner)) {
        load_one_column(f, column);
        multiply_four_by_7(f, row + tile_depth); /* x3 y1 + x1 y3 */
        multiply_four_by_6(f, row);              /* x1 y2 + x2 y2 */
        multiply_four_by_5(f, row);              /* x1 y1 + x2 y1 */
    }
}

#endif
