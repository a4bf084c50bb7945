/* Activations as this build keeps them, and vectors of floats from them and to them: arithmetic is in float
 * whatever the storage. bf16 is the upper half of a float; a float is rounded to the nearest, to the even one
 * of two, and a NaN stays one. */
#ifndef COMPUTE_CPU_KERNELS_ACTIVATION_H
#define COMPUTE_CPU_KERNELS_ACTIVATION_H

#include "compute/compute.h"
#include "compute/cpu/kernels/vector.h"

#if KERNEL_BF16

struct activation {
    uint16_t bits;
};

static inline float float_of(activation a)
{
    const uint32_t bits = (uint32_t)a.bits << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline activation activation_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
    return (activation){(uint16_t)((value != value ? bits | 0x400000 : rounded) >> 16)};
}

typedef uint16_t half_vec __attribute__((vector_size(lanes * sizeof(uint16_t)), may_alias));
typedef uint16_t unaligned_half_vec
    __attribute__((vector_size(lanes * sizeof(uint16_t)), may_alias, aligned(2)));

static inline vec widen(half_vec halves)
{
#if defined(__AVX512F__)
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)halves), 16);
#elif defined(__AVX2__)
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)halves), 16);
#else
    return (vec)(__builtin_convertvector(halves, uvec) << 16);
#endif
}

static inline half_vec narrow(vec value)
{
#if defined(__AVX512BF16__)
    return (half_vec)_mm512_cvtneps_pbh((__m512)value);
#else
    const uvec bits = (uvec)value;
    uvec rounded = bits + 0x7FFF + (bits >> 16 & 1);
    /* NOLINTNEXTLINE(misc-redundant-expression): NaN is not equal to itself */
    rounded = (uvec)choose(value == value, (vec)rounded, (vec)(bits | 0x400000)) >> 16;
#if defined(__AVX512F__)
    return (half_vec)_mm512_cvtepi32_epi16((__m512i)rounded);
#elif defined(__AVX2__)
    return (half_vec)_mm_packus_epi32(_mm256_castsi256_si128((__m256i)rounded),
                                      _mm256_extracti128_si256((__m256i)rounded, 1));
#else
    return __builtin_convertvector(rounded, half_vec);
#endif
#endif
}

static inline vec load_activations(const activation *from)
{
    return widen(*(const unaligned_half_vec *)from);
}

static inline void store_activations(activation *to, vec value)
{
    *(unaligned_half_vec *)to = narrow(value);
}

/* The first `count` lanes, and zeros behind. Reads nothing beyond. */
static inline vec load_activations_part(const activation *from, int count)
{
#if defined(__AVX512F__)
    return widen((half_vec)_mm256_maskz_loadu_epi16((__mmask16)((1U << count) - 1), from));
#else
    half_vec halves = {0};
    memcpy(&halves, from, count * sizeof *from);
    return widen(halves);
#endif
}

static inline void store_activations_part(activation *to, vec value, int count)
{
#if defined(__AVX512F__)
    _mm256_mask_storeu_epi16(to, (__mmask16)((1U << count) - 1), (__m256i)narrow(value));
#else
    const half_vec halves = narrow(value);
    memcpy(to, &halves, count * sizeof *to);
#endif
}

static inline quad load_activation_quad(const activation *from)
{
    typedef uint16_t half_quad __attribute__((vector_size(8)));
    typedef uint32_t bit_quad __attribute__((vector_size(16)));
    half_quad halves;
    memcpy(&halves, from, sizeof halves);
    return (quad)(__builtin_convertvector(halves, bit_quad) << 16);
}

static inline void store_activation_quad(activation *to, quad value)
{
    for (int k = 0; k < 4; k++) {
        to[k] = activation_of(value[k]);
    }
}

#else

struct activation {
    float value;
};

static inline float float_of(activation a)
{
    return a.value;
}

static inline activation activation_of(float value)
{
    return (activation){value};
}

static inline vec load_activations(const activation *from)
{
    return load((const float *)from);
}

static inline void store_activations(activation *to, vec value)
{
    store((float *)to, value);
}

/* The first `count` lanes, and zeros behind. Reads nothing beyond. */
static inline vec load_activations_part(const activation *from, int count)
{
    return load_part((const float *)from, count);
}

static inline void store_activations_part(activation *to, vec value, int count)
{
    store_part((float *)to, value, count);
}

static inline quad load_activation_quad(const activation *from)
{
    return load_quad((const float *)from);
}

static inline void store_activation_quad(activation *to, quad value)
{
    store_quad((float *)to, value);
}

#endif

/* The first `count` lanes, or all where there are more. Their rest is zeros; reads and writes nothing beyond.
 */
static inline vec load_activations_up_to(const activation *from, int count)
{
    return count < lanes ? load_activations_part(from, count) : load_activations(from);
}

static inline void store_activations_up_to(activation *to, vec value, int count)
{
    if (count < lanes) {
        store_activations_part(to, value, count);
    } else {
        store_activations(to, value);
    }
}

/* Arrays of `count`. */
static inline void floats_of(float *to, const activation *from, size_t count)
{
    size_t k = 0;
    for (; k + lanes <= count; k += lanes) {
        store(to + k, load_activations(from + k));
    }
    store_part(to + k, load_activations_part(from + k, (int)(count - k)), (int)(count - k));
}

static inline void activations_of(activation *to, const float *from, size_t count)
{
    size_t k = 0;
    for (; k + lanes <= count; k += lanes) {
        store_activations(to + k, load(from + k));
    }
    store_activations_part(to + k, load_part(from + k, (int)(count - k)), (int)(count - k));
}

#endif
