/* Products of window attention for a tile of queries: scores with the keys in lanes, and sums over keys with
 * the channels in lanes where a vector holds no more of them than a head has, else with the keys in lanes. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_PRODUCTS_H
#define COMPUTE_CPU_KERNELS_ATTENTION_PRODUCTS_H

#include "compute/cpu/kernels/attention_window.h"

enum { row_channels = 16 }; /* that are worked on together where lanes are channels */

/* Whether sums over keys read a matrix of tokens by channels (gather_tokens), not its transpose. */
static inline int sums_by_rows(int width)
{
    return lanes > 4 && width % row_channels == 0;
}

/* Points rows at the bias of a tile's queries, mask included, for keys from .. to - 1: at copies (query_tile,
 * keys) where the window has a mask. */
static inline void bias_of_tile(const float *rows[query_tile], float *copies, const float *bias,
                                const struct window *window, int first, int from, int to, int keys)
{
    for (int i = 0; i < query_tile; i++) {
        const int query = window->query[first + i];
        rows[i] = bias + (size_t)query * keys;
        if (window->masked) {
            float *copy = copies + (size_t)i * keys;
            for (int k = from; k < to; k += lanes) {
                store(copy + k, add_mask(load(rows[i] + k), window->region + k, window->region[query]));
            }
            rows[i] = copy;
        }
    }
}

/* low and high += queries (query_tile, width) times two vectors of keys (width, keys). */
static ALWAYS_INLINE void add_scores(vec low[query_tile], vec high[query_tile], const float *queries,
                                     const float *key, int width, int keys)
{
    for (int d = 0; d < width; d++) {
        const vec key_low = load(key + (size_t)d * keys), key_high = load(key + (size_t)d * keys + lanes);
        for (int i = 0; i < query_tile; i++) {
            const vec query = broadcast(queries[i * width + d]);
            low[i] += query * key_low;
            high[i] += query * key_high;
        }
    }
}

/* result (query_tile, width) += factors (query_tile, keys) values (keys, width), over keys from .. to - 1. */
static ALWAYS_INLINE void add_sums_by_rows(float *result, const float *factors, const float *values, int from,
                                           int to, int width, int keys)
{
    enum { vectors = row_channels / lanes };
    for (int d = 0; d < width; d += row_channels) {
        vec sums[query_tile][vectors + (vectors == 0)];
        for (int i = 0; i < query_tile; i++) {
            for (int v = 0; v < vectors; v++) {
                sums[i][v] = load(result + (size_t)i * width + d + (size_t)v * lanes);
            }
        }
        for (int k = from; k < to; k++) {
            vec value[vectors + (vectors == 0)];
            for (int v = 0; v < vectors; v++) {
                value[v] = load(values + (size_t)k * width + d + (size_t)v * lanes);
            }
            for (int i = 0; i < query_tile; i++) {
                const vec factor = broadcast(factors[(size_t)i * keys + k]);
                for (int v = 0; v < vectors; v++) {
                    sums[i][v] += factor * value[v];
                }
            }
        }
        for (int i = 0; i < query_tile; i++) {
            for (int v = 0; v < vectors; v++) {
                store(result + (size_t)i * width + d + (size_t)v * lanes, sums[i][v]);
            }
        }
    }
}

/* The same from the transpose of values (width, keys). */
static ALWAYS_INLINE void add_sums_by_columns(float *result, const float *factors, const float *values,
                                              int from, int to, int width, int keys)
{
    for (int i = 0; i < query_tile; i += 4) {
        for (int d = 0; d < width; d += 4) {
            vec products[16] = {{0}};
            for (int k = from; k < to; k += lanes) {
                const float *value = values + (size_t)d * keys + k;
                const vec v0 = load(value), v1 = load(value + keys);
                const vec v2 = load(value + 2 * (size_t)keys), v3 = load(value + 3 * (size_t)keys);
                for (int j = 0; j < 4; j++) {
                    const vec factor = load(factors + (size_t)(i + j) * keys + k);
                    products[4 * j] += factor * v0;
                    products[4 * j + 1] += factor * v1;
                    products[4 * j + 2] += factor * v2;
                    products[4 * j + 3] += factor * v3;
                }
            }
            float sums[16];
            sums_of_16(sums, products);
            for (int j = 0; j < 4; j++) {
                float *to_sum = result + (size_t)(i + j) * width + d;
                store_quad(to_sum, load_quad(to_sum) + load_quad(sums + 4 * (size_t)j));
            }
        }
    }
}

static ALWAYS_INLINE void add_sums(float *result, const float *factors, const float *values, int from, int to,
                                   int width, int keys)
{
    if (sums_by_rows(width)) {
        add_sums_by_rows(result, factors, values, from, to, width, keys);
    } else {
        add_sums_by_columns(result, factors, values, from, to, width, keys);
    }
}

#endif
