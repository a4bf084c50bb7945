/* Where backward of window attention leaves its gradients: those of parameters are summed by each thread,
 * head by head, and then over threads in their order; those of tokens are written. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_SUMS_H
#define COMPUTE_CPU_KERNELS_ATTENTION_SUMS_H

#include "compute/cpu/kernels/attention_pieces.h"

enum { most_attention_threads = 256 };

static inline int attention_threads(const struct compute *c)
{
    const int threads = cpu_state(c)->threads;
    return threads < most_attention_threads ? threads : most_attention_threads;
}

enum {
    table_side = 2 * relative_table_window - 1, /* distances along an axis */
    line_distances = table_side * table_side,
    line_keys = 8, /* neighbours along an axis, and one more that counts for nothing */
};

typedef float float_line __attribute__((vector_size(line_keys * sizeof(float)), may_alias, aligned(4)));
typedef int32_t int_line __attribute__((vector_size(line_keys * sizeof(int32_t)), may_alias, aligned(4)));
typedef double double_line __attribute__((vector_size(line_keys * sizeof(double)), may_alias, aligned(8)));

/* What one thread has gathered. Queries in the same place along the last axis have their lines of keys in the
 * same lanes: one vector takes up all lines that are as far from their queries along the other two axes. */
struct attention_sums {
    int head;           /* at work; -1: none yet */
    double_line *lines; /* (relative_table_window, line_distances): the head's gradient by the query's place,
                           see lines_of_query */
    double *dtable;     /* (heads, 2197) */
    double *dqkv_bias;  /* (3 channels) */
};

/* The lines of a query, by its number in the window; line_of_keys of a key's number says which one its line
 * is. */
static inline int line_of_keys(int token)
{
    return token / relative_table_window / relative_table_window * table_side +
           token / relative_table_window % relative_table_window;
}
static inline double_line *lines_of_query(const struct attention_sums *sums, int token)
{
    return sums->lines + token % relative_table_window * line_distances + line_distances / 2 -
           line_of_keys(token);
}

/* Of memory for the sums. */
static inline size_t attention_sums_bytes(const struct attention_sizes *z)
{
    const size_t lines = (size_t)relative_table_window * line_distances * line_keys;
    return float_bytes(2 * (lines + (size_t)z->heads * relative_table_rows + 3 * (size_t)z->channels));
}

/* Zeroes all. */
void KERNEL(begin_attention_sums)(struct attention_sums *sums, void *memory,
                                  const struct attention_sizes *sizes);

/* Adds the lines to the head's column of the table's gradient, where there is a head, and zeroes them. */
void KERNEL(end_attention_head)(struct attention_sums *sums);

/* Adds the sums of all threads. */
void KERNEL(reduce_attention_sums)(float *dqkv_bias, float *dbias_table, const struct attention_sums *sums,
                                   int threads, const struct attention_sizes *sizes);

/* A token's columns of a head: from (head_dim) times factor. */
void KERNEL(write_scaled_row)(activation *to, const float *from, float factor,
                              const struct attention_sizes *sizes);

/* A window's gradients, before they are scaled: of queries (query slots, width), keys and values (width,
 * pitch), and the factors of the first two. */
struct window_gradients {
    const float *dqueries, *dkeys, *dvalues;
    float query_factor, key_factor;
};

/* Writes the columns of a head, from `first` on, of the real tokens of dqkv; what belongs to padding is added
 * to sums. */
void KERNEL(write_window_gradients)(activation *dqkv, const struct attention_sums *sums,
                                    const struct window_gradients *gradients, int first,
                                    const struct cut_window *cut, const struct attention_sizes *sizes);

#endif
