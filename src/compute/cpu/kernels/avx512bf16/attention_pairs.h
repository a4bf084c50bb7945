/* Window attention whose products multiply pairs of bf16 (vdpbf16ps), for heads of a multiple of 4 channels.
 * This folder is compiled for avx512bf16 and amx alone; other processors, and other heads, take
 * kernels/window_attention_*.c.
 *
 * A pair are two neighbours along what a product sums over, in one 32-bit word: two channels of a key for the
 * scores, two keys for what a query gathers, two queries for the gradients of keys and values. Probabilities
 * and gradients of scores are rounded to bf16 for products; sums, and what the bias takes up, are floats. */
#ifndef COMPUTE_CPU_KERNELS_AVX512BF16_ATTENTION_PAIRS_H
#define COMPUTE_CPU_KERNELS_AVX512BF16_ATTENTION_PAIRS_H

#include "compute/cpu/kernels/attention_walk.h"
#include "compute/cpu/kernels/factor.h"

enum { pair_tile = 8, /* queries that are worked on together */ key_step = 2 * lanes };

static inline vec multiply_pairs(vec sums, const void *pair, factor_vec pairs)
{
    return add_products(sums, pair, pairs);
}

/* 2^x to 8e-5 of it, a fraction of what rounding it to bf16 costs; zero below -126; NaN gives NaN. See
 * exp2_of. */
static inline vec rough_exp2(vec x)
{
    const vec n = (vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vec f = x - n;
    vec p = broadcast(0.055171613F);
    p = p * f + 0.24261114F;
    p = p * f + 0.69326097F;
    p = p * f + 0.99992806F;
    return (vec)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-126), _CMP_NLT_UQ),
                                       (__m512)p, (__m512)n);
}

/* 32 floats as bf16. */
static inline factor_vec narrow_two(vec low, vec high)
{
    return (factor_vec)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

/* The elements of a and b, rounded, in turns. */
static inline factor_vec narrow_in_turns(vec a, vec b)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, narrow_two(a, b));
}

/* Of one head, columns first .. first + head_dim - 1 of the slots' rows of qkv, zero for absent tokens: */

/* (head_dim / 2, pitch) pairs of channels */
void KERNEL(gather_channel_pairs)(uint32_t *result, int first, const struct cut_window *cut,
                                  const struct attention_sizes *sizes);
/* (slots / 2, head_dim) pairs of keys */
void KERNEL(gather_key_pairs)(uint32_t *result, int first, const struct cut_window *cut,
                              const struct attention_sizes *sizes);
/* (head_dim, pitch) */
void KERNEL(gather_columns)(activation *result, int first, const struct cut_window *cut,
                            const struct attention_sizes *sizes);
/* (slots of queries, head_dim) of rows (n d h w, row_length), zero for absent ones */
void KERNEL(gather_rows)(activation *result, const activation *rows, size_t row_length, int first,
                         const struct cut_window *cut, const struct attention_sizes *sizes);

/* The sizes of windows in pieces whose bias lies by queries. */
int KERNEL(pair_attention_sizes)(struct compute *c, struct attention_sizes *sizes,
                                 const struct attention_shape *shape);

void KERNEL(pair_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *shape);
void KERNEL(pair_attention_backward)(struct compute *c, activation *dqkv, float *dqkv_bias,
                                     float *dbias_table, const activation *dout, const activation *out,
                                     const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                     const float *bias_table, const struct attention_shape *shape);

#endif
