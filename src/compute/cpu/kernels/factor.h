/* What matrix products multiply: floats, or pairs of bf16 where activations are bf16 and the processor
 * multiplies those, twice as many with one instruction. A vector of either has 64 bytes: for each lane of the
 * sums one float, or two neighbours along what is summed over. */
#ifndef COMPUTE_CPU_KERNELS_FACTOR_H
#define COMPUTE_CPU_KERNELS_FACTOR_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/vector.h"

#if KERNEL_BF16 && defined(__AVX512BF16__)

enum { factors_together = 2 };
typedef activation factor;
typedef __m512i factor_vec;

static inline factor_vec load_factors(const factor *from)
{
    return _mm512_loadu_si512(from);
}

static inline void store_factors(factor *to, factor_vec factors)
{
    _mm512_storeu_si512(to, factors);
}

/* a's and b's elements in turns. */
static inline factor_vec in_turns(half_vec a, half_vec b)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32((__m256i)a),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)b), 16));
}

/* values: of factors_together neighbours */
static inline factor_vec factors_of(const vec *values)
{
    return in_turns(narrow(values[0]), narrow(values[1]));
}

/* sums += the factors at `from` times those of each lane */
static inline vec add_products(vec sums, const factor *from, factor_vec factors)
{
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
    return (vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)factors);
}

/* Rows of whole vectors, `rows` of them, as pairs of rows in turns: to (rows / 2, length, 2), with zeros
 * beside an odd last one. Returns to. */
static inline const factor *rows_in_turns(factor *to, const factor *from, int rows, int length)
{
    factor *next = to;
    for (int r = 0; r < rows; r += 2, from += 2 * length) {
        for (int k = 0; k < length; k += lanes, next += 2 * lanes) {
            const half_vec a = *(const unaligned_half_vec *)(from + k), none = {0};
            store_factors(
                next, in_turns(a, r + 1 < rows ? *(const unaligned_half_vec *)(from + length + k) : none));
        }
    }
    return to;
}

#else

enum { factors_together = 1 };
typedef float factor;
typedef vec factor_vec;

static inline factor_vec load_factors(const factor *from)
{
    return load(from);
}

static inline void store_factors(factor *to, factor_vec factors)
{
    store(to, factors);
}

static inline factor_vec factors_of(const vec *values)
{
    return values[0];
}

/* sums += the factor at `from` times that of each lane */
static inline vec add_products(vec sums, const factor *from, factor_vec factors)
{
    return sums + *from * factors;
}

static inline const factor *rows_in_turns(factor *to, const factor *from, int rows, int length)
{
    (void)to, (void)rows, (void)length;
    return from;
}

#endif

/* One vector of single factors. */
static inline void store_factor_row(factor *to, vec values)
{
#if KERNEL_BF16 && defined(__AVX512BF16__)
    store_activations(to, values);
#else
    store(to, values);
#endif
}

static inline int whole_groups(int count)
{
    return (count + factors_together - 1) / factors_together * factors_together;
}

#endif
