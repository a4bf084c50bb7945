/* The sizes of window attention, and where tokens lie in windows and in the table of biases.
 *
 * Scores are kept times log2(e), so that their exponential is a power of two: queries, bias and mask carry
 * the factor. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_SIZES_H
#define COMPUTE_CPU_KERNELS_ATTENTION_SIZES_H

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
    most_pieces = 8,                  /* of a window (attention_pieces.h): two regions along each axis */
    most_query_slots = window_tokens_max + most_pieces * most_query_tile,
    most_key_slots =
        (window_tokens_max + most_pieces * block_keys + block_keys - 1) / block_keys * block_keys,
};

static const float log2_of_e = 1.44269504F;
static const float log_of_2 = 0.693147181F;
static const float masked_score = -100 * 1.44269504F;
static const float absent_key = -1e30F; /* the bias of lanes behind the last key */

/* Whether sums over keys read a matrix of tokens by channels, not its transpose. */
enum { row_channels = 16 }; /* that are worked on together where lanes are channels */
static inline int attention_by_rows(int width)
{
    return lanes > 4 && width % row_channels == 0;
}

/* The sizes that hold for all windows. */
struct attention_sizes {
    int channels, heads, head_dim;
    int width; /* head_dim rounded up to 4 */
    int tokens;
    int keys;     /* tokens rounded up to two vectors */
    size_t pitch; /* from a channel's keys to the next one's: most_key_slots */
    /* For windows in pieces (attention_pieces.h), set by kernels that want them otherwise: whether regions
     * are pieces, of how many queries slots are a multiple, whether bias lies by blocks of keys or by
     * queries. */
    int regions_apart, query_unit, bias_in_blocks;
    size_t windows; /* over all samples */
    size_t group;   /* windows of samples that stay in the cache until the last head has read its columns of
                       them */
};

enum token_kind { REAL_TOKEN, PADDING, ABSENT_TOKEN };

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

/* An array in scratch memory. */
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

#endif
