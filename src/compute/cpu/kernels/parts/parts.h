/* Floats as sums of bf16. Where activations are floats, of three, for products by the tiles of AMX
 * (amx/tiles.h), which multiply bf16 and sum in float: "bf16x3" in the terms of Intel's oneMKL; see Henry,
 * Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
 * computations", 2019.
 *
 * A float has 24 significant bits and a bf16 has 8, so x = x1 + x2 + x3 exactly when each part takes the
 * upper half of what is left: parts are cut, not rounded. Of the nine products of parts the six
 *
 *     a b = a1 b1 + (a1 b2 + a2 b1) + (a1 b3 + a2 b2 + a3 b1)
 *
 * count; the other three come to 2^-23 of the product on average, as much as rounding it once to a float
 * does. Six products of bf16 in tiles still take less than half the time of one of floats in vectors.
 *
 * Parts have a float's exponents, but tiles take subnormal ones for zero: products err by up to 2^-126 of the
 * larger factor beside that. An infinite factor makes NaN.
 *
 * Where activations are bf16, a factor is one part, rounded to the nearest, and a product is one. This folder
 * is compiled for amx alone. */
#ifndef COMPUTE_CPU_KERNELS_PARTS_PARTS_H
#define COMPUTE_CPU_KERNELS_PARTS_PARTS_H

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/amx/tiles.h"
#include "compute/cpu/kernels/kernels.h"

#include <immintrin.h>
#include <stdint.h>

enum {
#if KERNEL_BF16
    part_count = 1,
#else
    part_count = 3,
#endif
    half_depth = tile_depth / 2,
    tile_length = tile_rows * tile_depth, /* elements of a tile */
};

/* The bits of a bf16. */
typedef uint16_t part;

#if KERNEL_BF16

/* 16 floats, which are rounded when they are put in order. */
struct parts {
    vec of[part_count];
};

static ALWAYS_INLINE struct parts parts_of(__m512 x)
{
    return (struct parts){{(vec)x}};
}

static ALWAYS_INLINE __m512i parts_in_order(const struct parts *first, const struct parts *second, int k)
{
    const __m512i low = _mm512_castsi256_si512((__m256i)narrow(first->of[k]));
    return _mm512_inserti64x4(low, (__m256i)narrow(second->of[k]), 1);
}

static ALWAYS_INLINE __m512i parts_in_turns(const struct parts *a, const struct parts *b, int k)
{
    const __m512i even = _mm512_cvtepu16_epi32((__m256i)narrow(a->of[k]));
    const __m512i odd = _mm512_cvtepu16_epi32((__m256i)narrow(b->of[k]));
    return _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
}

static ALWAYS_INLINE __m256i half_of_parts(const struct parts *x, int k)
{
    return (__m256i)narrow(x->of[k]);
}

#else

/* The parts of 16 floats, each in the upper half of its lane; what is in the lower halves has no meaning. */
struct parts {
    __m512i of[part_count];
};

static inline __attribute__((always_inline)) struct parts parts_of(__m512 x)
{
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000U);
    struct parts p;
    p.of[0] = _mm512_and_si512(_mm512_castps_si512(x), upper);
    const __m512 rest = _mm512_sub_ps(x, _mm512_castsi512_ps(p.of[0]));
    p.of[1] = _mm512_and_si512(_mm512_castps_si512(rest), upper);
    p.of[2] = _mm512_castps_si512(_mm512_sub_ps(rest, _mm512_castsi512_ps(p.of[1])));
    return p;
}

/* The k-th parts of 32 floats, in order. */
static inline __attribute__((always_inline)) __m512i parts_in_order(const struct parts *first,
                                                                    const struct parts *second, int k)
{
    const __m512i upper_halves =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23,
                         21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_epi16(first->of[k], upper_halves, second->of[k]);
}

/* The k-th parts of two times 16 floats, in turns: those of a at even places. */
static inline __attribute__((always_inline)) __m512i parts_in_turns(const struct parts *a,
                                                                    const struct parts *b, int k)
{
    return _mm512_mask_blend_epi16(0xAAAAAAAAU, _mm512_srli_epi32(a->of[k], 16), b->of[k]);
}

/* The k-th parts of 16 floats, in order. */
static inline __attribute__((always_inline)) __m256i half_of_parts(const struct parts *x, int k)
{
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(x->of[k], 16));
}

#endif

/* How factors lie along what is summed over, `inner` of them: in steps of 32, of which the last, where 16 or
 * fewer are left, is a half one.
 *
 * Rows of the left factor are x1 | x2 | x3 of a whole step, 32 elements each, and x1 | x2 | x3 | x1 of a half
 * step, 16 elements each. Steps of the right factor are three tiles of pairs, for 16 columns: those of y1, y2
 * and y3, and for a half step those of y1 above y1, y2 above y2 and y1 above y3. So x1 y1 + x2 y1, x1 y2 + x2
 * y2 and x3 y1 + x1 y3 take three products of tiles in place of six. With a single part, what a half step
 * lacks of a whole one is zero in both factors. */
enum { half_step_length = part_count == 1 ? tile_depth : 4 * half_depth };

static inline int whole_steps(int inner)
{
    return inner % tile_depth > half_depth ? inner / tile_depth + 1 : inner / tile_depth;
}

static inline int has_half_step(int inner)
{
    return inner % tile_depth > 0 && inner % tile_depth <= half_depth;
}

static inline int all_steps(int inner)
{
    return whole_steps(inner) + has_half_step(inner);
}

static inline size_t row_length(int inner)
{
    return (size_t)part_count * tile_depth * whole_steps(inner) +
           (has_half_step(inner) ? half_step_length : 0);
}

static inline size_t column_length(int inner)
{
    return (size_t)part_count * tile_length * all_steps(inner);
}

#endif
