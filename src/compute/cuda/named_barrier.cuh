/* Named barriers, which a part of a block's warps arrives at and another waits at. Two of each are in use by
 * turns: nobody comes back to one before all have passed it. Number 0 is __syncthreads'. */
#ifndef COMPUTE_CUDA_NAMED_BARRIER_CUH
#define COMPUTE_CUDA_NAMED_BARRIER_CUH

#include "compute/cuda/kernel.cuh"

/* threads: of both sides. */
template <int threads> static __device__ __forceinline__ void arrive(int barrier, int turn)
{
#ifdef __CUDACC__
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier + turn % 2), "n"(threads) : "memory");
#else
    cuda_on_host::named_arrive(barrier + turn % 2, threads);
#endif
}

template <int threads> static __device__ __forceinline__ void wait_at(int barrier, int turn)
{
#ifdef __CUDACC__
    asm volatile("bar.sync %0, %1;" ::"r"(barrier + turn % 2), "n"(threads) : "memory");
#else
    cuda_on_host::named_wait(barrier + turn % 2, threads);
#endif
}

#endif
