/* Winograd's transforms along one axis, by vectors of channels. They evaluate polynomials at point_side - 1
 * numbers p and at infinity (Lavin and Gray, 2016, after Toom and Cook):
 *
 *     Bt d at p:  sum over k of d[k] times the coefficient of x^k in the product of (x - q) over the other
 *                 numbers q; at infinity, over all of them
 *     G g at p:   sum over k of g[k] p^k, divided by the product of p - q; at infinity the last g
 *     At m:       y[i] = sum over the points of p^i m; at infinity of m for the last i alone
 *
 * Numbers come in pairs p, -p, whose polynomials share their even and odd parts. */
#ifndef COMPUTE_CPU_KERNELS_WINOGRAD_POINTS_H
#define COMPUTE_CPU_KERNELS_WINOGRAD_POINTS_H

#include "compute/cpu/kernels/winograd.h"

/* The points 0, a, -a, b, -b and infinity, a = 3/4 and b = 3/2. */
#define POINT_A 0.75F
#define POINT_B 1.5F
#define SQUARE_A (POINT_A * POINT_A)
#define SQUARE_B (POINT_B * POINT_B)

/* The products of p - q at 0, at a and -a, and at b and -b. */
#define DIVISOR_0 (SQUARE_A * SQUARE_B)
#define DIVISOR_A (2 * SQUARE_A * (SQUARE_A - SQUARE_B))
#define DIVISOR_B (2 * SQUARE_B * (SQUARE_B - SQUARE_A))

/* Bt: point_side inputs, `stride` apart, in place */
static ALWAYS_INLINE void input_transform(vec *v, int stride)
{
    const vec d0 = v[0], d1 = v[stride], d2 = v[2 * stride];
    const vec d3 = v[3 * stride], d4 = v[4 * stride], d5 = v[5 * stride];
    const vec even_a = d4 - SQUARE_B * d2, odd_a = d3 - SQUARE_B * d1;
    const vec even_b = d4 - SQUARE_A * d2, odd_b = d3 - SQUARE_A * d1;
    v[0] = (d4 - (SQUARE_A + SQUARE_B) * d2) + SQUARE_A * SQUARE_B * d0;
    v[stride] = even_a + POINT_A * odd_a;
    v[2 * stride] = even_a - POINT_A * odd_a;
    v[3 * stride] = even_b + POINT_B * odd_b;
    v[4 * stride] = even_b - POINT_B * odd_b;
    v[5 * stride] = (d5 - (SQUARE_A + SQUARE_B) * d3) + SQUARE_A * SQUARE_B * d1;
}

/* At: point_side products to tile_side outputs */
static ALWAYS_INLINE void output_transform(vec *to, int to_stride, const vec *v, int stride)
{
    const vec sum_a = v[stride] + v[2 * stride], difference_a = v[stride] - v[2 * stride];
    const vec sum_b = v[3 * stride] + v[4 * stride], difference_b = v[3 * stride] - v[4 * stride];
    to[0] = (v[0] + sum_a) + sum_b;
    to[to_stride] = POINT_A * difference_a + POINT_B * difference_b;
    to[2 * to_stride] = SQUARE_A * sum_a + SQUARE_B * sum_b;
    to[3 * to_stride] =
        (v[5 * stride] + POINT_A * SQUARE_A * difference_a) + POINT_B * SQUARE_B * difference_b;
}

/* G: three taps to the points */
static ALWAYS_INLINE void weight_transform(vec *to, int to_stride, const vec *g, int stride)
{
    const vec g0 = g[0], g1 = g[stride], g2 = g[2 * stride];
    const vec even_a = (g0 + SQUARE_A * g2) * (1 / DIVISOR_A), odd_a = g1 * (POINT_A / DIVISOR_A);
    const vec even_b = (g0 + SQUARE_B * g2) * (1 / DIVISOR_B), odd_b = g1 * (POINT_B / DIVISOR_B);
    to[0] = g0 * (1 / DIVISOR_0);
    to[to_stride] = even_a + odd_a;
    to[2 * to_stride] = even_a - odd_a;
    to[3 * to_stride] = even_b + odd_b;
    to[4 * to_stride] = even_b - odd_b;
    to[5 * to_stride] = g2;
}

/* For the weight's gradient, G without the divisors: tile_side output gradients to the points ... */
static ALWAYS_INLINE void gradient_transform(vec *to, int to_stride, const vec *g, int stride)
{
    const vec g0 = g[0], g1 = g[stride], g2 = g[2 * stride], g3 = g[3 * stride];
    const vec even_a = g0 + SQUARE_A * g2, odd_a = g1 + SQUARE_A * g3;
    const vec even_b = g0 + SQUARE_B * g2, odd_b = g1 + SQUARE_B * g3;
    to[0] = g0;
    to[to_stride] = even_a + POINT_A * odd_a;
    to[2 * to_stride] = even_a - POINT_A * odd_a;
    to[3 * to_stride] = even_b + POINT_B * odd_b;
    to[4 * to_stride] = even_b - POINT_B * odd_b;
    to[5 * to_stride] = g3;
}

/* ... and At, with the divisors: point_side products to three taps */
static ALWAYS_INLINE void tap_transform(vec *to, int to_stride, const vec *v, int stride)
{
    const vec sum_a = (v[stride] + v[2 * stride]) * (1 / DIVISOR_A);
    const vec difference_a = (v[stride] - v[2 * stride]) * (POINT_A / DIVISOR_A);
    const vec sum_b = (v[3 * stride] + v[4 * stride]) * (1 / DIVISOR_B);
    const vec difference_b = (v[3 * stride] - v[4 * stride]) * (POINT_B / DIVISOR_B);
    to[0] = (v[0] * (1 / DIVISOR_0) + sum_a) + sum_b;
    to[to_stride] = difference_a + difference_b;
    to[2 * to_stride] = (v[5 * stride] + SQUARE_A * sum_a) + SQUARE_B * sum_b;
}

#endif
