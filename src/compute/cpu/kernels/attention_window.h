/* What forward and backward of window attention share: which tokens a window holds, one head's tokens laid
 * out for vectors over keys, and the products of a few queries with all keys.
 *
 * Scores are kept times log2(e), so that their exponential is a power of two: queries, bias and mask carry
 * the factor. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_WINDOW_H
#define COMPUTE_CPU_KERNELS_ATTENTION_WINDOW_H

#include "compute/compute.h"
#include "compute/cpu/kernels/vector.h"

#include <stddef.h>

enum {
    window_tokens_max = relative_table_window * relative_table_window * relative_table_window,
    window_keys_max = (window_tokens_max + 2 * 16 - 1) / (2 * 16) * (2 * 16),
    query_tile = 4,
};

static const float log2_of_e = 1.44269504F;
static const float log_of_2 = 0.693147181F;
static const float masked_score = -100 * 1.44269504F;
static const float absent_key = -1e30F; /* the bias of lanes behind the last key */

struct window {
    int tokens;
    int keys;                      /* tokens rounded up to two vectors */
    int queries;                   /* real tokens */
    int regions;                   /* more than one: tokens of different regions are masked */
    size_t row[window_tokens_max]; /* of qkv; SIZE_MAX for a padded token */
    int query[window_tokens_max +
              query_tile]; /* the real tokens' numbers; repeats the last one behind the end */
    int region[window_keys_max];
};

/* The sizes that hold for all windows. */
struct attention_sizes {
    int channels;
    int width; /* head_dim rounded up to 4 */
    int tokens, keys;
    size_t windows; /* over all samples */
};

/* Fails with VOCO_UNSUPPORTED, and returns 0, where a window is larger than 7 or shifted by its own size. */
int KERNEL(attention_sizes)(struct compute *c, struct attention_sizes *sizes,
                            const struct attention_shape *shape);

void KERNEL(cut_window)(struct window *window, size_t index, const struct attention_shape *shape);

/* bias (tokens, keys) of one head from the table (2197, heads). */
void KERNEL(head_bias)(float *bias, const float *bias_table, int head, int heads,
                       const struct attention_sizes *sizes);

/* Adds the gradient of such a matrix to the gradient of the head's column of the table, as (2197). */
void KERNEL(add_table_gradient)(double *dtable, const float *dbias, const struct attention_sizes *sizes);

/* Columns first .. first + head_dim - 1 of the window's rows, as (width, keys): channels by tokens. */
void KERNEL(gather_transposed)(float *result, const float *rows, size_t row_length, const float *padding,
                               int first, const struct window *window, const struct attention_shape *shape,
                               int width);

/* The same columns of the real tokens, times factor, as (queries + query_tile, width). */
void KERNEL(gather_queries)(float *result, const float *rows, size_t row_length, int first, float factor,
                            const struct window *window, const struct attention_shape *shape, int width);

/* result (4, keys) = start rows + a (4, width) b (width, keys); start may be NULL for zeros. */
static inline void tile_times_keys(float *result, const float *const start[query_tile], const float *a,
                                   const float *b, int width, int keys)
{
    for (int k = 0; k < keys; k += 2 * lanes) {
        vec low[query_tile], high[query_tile];
        for (int i = 0; i < query_tile; i++) {
            low[i] = start != NULL ? load(start[i] + k) : (vec){0};
            high[i] = start != NULL ? load(start[i] + k + lanes) : (vec){0};
        }
        for (int d = 0; d < width; d++) {
            const vec b_low = load(b + (size_t)d * keys + k), b_high = load(b + (size_t)d * keys + k + lanes);
            for (int i = 0; i < query_tile; i++) {
                low[i] += a[i * width + d] * b_low;
                high[i] += a[i * width + d] * b_high;
            }
        }
        for (int i = 0; i < query_tile; i++) {
            store(result + (size_t)i * keys + k, low[i]);
            store(result + (size_t)i * keys + k + lanes, high[i]);
        }
    }
}

/* result (4, width) = a (4, keys) b (width, keys)^T */
static inline void tile_over_keys(float *result, const float *a, const float *b, int width, int keys)
{
    for (int d = 0; d < width; d += 4) {
        vec sum[query_tile][4] = {{{0}}};
        for (int k = 0; k < keys; k += lanes) {
            vec column[4];
            for (int j = 0; j < 4; j++) {
                column[j] = load(b + (size_t)(d + j) * keys + k);
            }
            for (int i = 0; i < query_tile; i++) {
                const vec row = load(a + (size_t)i * keys + k);
                for (int j = 0; j < 4; j++) {
                    sum[i][j] += row * column[j];
                }
            }
        }
        for (int i = 0; i < query_tile; i++) {
            for (int j = 0; j < 4; j++) {
                result[i * width + d + j] = sum_of_lanes(sum[i][j]);
            }
        }
    }
}

/* Adds the mask to the scores (4, keys) of the queries at `first` in the window's list. */
static inline void mask_tile(float *scores, const struct window *window, int first)
{
    for (int i = 0; i < query_tile; i++) {
        const int own = window->region[window->query[first + i]];
        for (int k = 0; k < window->keys; k++) {
            scores[i * window->keys + k] += window->region[k] != own ? masked_score : 0;
        }
    }
}

#endif
