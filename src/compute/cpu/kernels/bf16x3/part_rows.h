/* Rows of floats as rows of parts, which are the left factor of a product (parts.h). */
#ifndef COMPUTE_CPU_KERNELS_BF16X3_PART_ROWS_H
#define COMPUTE_CPU_KERNELS_BF16X3_PART_ROWS_H

#include "compute/cpu/kernels/bf16x3/parts.h"

static inline int tiles_of(int columns)
{
    return (columns + tile_columns - 1) / tile_columns;
}

static inline __mmask16 first_lanes(int count)
{
    return count >= 16 ? 0xFFFF : count <= 0 ? 0 : (__mmask16)((1U << count) - 1);
}

/* x1 | x2 | x3 | x1 of 16 elements. */
static ALWAYS_INLINE void store_half_step(part *to, const struct parts *x)
{
    __m256i narrow[part_count];
    for (int p = 0; p < part_count; p++) {
        narrow[p] = _mm512_cvtepi32_epi16(_mm512_srli_epi32(x->of[p], 16));
        _mm256_storeu_si256((void *)(to + p * half_depth), narrow[p]);
    }
    _mm256_storeu_si256((void *)(to + part_count * half_depth), narrow[0]);
}

/* One row in parts, zeros behind the last element. */
static ALWAYS_INLINE void split_row(part *to, const float *from, int inner)
{
    int k = 0;
    for (int step = 0; step < whole_steps(inner); step++, k += tile_depth, to += part_count * tile_depth) {
        const int left = inner - k;
        const struct parts low = parts_of(_mm512_maskz_loadu_ps(first_lanes(left), from + k));
        const struct parts high =
            parts_of(_mm512_maskz_loadu_ps(first_lanes(left - half_depth), from + k + half_depth));
        for (int p = 0; p < part_count; p++) {
            _mm512_storeu_si512(to + p * tile_depth, parts_in_order(&low, &high, p));
        }
    }
    if (has_half_step(inner)) {
        const struct parts all = parts_of(_mm512_maskz_loadu_ps(first_lanes(inner - k), from + k));
        store_half_step(to, &all);
    }
}

#endif
