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
    float *dbias;      /* (tokens, keys): of the head at work, the gradient of what head_bias makes */
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

/* A token's columns of a head: from (head_dim) times factor. */
void KERNEL(write_scaled_row)(activation *to, const float *from, float factor,
                              const struct attention_sizes *sizes);

/* Tokens of a window, in the order of a matrix that has a column for each. */
struct token_slots {
    const size_t *row;         /* of the token among all, where it is real */
    const unsigned char *kind; /* enum token_kind */
    int count;
};

/* Columns first .. first + head_dim - 1 of the real tokens of dqkv, from gradient (head_dim, slots) times
 * factor; what belongs to padding is added to dqkv_bias. */
void KERNEL(scatter_transposed)(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                                int first, const struct token_slots *slots,
                                const struct attention_sizes *sizes);

#endif
