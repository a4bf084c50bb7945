/* A warp's 48 x 48 of a sum of outer products over rows, left^T right, in registers: gradients of linear
 * layers' weights. */
#ifndef COMPUTE_CUDA_GRADIENT_UNIT_CUH
#define COMPUTE_CUDA_GRADIENT_UNIT_CUH

#include "compute/cuda/tensor_core.cuh"

enum {
    unit = 48,
    unit_tiles = unit / 16,  /* of 16 features of left */
    unit_columns = unit / 8, /* tiles of 8 features of right */
};

/* sum += the products of 16 rows, which lie in shared memory. A column more than unit_columns: the products
 * of left with ones, if with_ones. */
template <int columns>
static __device__ __forceinline__ void add_unit_rows(float (&sum)[unit_tiles][columns][4], const bf16 *left,
                                                     int left_pitch, const bf16 *right, int right_pitch,
                                                     int with_ones, int lane)
{
    const bf16 *a_from = left + (lane / 16 * 8 + lane % 8) * left_pitch + lane / 8 % 2 * 8;
    const bf16 *b_from = right + (lane / 8 % 2 * 8 + lane % 8) * right_pitch + lane / 16 * 8;
    const uint32_t ones[2] = {0x3f803f80u, 0x3f803f80u};
    uint32_t a[unit_tiles][4];
#pragma unroll
    for (int i = 0; i < unit_tiles; i++) {
        load_matrices_transposed(a[i], a_from + i * 16);
    }
#pragma unroll
    for (int j = 0; j < unit_columns; j += 2) {
        uint32_t b[4];
        load_matrices_transposed(b, b_from + j * 8);
#pragma unroll
        for (int i = 0; i < unit_tiles; i++) {
            multiply_add_bf16(sum[i][j], a[i], b);
            multiply_add_bf16(sum[i][j + 1], a[i], b + 2);
        }
    }
    if (columns > unit_columns && with_ones) {
#pragma unroll
        for (int i = 0; i < unit_tiles; i++) {
            multiply_add_bf16(sum[i][columns - 1], a[i], ones);
        }
    }
}

/* The unit to (48, pitch) floats. */
template <int columns>
static __device__ __forceinline__ void store_unit_rows(float *to, int pitch,
                                                       const float (&sum)[unit_tiles][columns][4], int lane)
{
#pragma unroll
    for (int i = 0; i < unit_tiles; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float *row = to + (16 * i + 8 * half + lane / 4) * pitch + 2 * (lane % 4);
#pragma unroll
            for (int j = 0; j < unit_columns; j++) {
                float2 v;
                v.x = sum[i][j][2 * half];
                v.y = sum[i][j][2 * half + 1];
                *reinterpret_cast<float2 *>(row + 8 * j) = v;
            }
        }
    }
}

/* The products with ones, to 48 floats. */
template <int columns>
static __device__ __forceinline__ void store_unit_ones(float *to, const float (&sum)[unit_tiles][columns][4],
                                                       int lane)
{
    if (lane % 4 == 0) {
#pragma unroll
        for (int i = 0; i < unit_tiles; i++) {
            to[16 * i + lane / 4] = sum[i][columns - 1][0];
            to[16 * i + 8 + lane / 4] = sum[i][columns - 1][2];
        }
    }
}

#endif
