/* Products of parts that are summed over rows, as the gradients of weights are: the left factor lies in
 * lines, with rows along them, the right one in pairs of rows. Sums are in tiles 0 to 3. */
#ifndef COMPUTE_CPU_KERNELS_PARTS_SUMS_OVER_ROWS_H
#define COMPUTE_CPU_KERNELS_PARTS_SUMS_OVER_ROWS_H

#include "compute/cpu/kernels/amx/transpose_pairs.h"
#include "compute/cpu/kernels/parts/part_rows.h"

enum { tile_sums = tile_rows * tile_columns };

/* Of an array of rows, and of the lines that are made of it. */
struct line_sizes {
    size_t features;    /* elements from a row to the next */
    size_t pitch;       /* elements from a line to the next */
    size_t part_length; /* and from a part to the next */
};

/* Up to 16 columns of up to 16 rows, transposed; `count` columns are there, or more. */
static ALWAYS_INLINE void transposed_block(__m512i columns[16], const activation *from, size_t pitch,
                                           int rows, int count)
{
    __m512i block[16];
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) {
        block[k] =
            k < rows ? (__m512i)load_activations_up_to(from + k * pitch, count) : _mm512_setzero_si512();
    }
    transpose_pairs(columns, block);
}

/* 32 rows, or what there is of them, of the first `count` of 16 columns, as 16 lines; zeros behind. */
static ALWAYS_INLINE void split_lines(part *to, const struct line_sizes *z, const activation *from, int rows,
                                      int count)
{
    __m512i low[16], high[16];
    const size_t pitch = z->features;
    transposed_block(low, from, pitch, rows < 16 ? rows : 16, count);
    transposed_block(high, from + 16 * pitch, pitch, rows < 16 ? 0 : rows - 16, count);
    for (int k = 0; k < 16; k++, to += z->pitch) {
        const struct parts a = parts_of(_mm512_castsi512_ps(low[k]));
        const struct parts b = parts_of(_mm512_castsi512_ps(high[k]));
        for (int p = 0; p < part_count; p++) {
            _mm512_storeu_si512(to + p * z->part_length, parts_in_order(&a, &b, p));
        }
    }
}

/* Tiles of sums, 16 x 16 floats one behind the other, and what is summed into them. */
struct sums_over_rows {
    float *sums;
    size_t sums_down; /* floats to the tile of the next lines */
    const part *lines, *pairs;
    size_t line_bytes, pair_bytes; /* between two of them */
    size_t next_lines, next_pairs; /* elements from a tile to its neighbour */
    size_t line_parts, pair_parts; /* from a part to the next */
    size_t pair_step;              /* and from 32 rows to the next; there are so many steps: */
    int steps;
};

static ALWAYS_INLINE void load_lines(const struct sums_over_rows *s, int p)
{
    _tile_loadd(4, s->lines + p * s->line_parts, s->line_bytes);
    _tile_loadd(5, s->lines + p * s->line_parts + s->next_lines, s->line_bytes);
}

static ALWAYS_INLINE void load_pairs(const struct sums_over_rows *s, int p, int two)
{
    _tile_loadd(6, s->pairs + p * s->pair_parts, s->pair_bytes);
    if (two) {
        _tile_loadd(7, s->pairs + p * s->pair_parts + s->next_pairs, s->pair_bytes);
    }
}

