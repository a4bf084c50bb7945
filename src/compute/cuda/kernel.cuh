/* The words that kernels are written in: bfloat16, sums over a warp or a block, launches. Where there is no
 * CUDA compiler, tests/cuda_on_host gives the same words a meaning on a processor. Kernels therefore use what
 * is here, the built-in variables, __syncthreads, __syncwarp, __shfl_*_sync, atomicAdd, static __shared__
 * arrays and dynamic_shared(); the host's side of an operation uses launch(), cuda_scratch() and
 * cuda_fill_zero(). */
#ifndef COMPUTE_CUDA_KERNEL_CUH
#define COMPUTE_CUDA_KERNEL_CUH

#include "compute/cuda/cuda_state.h"

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define HOST_DEVICE __host__ __device__
/* A pointer to the block's dynamic shared memory, aligned to 128. */
#define dynamic_shared(type, name)                                                                           \
    extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];                                   \
    type *name = reinterpret_cast<type *>(dynamic_shared_bytes)
#else
#include "cuda_on_host.h"
#define HOST_DEVICE
#endif

/* An activation in bf16; activations in float32 are floats. Kernels are templates over the two. */
struct __align__(2) bf16
{
    uint16_t bits;
};

static __device__ __forceinline__ float to_float(float x)
{
    return x;
}

static __device__ __forceinline__ float to_float(bf16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}

template <typename T> __device__ __forceinline__ T from_float(float x);

template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}

/* To the nearest, halves to even. */
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x)
{
    bf16 result;
    result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    return result;
}

/* Two of them as the hardware takes them: `low` first in memory. */
static __device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    return (uint32_t)from_float<bf16>(low).bits | (uint32_t)from_float<bf16>(high).bits << 16;
}

static __device__ __forceinline__ float low_of(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float high_of(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

enum { warp_size = 32 };
static const unsigned whole_warp = 0xffffffffu;

/* Sums over the warp, in every lane, always in the same order. */
static __device__ __forceinline__ float warp_sum(float x)
{
    for (int offset = warp_size / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(whole_warp, x, offset);
    }
    return x;
}

static __device__ __forceinline__ double warp_sum(double x)
{
    for (int offset = warp_size / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(whole_warp, x, offset);
    }
    return x;
}

static inline size_t divide_up(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Queues a kernel: grid of blocks of threads with `shared` bytes of dynamic shared memory, raised beyond 48
 * KiB where that is asked for. Does nothing where c has failed; a launch that is refused is c's status. */
#ifdef __CUDACC__
void cuda_check(struct compute *c, cudaError_t error, const char *what);

template <typename... Parameters, typename... Arguments>
static void launch(struct compute *c, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
                   Arguments... arguments)
{
    if (c->status != VOCO_OK || grid.x == 0 || grid.y == 0 || grid.z == 0) {
        return;
    }
    if (shared > 48 << 10) {
        cuda_check(c, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                   "shared memory of a kernel");
    }
    if (c->status == VOCO_OK) {
        kernel<<<grid, block, shared, cuda_stream(c)>>>(Parameters(arguments)...);
        cuda_check(c, cudaGetLastError(), "launching a kernel");
    }
}
#endif

#endif
