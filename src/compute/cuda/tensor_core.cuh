/* Products of small matrices of bf16 on tensor cores, a warp at a time, and what feeds them (PTX ISA,
 * sections "mma.m16n8k16", "ldmatrix", "cp.async"; compute capability 8.0 and later). Where there is no CUDA
 * compiler, tests/cuda_on_host gives the same functions. In all of them lane = threadIdx % 32 must be that of
 * a whole warp.
 *
 * Fragments, with g = lane / 4 and t = lane % 4; every register holds two neighbours, the lower column (row,
 * of b) in its lower half: a (16 rows, 16 columns):  a[0] row g, columns 2t 2t+1;  a[1] row g + 8;  a[2] row
 * g, columns 2t+8 2t+9;  a[3] both b (16 rows, 8 columns):   b[0] rows 2t 2t+1 of column g;  b[1] rows 2t+8
 * 2t+9 d (16 rows, 8 columns):   d[0] d[1] row g, columns 2t 2t+1;  d[2] d[3] row g + 8 */
#ifndef COMPUTE_CUDA_TENSOR_CORE_CUH
#define COMPUTE_CUDA_TENSOR_CORE_CUH

#include "compute/cuda/kernel.cuh"

#ifdef __CUDACC__

/* d += a b */
static __device__ __forceinline__ void multiply_add_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8 x 8 matrices from shared memory: lane l names the 16 bytes of row l % 8 of matrix l / 8 (16-byte
 * aligned); r[m] becomes row lane / 4, columns 2 (lane % 4) and the next, of matrix m. */
static __device__ __forceinline__ void load_matrices(uint32_t r[4], const void *row)
{
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* The same of the matrices' transposes. */
static __device__ __forceinline__ void load_matrices_transposed(uint32_t r[4], const void *row)
{
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* Two matrices; lanes 0 to 15 name their rows, the others anything valid. */
static __device__ __forceinline__ void load_two_matrices(uint32_t r[2], const void *row)
{
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
}

/* Begins to copy 16 bytes to shared memory; zeros where `valid` is 0 (from must still be a mapped address).
 */
static __device__ __forceinline__ void copy_async(void *to, const void *from, int valid)
{
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(to);
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes)
                 : "memory");
}

/* Ends a group of copies of this thread. */
static __device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until all but the last `pending` groups of this thread are there; the block sees them after __syncthreads.
 */
template <int pending> static __device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

#endif

/* What load_matrices_transposed reads, written. */
static __device__ __forceinline__ void store_matrices_transposed(void *row, const uint32_t r[4])
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
#else
    const int lane = (int)threadIdx.x % warp_size;
#pragma unroll
    for (int m = 0; m < 4; m++) {
#pragma unroll
        for (int high = 0; high < 2; high++) {
            const unsigned long long to =
                __shfl_sync(whole_warp, (unsigned long long)(size_t)row, m * 8 + lane % 4 * 2 + high);
            ((bf16 *)(size_t)to)[lane / 4].bits = (uint16_t)(r[m] >> 16 * high);
        }
    }
#endif
}

#endif