static ALWAYS_INLINE void multiply_loaded(int two)
{
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 5, 6);
    if (two) {
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static ALWAYS_INLINE void add_step(const struct sums_over_rows *s, int two)
{
    load_lines(s, 0);
    if (part_count == 1) {
        load_pairs(s, 0, two);
        multiply_loaded(two);
        return;
    }
    load_pairs(s, 2, two);
    multiply_loaded(two); /* x1 y3 */
    load_pairs(s, 1, two);
    multiply_loaded(two); /* x1 y2 */
    load_lines(s, 1);
    multiply_loaded(two); /* x2 y2 */
    load_pairs(s, 0, two);
    multiply_loaded(two); /* x2 y1 */
    load_lines(s, 2);
    multiply_loaded(two); /* x3 y1 */
    load_lines(s, 0);
    multiply_loaded(two); /* x1 y1 */
}

/* Two tiles of lines and one or two of pairs. */
static ALWAYS_INLINE void add_two_lines(struct sums_over_rows s, int two)
{
    float *upper = s.sums, *lower = upper + s.sums_down;
    _tile_loadd(0, upper, tile_row_bytes);
    _tile_loadd(2, lower, tile_row_bytes);
    if (two) {
        _tile_loadd(1, upper + tile_sums, tile_row_bytes);
        _tile_loadd(3, lower + tile_sums, tile_row_bytes);
    }
    for (int k = 0; k < s.steps; k++) {
        add_step(&s, two);
        s.lines += tile_depth;
        s.pairs += s.pair_step;
    }
    _tile_stored(0, upper, tile_row_bytes);
    _tile_stored(2, lower, tile_row_bytes);
    if (two) {
        _tile_stored(1, upper + tile_sums, tile_row_bytes);
        _tile_stored(3, lower + tile_sums, tile_row_bytes);
    }
}

/* The p-th parts of four tiles of pairs, times lines in tile 5, 6 or 7. */
#define MULTIPLY_FOUR_PAIRS(line, p)                                                                         \
    do {                                                                                                     \
        const part *pairs = s.pairs + (p)*s.pair_parts;                                                      \
        _tile_loadd(4, pairs, s.pair_bytes);                                                                 \
        _tile_dpbf16ps(0, line, 4);                                                                          \
        _tile_loadd(4, pairs + s.next_pairs, s.pair_bytes);                                                  \
        _tile_dpbf16ps(1, line, 4);                                                                          \
        _tile_loadd(4, pairs + 2 * s.next_pairs, s.pair_bytes);                                              \
        _tile_dpbf16ps(2, line, 4);                                                                          \
        _tile_loadd(4, pairs + 3 * s.next_pairs, s.pair_bytes);                                              \
        _tile_dpbf16ps(3, line, 4);                                                                          \
    } while (0)

/* One tile of lines and four of pairs. */
static inline void add_one_by_four(struct sums_over_rows s)
{
    _tile_loadd(0, s.sums, tile_row_bytes);
    _tile_loadd(1, s.sums + tile_sums, tile_row_bytes);
    _tile_loadd(2, s.sums + 2 * tile_sums, tile_row_bytes);
    _tile_loadd(3, s.sums + 3 * tile_sums, tile_row_bytes);
    for (int k = 0; k < s.steps; k++) {
        _tile_loadd(5, s.lines, s.line_bytes);
        if (part_count > 1) {
            _tile_loadd(6, s.lines + s.line_parts, s.line_bytes);
            _tile_loadd(7, s.lines + 2 * s.line_parts, s.line_bytes);
            MULTIPLY_FOUR_PAIRS(5, 2); /* x1 y3 */
            MULTIPLY_FOUR_PAIRS(6, 1); /* x2 y2 */
            MULTIPLY_FOUR_PAIRS(7, 0); /* x3 y1 */
            MULTIPLY_FOUR_PAIRS(5, 1); /* x1 y2 */
            MULTIPLY_FOUR_PAIRS(6, 0); /* x2 y1 */
        }
        MULTIPLY_FOUR_PAIRS(5, 0); /* x1 y1 */
        s.lines += tile_depth;
        s.pairs += s.pair_step;
    }
    _tile_stored(0, s.sums, tile_row_bytes);
    _tile_stored(1, s.sums + tile_sums, tile_row_bytes);
    _tile_stored(2, s.sums + 2 * tile_sums, tile_row_bytes);
    _tile_stored(3, s.sums + 3 * tile_sums, tile_row_bytes);
}

#endif
