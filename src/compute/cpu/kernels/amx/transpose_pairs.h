/* 16 rows of 16 pairs, transposed in registers. */
#ifndef COMPUTE_CPU_KERNELS_AMX_TRANSPOSE_PAIRS_H
#define COMPUTE_CPU_KERNELS_AMX_TRANSPOSE_PAIRS_H

#include <immintrin.h>

/* columns[k]: the k-th 32-bit word of all rows */
static inline __attribute__((always_inline)) void transpose_pairs(__m512i columns[16], const __m512i rows[16])
{
    __m512i two[16], four[16], eight[16];
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        two[2 * k] = _mm512_unpacklo_epi32(rows[2 * k], rows[2 * k + 1]);
        two[2 * k + 1] = _mm512_unpackhi_epi32(rows[2 * k], rows[2 * k + 1]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* four[4 k + j]: of rows 4 k .. 4 k + 3, pairs j, j + 4, j + 8, j + 12 */
        const __m512i *from = two + 4 * k;
        four[4 * k] = _mm512_unpacklo_epi64(from[0], from[2]);
        four[4 * k + 1] = _mm512_unpackhi_epi64(from[0], from[2]);
        four[4 * k + 2] = _mm512_unpacklo_epi64(from[1], from[3]);
        four[4 * k + 3] = _mm512_unpackhi_epi64(from[1], from[3]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        eight[j] = _mm512_shuffle_i32x4(four[j], four[4 + j], 0x88);
        eight[4 + j] = _mm512_shuffle_i32x4(four[j], four[4 + j], 0xDD);
        eight[8 + j] = _mm512_shuffle_i32x4(four[8 + j], four[12 + j], 0x88);
        eight[12 + j] = _mm512_shuffle_i32x4(four[8 + j], four[12 + j], 0xDD);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        columns[j] = _mm512_shuffle_i32x4(eight[j], eight[8 + j], 0x88);
        columns[8 + j] = _mm512_shuffle_i32x4(eight[j], eight[8 + j], 0xDD);
        columns[4 + j] = _mm512_shuffle_i32x4(eight[4 + j], eight[12 + j], 0x88);
        columns[12 + j] = _mm512_shuffle_i32x4(eight[4 + j], eight[12 + j], 0xDD);
    }
}

#endif
