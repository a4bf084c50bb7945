/* Where backward of window attention leaves its gradients: those of parameters are summed by each thread,
 * head by head, and then over threads in their order; those of tokens are written. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_SUMS_H
#define COMPUTE_CPU_KERNELS_ATTENTION_SUMS_H

#include "compute/cpu/kernels/attention_window.h"

enum { most_attention_threads = 256 };

static inline int attention_threads(const struct compute *c)
{
    const int threads = cpu_state(c)->threads;
    return threads < most_attention_threads ? threads : most_attention_threads;
}

/* What one thread has gathered. */
struct attention_sums {
    int head;          /* at work; -1: none yet */
    float *dbias;      /* of the head at work, the gradient of what head_bias makes */
    double *dtable;    /* (heads, 2197) */
    double *dqkv_bias; /* (3 channels) */
};

/* Of memory for the sums in double. */
static inline size_t attention_sums_bytes(const struct attention_sizes *z)
{
    return float_bytes(2 * ((size_t)z->heads * relative_table_rows + 3 * (size_t)z->channels));
}

/* Zeroes all; dbias is the caller's. */
void KERNEL(begin_attention_sums)(struct attention_sums *sums, void *memory, float *dbias,
                                  const struct attention_sizes *sizes);

/* Adds dbias to the head's column of the table's gradient, where there is a head, and zeroes it. */
void KERNEL(end_attention_head)(struct attention_sums *sums, const struct attention_sizes *sizes);

/* Adds the sums of all threads. */
void KERNEL(reduce_attention_sums)(float *dqkv_bias, float *dbias_table, const struct attention_sums *sums,
                                   int threads, const struct attention_sizes *sizes);

/* Columns first .. first + head_dim - 1 of the real tokens of dqkv, from dqueries (queries, width) times
 * factor. */
void KERNEL(write_query_gradients)(activation *dqkv, const float *dqueries, int width, float factor,
                                   int first, const struct window *window,
                                   const struct attention_sizes *sizes);

/* The same from gradient (head_dim, keys); what belongs to padded tokens is added to dqkv_bias. */
void KERNEL(scatter_transposed)(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                                int first, const struct window *window, const struct attention_sizes *sizes);

#endif
