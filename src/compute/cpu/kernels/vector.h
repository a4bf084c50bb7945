/* Vectors of floats as wide as the instruction set's, through the vector extensions of GCC and Clang. */
#ifndef COMPUTE_CPU_KERNELS_VECTOR_H
#define COMPUTE_CPU_KERNELS_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { lanes = 16 };
#elif defined(__AVX2__)
enum { lanes = 8 };
#else
enum { lanes = 4 };
#endif

typedef float vec __attribute__((vector_size(lanes * sizeof(float)), may_alias));
typedef int32_t ivec __attribute__((vector_size(lanes * sizeof(float)), may_alias));
typedef float unaligned_vec __attribute__((vector_size(lanes * sizeof(float)), may_alias, aligned(4)));

static inline vec load(const float *from)
{
    return *(const unaligned_vec *)from;
}

static inline void store(float *to, vec value)
{
    *(unaligned_vec *)to = value;
}

static inline vec broadcast(float value)
{
    return value - (vec){0};
}

/* Lanes of a where the mask is all ones, of b where it is zero. */
static inline vec choose(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

/* The larger of a and b. NaN where b is; where only a is NaN, b. */
static inline vec larger(vec a, vec b)
{
#if defined(__AVX512F__)
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return choose(a > b, a, b);
#endif
}

static inline float sum_of_lanes(vec v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

static inline float largest_lane(vec v)
{
    float lane[lanes];
    memcpy(lane, &v, sizeof lane);
    float largest = lane[0];
    for (int k = 1; k < lanes; k++) {
        largest = lane[k] > largest ? lane[k] : largest;
    }
    return largest;
}

#if defined(__AVX2__) && !defined(__AVX512F__)
static inline __m256i first_lanes(int count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

/* The first `count` lanes, 0 to all of them, and zeros behind. Reads nothing beyond. */
static inline vec load_part(const float *from, int count)
{
#if defined(__AVX512F__)
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1U << count) - 1), from);
#elif defined(__AVX2__)
    return (vec)_mm256_maskload_ps(from, first_lanes(count));
#else
    vec v = {0};
    for (int k = 0; k < count; k++) {
        v[k] = from[k];
    }
    return v;
#endif
}

static inline void store_part(float *to, vec value, int count)
{
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, (__mmask16)((1U << count) - 1), (__m512)value);
#elif defined(__AVX2__)
    _mm256_maskstore_ps(to, first_lanes(count), (__m256)value);
#else
    for (int k = 0; k < count; k++) {
        to[k] = value[k];
    }
#endif
}

/* 2^x for x below 127 to within 1 ulp; below -126 it is 2^-126, which counts as zero beside any 1. NaN gives
 * NaN. 2^x = 2^n 2^f with n = round(x), and 2^f for |f| <= 1/2 by the Taylor polynomial of exp(f ln 2), whose
 * eighth term is below 2e-9. */
static inline vec exp2_of(vec x)
{
    const float round_by_adding = 0x1.8p23F; /* 1.5 2^23: the unit of the last place is 1 */
    const vec bounded = larger(broadcast(-126), x);
    const vec shifted = bounded + round_by_adding;
    const vec f = bounded - (shifted - round_by_adding);
    vec p = broadcast(1.5252734e-5F);
    p = p * f + 1.5403530e-4F;
    p = p * f + 1.3333558e-3F;
    p = p * f + 9.6181291e-3F;
    p = p * f + 5.5504109e-2F;
    p = p * f + 2.4022651e-1F;
    p = p * f + 6.9314718e-1F;
    p = p * f + 1.0F;
    const ivec power = ((ivec)shifted << 23) + (127 << 23); /* the low bits of shifted hold n */
    return p * (vec)power;
}

#endif
