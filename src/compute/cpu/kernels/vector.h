/* Vectors of floats as wide as the instruction set's, through the vector extensions of GCC and Clang. */
#ifndef COMPUTE_CPU_KERNELS_VECTOR_H
#define COMPUTE_CPU_KERNELS_VECTOR_H

#include <stddef.h>
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
typedef uint32_t uvec __attribute__((vector_size(lanes * sizeof(float)), may_alias));
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

/* Four floats, whatever the instruction set. */
typedef float quad __attribute__((vector_size(16), may_alias));
typedef float unaligned_quad __attribute__((vector_size(16), may_alias, aligned(4)));

static inline quad load_quad(const float *from)
{
    return *(const unaligned_quad *)from;
}

static inline void store_quad(float *to, quad value)
{
    *(unaligned_quad *)to = value;
}

/* to[j * stride + i] = the j-th of the i-th of a, b, c, d, for i, j = 0 .. 3 */
static inline void store_transposed(float *to, size_t stride, quad a, quad b, quad c, quad d)
{
    const quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store_quad(to, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    store_quad(to + stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    store_quad(to + 2 * stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    store_quad(to + 3 * stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

/* Lanes of a where the mask is all ones, of b where it is zero. */
static inline vec choose(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

/* x > 0 ? a : b in each lane */
static inline vec choose_positive(vec x, vec a, vec b)
{
#if defined(__AVX512F__)
    return (vec)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GT_OQ),
                                     (__m512)b, (__m512)a);
#elif defined(__AVX2__)
    return (vec)_mm256_blendv_ps((__m256)b, (__m256)a,
                                 _mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_GT_OQ));
#else
    return choose(x > 0, a, b);
#endif
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

/* The smaller of a and b. NaN where b is; where only a is NaN, b. */
static inline vec smaller(vec a, vec b)
{
#if defined(__AVX512F__)
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return choose(a < b, a, b);
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
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float lane[lanes];
    memcpy(lane, &v, sizeof lane);
    float largest = lane[0];
    for (int k = 1; k < lanes; k++) {
        largest = lane[k] > largest ? lane[k] : largest;
    }
    return largest;
#endif
}

#if defined(__AVX512F__)
/* Pairs of neighbouring lanes of a and b, summed by halving: three times this turns 16 vectors into 2. */
static inline __m512 halve_lanes(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}
#endif

/* sums[k] = sum_of_lanes(v[k]) */
static inline void sums_of_16(float sums[16], const vec v[16])
{
#if defined(__AVX512F__)
    __m512 eight[8], four[4], two[2];
    for (int k = 0; k < 8; k++) { /* lanes of v[k], v[k + 8] in turns */
        eight[k] = halve_lanes((__m512)v[k], (__m512)v[k + 8]);
    }
    for (int k = 0; k < 4; k++) { /* each quarter: v[k], v[k + 4], v[k + 8], v[k + 12] */
        four[k] = halve_lanes(eight[k], eight[k + 4]);
    }
    for (int k = 0; k < 2; k++) { /* the quarters: k, k, k + 1, k + 1 */
        const __m512 a = four[2 * k], b = four[2 * k + 1];
        two[k] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    }
    const __m512 one =
        _mm512_add_ps(_mm512_shuffle_f32x4(two[0], two[1], 0x88),
                      _mm512_shuffle_f32x4(two[0], two[1], 0xDD)); /* quarter k: as in four[k] */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_ps(sums, _mm512_permutexvar_ps(order, one));
#else
    for (int k = 0; k < 16; k++) {
        sums[k] = sum_of_lanes(v[k]);
    }
#endif
}

#if defined(__AVX512F__)
/* v[i], lane j becomes v[j], lane i. */
static inline void transpose_16(vec v[16])
{
    __m512 pairs[16],
        quads[16]; /* of rows; in each quarter q of quads[4 i + j]: column 4 q + j of rows 4 i .. */
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps((__m512)v[i], (__m512)v[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps((__m512)v[i], (__m512)v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int j = 0; j < 2; j++) {
            const __m512d a = _mm512_castps_pd(pairs[i + j]), b = _mm512_castps_pd(pairs[i + j + 2]);
            quads[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            quads[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for (int j = 0; j < 4; j++) {
        const __m512 low = _mm512_shuffle_f32x4(quads[j], quads[4 + j], 0x44);
        const __m512 high = _mm512_shuffle_f32x4(quads[j], quads[4 + j], 0xEE);
        const __m512 next_low = _mm512_shuffle_f32x4(quads[8 + j], quads[12 + j], 0x44);
        const __m512 next_high = _mm512_shuffle_f32x4(quads[8 + j], quads[12 + j], 0xEE);
        v[j] = (vec)_mm512_shuffle_f32x4(low, next_low, 0x88);
        v[4 + j] = (vec)_mm512_shuffle_f32x4(low, next_low, 0xDD);
        v[8 + j] = (vec)_mm512_shuffle_f32x4(high, next_high, 0x88);
        v[12 + j] = (vec)_mm512_shuffle_f32x4(high, next_high, 0xDD);
    }
}
#endif

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

/* The first `count` lanes, and zeros behind. */
static inline vec keep_part(vec v, int count)
{
#if defined(__AVX512F__)
    return (vec)_mm512_maskz_mov_ps((__mmask16)((1U << count) - 1), (__m512)v);
#elif defined(__AVX2__)
    return (vec)_mm256_and_ps((__m256)v, _mm256_castsi256_ps(first_lanes(count)));
#else
    for (int k = count; k < lanes; k++) {
        v[k] = 0;
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

/* 2^x to within 1 ulp for x below 127; zero below -126, as products with subnormal numbers, or that are some,
 * take Intel's processors a hundred times as long. NaN gives NaN. 2^x = 2^n 2^f with n = round(x); the
 * polynomial interpolates 2^f in Chebyshev's nodes of [-1/2, 1/2]. */
static inline vec exp2_of(vec x)
{
    const vec bounded = larger(broadcast(-126), x);
#if defined(__AVX512F__)
    const vec n = (vec)_mm512_roundscale_ps((__m512)bounded, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const float round_by_adding = 0x1.8p23F; /* 1.5 2^23: the unit of the last place is 1 */
    const vec shifted = bounded + round_by_adding;
    const vec n = shifted - round_by_adding;
#endif
    const vec f = bounded - n;
    vec p = broadcast(0.000154614449F);
    p = p * f + 0.0013400428F;
    p = p * f + 0.00961805694F;
    p = p * f + 0.0555032715F;
    p = p * f + 0.240226507F;
    p = p * f + 0.693147182F;
    p = p * f + 1.0F;
#if defined(__AVX512F__)
    return (vec)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-126), _CMP_NLT_UQ),
                                       (__m512)p, (__m512)n);
#else
    const uvec power = ((uvec)shifted << 23) + (127U << 23); /* the low bits of shifted hold n */
    return (vec)(~(x < -126) & (ivec)(p * (vec)power));
#endif
}

/* The same pointer, of which the compiler knows nothing: what is read through it is not kept in registers
 * across a loop that needs them for other things. */
static inline const float *unforeseen(const float *pointer)
{
    __asm__ volatile("" : "+r"(pointer));
    return pointer;
}

/* The same vector, which the compiler keeps in a register: it does not load it again for each use. */
static inline vec in_register(vec v)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__SSE2__)
    __asm__("" : "+x"(v));
#endif
    return v;
}

/* Each x becomes 2^x, but 2^-64 for x below -64, relatively to within 2.5e-7; at least 2^126, or infinity,
 * for x of 127 and more. For sums of exponentials around 1, which what lies below 2^-64 does not reach. NaN
 * gives NaN. 2^x = 2^n 2^f, with polynomials of least relative error for f in [0, 1) or [-1/2, 1/2]. */
static inline void raise_two_to(vec *x, int count)
{
#if defined(__AVX512F__)
    static const float coefficients[] = {0.00187757681F, 0.00898970943F, 0.055826664F,
                                         0.240152523F,   0.693153441F,   1.0F};
#else
    static const float coefficients[] = {0.00132764725F, 0.00967580266F, 0.0555079021F,
                                         0.240221187F,   0.693146765F,   1.00000012F};
#endif
    const float *c = unforeseen(coefficients);
    for (int k = 0; k < count; k++) {
        vec bounded = larger(broadcast(-64), x[k]);
#if defined(__AVX512F__)
        const vec f = (vec)_mm512_reduce_ps((__m512)bounded, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
        const float round_by_adding = 0x1.8p23F; /* 1.5 2^23: the unit of the last place is 1 */
        bounded = smaller(broadcast(127), bounded);
        const vec shifted = bounded + round_by_adding;
        const vec f = bounded - (shifted - round_by_adding);
#endif
        vec p = c[0] * f + c[1];
        p = p * f + c[2];
        p = p * f + c[3];
        p = p * f + c[4];
        p = p * f + c[5];
#if defined(__AVX512F__)
        x[k] = (vec)_mm512_scalef_ps((__m512)p, (__m512)bounded);
#else
        x[k] = p * (vec)(((uvec)shifted << 23) + (127U << 23)); /* the low bits of shifted hold n */
#endif
    }
}

/* log2(x) of a positive, normal x to about 1e-7 (absolute, or relative beyond 1). NaN gives NaN. With x = 2^n
 * m, m between the roots of 1/2 and 2, log2(m) = 2 / ln 2 artanh(z), z = (m - 1) / (m + 1). */
static inline vec log2_of(vec x)
{
    const uint32_t root_of_half = 0x3F3504F3;
    const ivec n = (ivec)((uvec)x - root_of_half) >> 23;
    const vec m = (vec)((uvec)x - ((uvec)n << 23));
    const vec z = (m - 1.0F) / (m + 1.0F), zz = z * z;
    vec series = zz * 0.32059890F + 0.41219858F;
    series = series * zz + 0.57707802F;
    series = series * zz + 0.96179669F;
    series = series * zz + 2.88539008F;
    return __builtin_convertvector(n, vec) + series * z + x * 0.0F;
}

#endif
