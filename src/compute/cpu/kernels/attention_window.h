/* What forward and backward of window attention share: which tokens a window holds, and one head's tokens
 * laid out for vectors over keys.
 *
 * Scores are kept times log2(e), so that their exponential is a power of two: queries, bias and mask carry
 * the factor. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_WINDOW_H
#define COMPUTE_CPU_KERNELS_ATTENTION_WINDOW_H

#include "compute/compute.h"
#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

#include <stddef.h>
#include <string.h>

enum {
    window_tokens_max = relative_table_window * relative_table_window * relative_table_window,
    whole_window_keys = (window_tokens_max + 2 * lanes - 1) / (2 * lanes) * (2 * lanes),
    block_keys = 2 * lanes,           /* keys that are worked on together */
    query_tile = lanes == 16 ? 8 : 4, /* queries that are worked on together ... */
    most_query_tile = 8,              /* ... whatever the build */
    regions_of_window = 8,            /* of a window that a shift cuts along each axis */
    regions_of_all = 27,
};

static const float log2_of_e = 1.44269504F;
static const float log_of_2 = 0.693147181F;
static const float masked_score = -100 * 1.44269504F;
static const float absent_key = -1e30F; /* the bias of lanes behind the last key */

/* The sizes that hold for all windows. */
struct attention_sizes {
    int channels, heads, head_dim;
    int width; /* head_dim rounded up to 4 */
    int tokens;
    int keys;       /* tokens rounded up to two vectors */
    size_t pitch;   /* from a channel's keys to the next one's: keys, unless a kernel sets another */
    size_t windows; /* over all samples */
    size_t group;   /* windows, see attention_task */
};

/* Tasks are windows x heads. A head's bias is prepared once for a group of windows: samples that stay in the
 * cache until the last head has read its columns of them. */
struct attention_task {
    int head;
    size_t window;
};
struct attention_task KERNEL(attention_task)(size_t task, const struct attention_sizes *sizes);

enum token_kind { REAL_TOKEN, PADDING, ABSENT_TOKEN };

struct window {
    int queries;                              /* real tokens */
    int masked;                               /* tokens of different regions do not see each other */
    size_t row[window_tokens_max];            /* of the token among all, unless it is padding */
    const activation *qkv[window_tokens_max]; /* its q, k and v */
    unsigned char padding[window_tokens_max]; /* whether it is: REAL_TOKEN or PADDING */
    /* The real tokens' numbers; repeats the last one behind the end. */
    int query[window_tokens_max + most_query_tile];
    int32_t region[whole_window_keys];
};

/* Where a window's tokens lie along one axis, before the roll (-1: in the padding), and their regions. */
struct axis_places {
    int place[relative_table_window], region[relative_table_window];
};
struct axis_places KERNEL(places_along)(int extent, int window, int shift, int corner);

static inline int windows_along(int extent, int window)
{
    return (extent + window - 1) / window;
}

/* Returns 0 where attention_is_supported does (compute/supported_shapes.h). */
int KERNEL(attention_sizes)(struct compute *c, struct attention_sizes *sizes,
                            const struct attention_shape *shape);

/* Scratch memory of a pass: the result has `bytes`, and padded_row (2, 3 channels) is q, k and v of padding,
 * from qkv_bias, and of absent tokens, zeros. NULL where there is none left, which c remembers. */
unsigned char *KERNEL(attention_memory)(struct compute *c, activation **padded_row, const float *qkv_bias,
                                        size_t bytes, const struct attention_sizes *sizes);

/* An array in a thread's part of it. */
struct array_place {
    void *array; /* where the pointer to it is kept */
    size_t bytes;
};

/* Lays arrays out one behind the other, each from a cache line on, and sets their pointers; returns the bytes
 * they take. */
static inline size_t lay_out_arrays(const struct array_place *places, size_t count, unsigned char *memory)
{
    size_t bytes = 0;
    for (size_t k = 0; k < count; k++) {
        unsigned char *array = memory + bytes;
        memcpy(places[k].array, &array, sizeof array);
        bytes += (places[k].bytes + 63) / 64 * 64;
    }
    return bytes;
}

/* padded_row as attention_memory leaves it. */
void KERNEL(cut_window)(struct window *window, size_t index, const activation *qkv,
                        const activation *padded_row, const struct attention_shape *shape);

/* bias (tokens, keys) of one head from the table (2197, heads). */
void KERNEL(head_bias)(float *bias, const float *bias_table, int head, const struct attention_sizes *sizes);

/* The row of the table for query and key is first_table_row(query) - offset(key), both by their numbers in a
 * window of 7^3. */
static inline int offset_in_table(int token)
{
    const int n = relative_table_window, side = 2 * n - 1;
    return (token / n / n * side + token / n % n) * side + token % n;
}

static inline int first_table_row(int query)
{
    return offset_in_table(query) + (relative_table_rows - 1) / 2;
}

/* Adds the mask to a query's scores of one vector of keys, by their regions. */
static inline vec add_mask(vec scores, const int32_t *region, int32_t own)
{
#if defined(__AVX512F__)
    const __mmask16 apart = _mm512_cmpneq_epi32_mask(_mm512_loadu_si512(region), _mm512_set1_epi32(own));
    return (vec)_mm512_mask_add_ps((__m512)scores, apart, (__m512)scores, _mm512_set1_ps(masked_score));
#else
    const vec masked = broadcast(masked_score);
    return scores + (vec)(((ivec)load((const float *)region) != own) & (ivec)masked);
#endif
}

#endif
