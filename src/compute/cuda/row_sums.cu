#include "compute/cuda/row_sums.cuh"

#include "compute/cuda/kernel.cuh"

enum {
    block_threads = 256,
    blocks_per_multiprocessor = 8,
    rows_per_lane = 16, /* at least, so that partial sums are few beside the rows */
};

/* As many neighbours as 16 bytes hold, or one, as floats. */
template <typename T, int width> struct piece;

template <> struct piece<float, 1> {
    static __device__ __forceinline__ void add(float *sum, const float *x)
    {
        sum[0] += *x;
    }
};

template <> struct piece<bf16, 1> {
    static __device__ __forceinline__ void add(float *sum, const bf16 *x)
    {
        sum[0] += to_float(*x);
    }
};

template <> struct piece<float, 4> {
    static __device__ __forceinline__ void add(float *sum, const float *x)
    {
        const float4 v = *reinterpret_cast<const float4 *>(x);
        sum[0] += v.x;
        sum[1] += v.y;
        sum[2] += v.z;
        sum[3] += v.w;
    }
};

template <> struct piece<bf16, 8> {
    static __device__ __forceinline__ void add(float *sum, const bf16 *x)
    {
        const uint4 v = *reinterpret_cast<const uint4 *>(x);
        sum[0] += low_of(v.x);
        sum[1] += high_of(v.x);
        sum[2] += low_of(v.y);
        sum[3] += high_of(v.y);
        sum[4] += low_of(v.z);
        sum[5] += high_of(v.z);
        sum[6] += low_of(v.w);
        sum[7] += high_of(v.w);
    }
};

/* `across` threads take one row's pieces, each its own column; the block's lanes of such threads take rows in
 * turn. Block (x, y): rows x, x + gridDim.x, ...; columns from piece y across. */
template <typename T, int width>
static __global__ void __launch_bounds__(block_threads)
    sum_rows(float *partial, const T *x, size_t rows, int features, int across)
{
    __shared__ float lane_sums[block_threads * width];
    const int lanes = block_threads / across;
    const int lane = (int)threadIdx.x / across;
    const int column = ((int)blockIdx.y * across + (int)threadIdx.x % across) * width;
    const int summing = lane < lanes && column < features;
    const size_t step = (size_t)gridDim.x * (size_t)lanes;
    float sum[width] = {};
    if (summing) {
#pragma unroll 4
        for (size_t row = (size_t)blockIdx.x * (size_t)lanes + (size_t)lane; row < rows; row += step) {
            piece<T, width>::add(sum, x + row * (size_t)features + column);
        }
    }
    for (int k = 0; k < width; k++) {
        lane_sums[k * block_threads + (int)threadIdx.x] = sum[k];
    }
    __syncthreads();
    for (int index = (int)threadIdx.x; index < across * width; index += block_threads) {
        const int k = index / across, piece = index % across;
        const int own = ((int)blockIdx.y * across + piece) * width + k;
        float total = 0;
#pragma unroll 8
        for (int l = 0; l < lanes; l++) {
            total += lane_sums[k * block_threads + l * across + piece];
        }
        if (own < features) {
            partial[(size_t)blockIdx.x * (size_t)features + (size_t)own] = total;
        }
    }
}

enum { parts_across = 32, most_parts_lanes = 32 };

/* The elements from `count` on are added to `more`. */
static __global__ void add_parts(float *sums, float *more, const float *parts, size_t part_count,
                                 size_t pitch, size_t count, size_t all)
{
    __shared__ float lane_sums[most_parts_lanes][parts_across];
    const size_t element = (size_t)blockIdx.x * parts_across + threadIdx.x;
    float sum = 0;
    if (element < all) {
#pragma unroll 8
        for (size_t part = threadIdx.y; part < part_count; part += blockDim.y) {
            sum += parts[part * pitch + element];
        }
    }
    lane_sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && element < all) {
        for (unsigned lane = 1; lane < blockDim.y; lane++) {
            sum += lane_sums[lane][threadIdx.x];
        }
        *(element < count ? sums + element : more + (element - count)) += sum;
    }
}

void cuda_add_parts(struct compute *c, float *sums, size_t count, float *more, size_t more_count,
                    const float *parts, size_t part_count, size_t pitch)
{
    const size_t all = count + (more != NULL ? more_count : 0);
    const unsigned lanes = part_count > 64 ? most_parts_lanes : 8;
    launch(c, add_parts, dim3((unsigned)divide_up(all, parts_across)), dim3(parts_across, lanes), 0, sums,
           more, parts, part_count, pitch, count, all);
}

template <typename T, int width>
static void add_row_sums(struct compute *c, float *sums, const T *x, size_t rows, int features)
{
    const size_t pieces = divide_up((size_t)features, width);
    const size_t column_blocks = divide_up(pieces, block_threads);
    const size_t across = divide_up(pieces, column_blocks);
    const size_t lanes = block_threads / across;
    const size_t most =
        divide_up((size_t)cuda_state(c)->multiprocessors * blocks_per_multiprocessor, column_blocks);
    const size_t wanted = divide_up(rows, lanes * rows_per_lane);
    const size_t blocks = wanted < most ? wanted : most;
    float *partial = (float *)cuda_scratch(c, blocks * (size_t)features * sizeof(float));
    launch(c, sum_rows<T, width>, dim3((unsigned)blocks, (unsigned)column_blocks), dim3(block_threads), 0,
           partial, x, rows, features, (int)across);
    cuda_add_parts(c, sums, (size_t)features, NULL, 0, partial, blocks, (size_t)features);
}

void cuda_add_row_sums(struct compute *c, float *sums, const activation *x, size_t rows, int features)
{
    const int width = c->precision == PRECISION_BF16 ? 8 : 4;
    const int wide = features % width == 0 && (uintptr_t)x % 16 == 0;
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    if (c->precision == PRECISION_BF16 && wide) {
        add_row_sums<bf16, 8>(c, sums, (const bf16 *)x, rows, features);
    } else if (c->precision == PRECISION_BF16) {
        add_row_sums<bf16, 1>(c, sums, (const bf16 *)x, rows, features);
    } else if (wide) {
        add_row_sums<float, 4>(c, sums, (const float *)x, rows, features);
    } else {
        add_row_sums<float, 1>(c, sums, (const float *)x, rows, features);
    }
}
