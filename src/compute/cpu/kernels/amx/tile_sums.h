/* Products summed over positions, of which there are many: channels x positions times positions x channels.
 * The sums lie in memory as tiles and are taken into registers for a stretch of positions at a time. */
#ifndef COMPUTE_CPU_KERNELS_AMX_TILE_SUMS_H
#define COMPUTE_CPU_KERNELS_AMX_TILE_SUMS_H

#include "compute/cpu/kernels/amx/strips.h"

/* One plane's part of a stretch. */
struct stretch_plane {
    const activation *rows[plane_taps]; /* (channels, positions): for a convolution of the taps along d */
    const activation *pairs;            /* (positions / 2, whole tiles of channels, 2) */
};

/* Positions of some planes that are summed over without leaving the registers. */
struct stretch {
    const struct stretch_plane *planes;
    int plane_count;
    int first, steps; /* of tile_depth positions */
    size_t pitch;     /* of rows */
    int pair_tiles;   /* tiles of the pairs' channels */
};

/* A tile's rows: 16 channels, for a convolution at a tap. */
struct tile_rows {
    int tap;       /* which rows */
    size_t offset; /* of the first element in them */
    float *sums;   /* (pair_tiles, 16, 16) */
};

/* Adds the products of two tiles of rows and two of pairs' channels, from `tile` on; two: whether there is a
 * second one. */
static ALWAYS_INLINE void add_tile_products(const struct stretch *s, const struct tile_rows *a,
                                            const struct tile_rows *b, int tile, int two)
{
    enum { sums_length = tile_rows * tile_columns };
    const size_t pitch = s->pitch * sizeof(activation);
    const size_t pair_pitch = (size_t)s->pair_tiles * tile_columns * 2;
    float *sums_a = a->sums + (size_t)tile * sums_length, *sums_b = b->sums + (size_t)tile * sums_length;
    _tile_loadd(0, sums_a, tile_row_bytes);
    _tile_loadd(2, sums_b, tile_row_bytes);
    if (two) {
        _tile_loadd(1, sums_a + sums_length, tile_row_bytes);
        _tile_loadd(3, sums_b + sums_length, tile_row_bytes);
    }
    for (int plane = 0; plane < s->plane_count; plane++) {
        const struct stretch_plane *at = &s->planes[plane];
        const activation *rows_a = at->rows[a->tap] + a->offset + s->first;
        const activation *rows_b = at->rows[b->tap] + b->offset + s->first;
        const activation *pairs = at->pairs + s->first / 2 * pair_pitch + (size_t)tile * tile_columns * 2;
        for (int k = 0; k < s->steps; k++) {
            _tile_loadd(4, pairs, pair_pitch * sizeof *pairs);
            _tile_loadd(6, rows_a, pitch);
            _tile_dpbf16ps(0, 6, 4);
            if (two) {
                _tile_loadd(5, pairs + 2 * tile_columns, pair_pitch * sizeof *pairs);
                _tile_dpbf16ps(1, 6, 5);
            }
            _tile_loadd(7, rows_b, pitch);
            _tile_dpbf16ps(2, 7, 4);
            if (two) {
                _tile_dpbf16ps(3, 7, 5);
            }
            rows_a += tile_depth;
            rows_b += tile_depth;
            pairs += tile_depth / 2 * pair_pitch;
        }
    }
    _tile_stored(0, sums_a, tile_row_bytes);
    _tile_stored(2, sums_b, tile_row_bytes);
    if (two) {
        _tile_stored(1, sums_a + sums_length, tile_row_bytes);
        _tile_stored(3, sums_b + sums_length, tile_row_bytes);
    }
}

/* As add_tile_products for all tiles of pairs' channels. */
static ALWAYS_INLINE void add_row_products(const struct stretch *s, const struct tile_rows *a,
                                           const struct tile_rows *b)
{
    for (int tile = 0; tile < s->pair_tiles; tile += 2) {
        if (tile + 1 < s->pair_tiles) {
            add_tile_products(s, a, b, tile, 1);
        } else {
            add_tile_products(s, a, b, tile, 0);
        }
    }
}

#endif
