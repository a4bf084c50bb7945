/* GELU, x Phi(x) without tanh, and its slope, in vectors of floats. */
#ifndef COMPUTE_CPU_KERNELS_GELU_H
#define COMPUTE_CPU_KERNELS_GELU_H

#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

/* Vectors that go through each step together, so that none waits for the step before. */
enum { most_gelus = 4 };

/* With z = |x| / sqrt(2), Phi is erfc(z) / 2 or 1 minus it, and erfc(z) = exp(-z^2) t Q(t),
 * t = 1 / (1 + 0.45 z). Q is smooth on [0, 1] and becomes a polynomial of t - 1/2: one that interpolates it
 * in Chebyshev's nodes, to a relative error of 8e-8 everywhere; or, where results are rounded to bf16 (2e-3),
 * one of least relative error, 2.8e-5, with t to 6e-5. */
#if KERNEL_BF16
static const float tail_coefficients[] = {-0.12634657F, -0.0476385094F, 0.33194527F,
                                          0.651180685F, 0.671045959F,   0.467142463F};
#else
static const float tail_coefficients[] = {-0.0430253632F, 0.00436951686F, 0.0905355662F, -0.0094096493F,
                                          -0.164513081F,  -0.0457085595F, 0.337125123F,  0.651156425F,
                                          0.670868874F,   0.467140287F};
#endif
enum { tail_terms = sizeof tail_coefficients / sizeof *tail_coefficients };

static ALWAYS_INLINE vec reciprocal(vec x)
{
#if KERNEL_BF16 && defined(__AVX512F__)
    return (vec)_mm512_rcp14_ps((__m512)x);
#else
    return 1.0F / x;
#endif
}

/* exp(-x^2 / 2); below 2^-64 it does not matter. */
static ALWAYS_INLINE void bells(vec *bell, const vec *x, int count)
{
    const float minus_half_log2_e = -0.72134752F;
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        bell[k] = x[k] * x[k] * minus_half_log2_e;
#if !KERNEL_BF16
        bell[k] = exp2_of(bell[k]);
#endif
    }
#if KERNEL_BF16
    raise_two_to(bell, count);
#endif
}

/* Phi(x), and exp(-x^2 / 2), of `count` vectors. */
static ALWAYS_INLINE void normal_distributions(vec *phi, vec *bell, const vec *x, int count)
{
    const float inverse_root_two = 0.70710678F;
    vec t[most_gelus], q[most_gelus];
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        const vec magnitude = (vec)((uvec)x[k] & 0x7FFFFFFFU);
        t[k] = reciprocal(1.0F + (0.45F * inverse_root_two) * magnitude);
        q[k] = broadcast(tail_coefficients[0]);
    }
    bells(bell, x, count);
#pragma GCC unroll 9
    for (int i = 1; i < tail_terms; i++) {
#pragma GCC unroll 4
        for (int k = 0; k < count; k++) {
            q[k] = q[k] * (t[k] - 0.5F) + tail_coefficients[i];
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        const vec tail = 0.5F * bell[k] * t[k] * q[k];
        phi[k] = choose_positive(x[k], 1.0F - tail, tail);
    }
}

/* Of `count` vectors, in place. */
static ALWAYS_INLINE void gelus(vec *x, int count)
{
    vec phi[most_gelus], bell[most_gelus];
    normal_distributions(phi, bell, x, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        x[k] *= phi[k];
    }
}

/* Both at once, GELU in place; slope: Phi(x) + x phi(x). */
static ALWAYS_INLINE void gelus_and_slopes(vec *x, vec *slope, int count)
{
    const float inverse_root_two_pi = 0.39894228F;
    vec phi[most_gelus], bell[most_gelus];
    normal_distributions(phi, bell, x, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        slope[k] = phi[k] + x[k] * bell[k] * inverse_root_two_pi;
        x[k] *= phi[k];
    }
}

static inline vec gelu(vec x)
{
    gelus(&x, 1);
    return x;
}

/* The slope is written. */
static inline vec gelu_and_slope(vec x, vec *slope)
{
    gelus_and_slopes(&x, slope, 1);
    return x;
}

static inline vec gelu_slope(vec x)
{
    vec slope;
    gelus_and_slopes(&x, &slope, 1);
    return slope;
}

#endif
