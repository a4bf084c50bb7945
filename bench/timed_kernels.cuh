/* What the programs that time kernels on a GPU share: numbers to work on, and the time that operations take.
 */
#ifndef BENCH_TIMED_KERNELS_CUH
#define BENCH_TIMED_KERNELS_CUH

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/memory.cuh"

#include <algorithm>
#include <vector>

/* Numbers between -1 and 1 that look like none. */
static __device__ float noise(size_t k, unsigned seed)
{
    unsigned x = (unsigned)k * 2654435761u + seed * 40503u + (unsigned)(k >> 32);
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    x ^= x >> 16;
    return (float)(int)x * (1.0f / 2147483648.0f);
}

template <typename T> static __global__ void fill(T *x, size_t count, float scale, float shift, unsigned seed)
{
    for (size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x; k < count;
         k += (size_t)gridDim.x * blockDim.x) {
        x[k] = from_float<T>(scale * noise(k, seed) + shift);
    }
}

/* The median of several, in ms. */
template <typename F> static double time_of(compute *c, F run)
{
    enum { repetitions = 15 };
    cudaEvent_t events[repetitions + 1];
    std::vector<float> times;
    run();
    for (cudaEvent_t &event : events) {
        cudaEventCreate(&event);
    }
    cudaEventRecord(events[0], cuda_stream(c));
    for (int k = 0; k < repetitions; k++) {
        run();
        cudaEventRecord(events[k + 1], cuda_stream(c));
    }
    cuda_wait(c);
    for (int k = 0; k < repetitions; k++) {
        float ms = 0;
        cudaEventElapsedTime(&ms, events[k], events[k + 1]);
        times.push_back(ms);
    }
    for (cudaEvent_t &event : events) {
        cudaEventDestroy(event);
    }
    std::sort(times.begin(), times.end());
    return times[repetitions / 2];
}

#endif
