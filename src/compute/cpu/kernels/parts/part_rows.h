/* Rows of activations as rows of parts, which are the left factor of a product (parts.h). */
#ifndef COMPUTE_CPU_KERNELS_PARTS_PART_ROWS_H
#define COMPUTE_CPU_KERNELS_PARTS_PART_ROWS_H

#include "compute/cpu/kernels/parts/parts.h"

static inline int tiles_of(int columns)
{
    return (columns + tile_columns - 1) / tile_columns;
}

static inline __mmask16 first_lanes(int count)
{
    return count >= 16 ? 0xFFFF : count <= 0 ? 0 : (__mmask16)((1U << count) - 1);
}

/* x1 | x2 | x3 | x1 of 16 elements, or x1 and zeros. */
static ALWAYS_INLINE void store_half_step(part *to, const struct parts *x)
{
    for (int p = 0; p < part_count; p++) {
        _mm256_storeu_si256((void *)(to + p * half_depth), half_of_parts(x, p));
    }
    const __m256i behind = part_count == 1 ? _mm256_setzero_si256() : half_of_parts(x, 0);
    _mm256_storeu_si256((void *)(to + part_count * half_depth), behind);
}

/* One row in parts, zeros behind the last element. */
static ALWAYS_INLINE void split_row(part *to, const activation *from, int inner)
{
    int k = 0;
    for (int step = 0; step < whole_steps(inner); step++, k += tile_depth, to += part_count * tile_depth) {
        const int left = inner - k;
        const struct parts low = parts_of((__m512)load_activations_up_to(from + k, left));
        const struct parts high =
            parts_of((__m512)load_activations_up_to(from + k + half_depth, left - half_depth));
        for (int p = 0; p < part_count; p++) {
            _mm512_storeu_si512(to + p * tile_depth, parts_in_order(&low, &high, p));
        }
    }
    if (has_half_step(inner)) {
        const struct parts all = parts_of((__m512)load_activations_up_to(from + k, inner - k));
        store_half_step(to, &all);
    }
}

#endif
