/* Products of window attention for a tile of queries: scores with the keys in lanes, and sums over keys with
 * the channels in lanes where a vector holds no more of them than a head has, else with the keys in lanes. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_PRODUCTS_H
#define COMPUTE_CPU_KERNELS_ATTENTION_PRODUCTS_H

#include "compute/cpu/kernels/attention_sizes.h"

/* low and high += rows (query_tile, width) times a block of columns (width, keys), which are `pitch` apart.
 */
static ALWAYS_INLINE void add_products(vec low[query_tile], vec high[query_tile], const float *rows,
                                       const float *columns, int width, int pitch)
{
    for (int d = 0; d < width; d++) {
        const float *column = columns + (size_t)d * pitch;
        const vec column_low = in_register(load(column)), column_high = in_register(load(column + lanes));
        for (int i = 0; i < query_tile; i++) {
            const vec row = broadcast(rows[i * width + d]);
            low[i] += row * column_low;
            high[i] += row * column_high;
        }
    }
    for (int i = 0; i < query_tile; i++) { /* what follows shall not take their registers in the loop */
        low[i] = in_register(low[i]);
        high[i] = in_register(high[i]);
    }
}

/* result (query_tile, width) = factors (query_tile, factor_row) values (keys, width), of an even number of
 * keys; where `added`, added to what is there. */
static ALWAYS_INLINE void add_sums_by_rows(float *result, const float *factors, const float *values,
                                           int width, int keys, int factor_row, int added)
{
    enum { vectors = row_channels / lanes, turns = vectors > 1 ? 1 : 2 };
    for (int d = 0; d < width; d += row_channels) {
        vec sums[turns][query_tile][vectors] = {0}; /* in turns, as additions to one are slow */
        for (int k = 0; k < keys; k += turns) {
            for (int turn = 0; turn < turns; turn++) {
                vec value[vectors];
                for (int v = 0; v < vectors; v++) {
                    value[v] = load(values + (size_t)(k + turn) * width + d + (size_t)v * lanes);
                }
                for (int i = 0; i < query_tile; i++) {
                    const vec factor = broadcast(factors[(size_t)i * factor_row + k + turn]);
                    for (int v = 0; v < vectors; v++) {
                        sums[turn][i][v] += factor * value[v];
                    }
                }
            }
        }
        for (int i = 0; i < query_tile; i++) {
            for (int v = 0; v < vectors; v++) {
                float *to = result + (size_t)i * width + d + (size_t)v * lanes;
                vec sum = sums[0][i][v];
                if (added) {
                    sum += load(to);
                }
                for (int turn = 1; turn < turns; turn++) {
                    sum += sums[turn][i][v];
                }
                store(to, sum);
            }
        }
    }
}

/* result (query_tile, width) = factors (query_tile, keys) times the transpose of values (width, keys); rows
 * of both are `pitch` apart. */
static ALWAYS_INLINE void sums_by_columns(float *result, const float *factors, const float *values, int width,
                                          int keys, int pitch)
{
    for (int i = 0; i < query_tile; i += 4) {
        for (int d = 0; d < width; d += 4) {
            vec products[16] = {{0}};
            for (int k = 0; k < keys; k += lanes) {
                const float *value = values + (size_t)d * pitch + k;
                const vec v0 = load(value), v1 = load(value + pitch);
                const vec v2 = load(value + 2 * (size_t)pitch), v3 = load(value + 3 * (size_t)pitch);
                for (int j = 0; j < 4; j++) {
                    const vec factor = load(factors + (size_t)(i + j) * pitch + k);
                    products[4 * j] += factor * v0;
                    products[4 * j + 1] += factor * v1;
                    products[4 * j + 2] += factor * v2;
                    products[4 * j + 3] += factor * v3;
                }
            }
            float sums[16];
            sums_of_16(sums, products);
            for (int j = 0; j < 4; j++) {
                store_quad(result + (size_t)(i + j) * width + d, load_quad(sums + 4 * (size_t)j));
            }
        }
    }
}

#endif
