/* What the GPU can do at best: large matrix products of cuBLASLt, and a copy. */
#include "compute/cuda/blas.cuh"
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/memory.cuh"

extern "C" {
#include "base/error.h"
#include "compute/cpu/machine_peak.h"
#include "compute/gpus.h"
}
#include "compute/cuda/cuda.h"

#include <algorithm>

enum { repetitions = 11, product_side = 8192, copied_bytes = 1 << 30 };

/* Numbers between -1 and 1 that are all different: products of zeros are faster than others. */
template <typename T> __global__ void fill_with_noise(T *to, size_t count)
{
    const size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (k < count) {
        uint32_t h = (uint32_t)k * 2654435761u;
        h = (h ^ h >> 15) * 2246822519u;
        h = (h ^ h >> 13) * 3266489917u;
        to[k] = from_float<T>((float)(int32_t)(h ^ h >> 16) * 4.656613e-10f);
    }
}

/* The median of the seconds that `work` takes on the GPU. */
template <typename Work> static double median_seconds(struct compute *c, Work work)
{
    float milliseconds[repetitions];
    cudaEvent_t began, ended;
    cuda_check(c, cudaEventCreate(&began), "creating an event");
    cuda_check(c, cudaEventCreate(&ended), "creating an event");
    work();
    work();
    for (int k = 0; k < repetitions; k++) {
        cuda_check(c, cudaEventRecord(began, cuda_state(c)->stream), "timing");
        work();
        cuda_check(c, cudaEventRecord(ended, cuda_state(c)->stream), "timing");
        cuda_wait(c);
        milliseconds[k] = 0;
        cuda_check(c, cudaEventElapsedTime(&milliseconds[k], began, ended), "timing");
    }
    (void)cudaEventDestroy(began);
    (void)cudaEventDestroy(ended);
    std::sort(milliseconds, milliseconds + repetitions);
    return milliseconds[repetitions / 2] * 1e-3;
}

/* Of matrices of side^2, all three in `memory`. */
template <typename T>
static double product_flops(struct compute *c, int side, int tf32, unsigned char *memory)
{
    const size_t count = (size_t)side * (size_t)side;
    T *a = (T *)memory, *b = a + count, *out = b + count;
    const struct matrix_product product = {.rows = (size_t)side,
                                           .columns = (size_t)side,
                                           .depth = (size_t)side,
                                           .a_transposed = 0,
                                           .b_transposed = 1,
                                           .bf16_inputs = sizeof(T) == sizeof(bf16),
                                           .tf32 = tf32,
                                           .bf16_output = sizeof(T) == sizeof(bf16),
                                           .accumulates = 0};
    launch(c, fill_with_noise<T>, dim3((unsigned)divide_up(count, 256)), dim3(256), 0, a, count);
    launch(c, fill_with_noise<T>, dim3((unsigned)divide_up(count, 256)), dim3(256), 0, b, count);
    int planned = 1;
    const double seconds =
        median_seconds(c, [&] { planned &= blas_product(c, &product, out, a, b, (const float *)NULL); });
    return planned && seconds > 0 ? 2.0 * side * side * side / seconds : 0;
}

enum voco_status cuda_measure_peak(struct compute *c, struct machine_peak *peak)
{
    static struct gpu gpu;
    const size_t half = copied_bytes / 2;
    unsigned char *memory = (unsigned char *)c->allocate(c, (size_t)copied_bytes);
    enum voco_status status = cuda_gpu_describe(&gpu, cuda_state(c)->gpu);
    *peak = machine_peak{};
    peak->isa = gpu.name;
    peak->threads = 1;
    if (memory != NULL && status == VOCO_OK) {
        static_assert(3ull * product_side * product_side * sizeof(float) <= copied_bytes, "they fit");
        peak->bf16_flops = product_flops<bf16>(c, product_side, 0, memory);
        peak->tf32_flops = product_flops<float>(c, product_side, 1, memory);
        peak->float32_flops = product_flops<float>(c, product_side / 2, 0, memory);
        peak->bytes_per_second =
            2.0 * half / median_seconds(c, [&] { cuda_copy(c, memory + half, memory, half); });
    }
    cuda_wait(c);
    c->release(c, memory);
    return status == VOCO_OK ? compute_status(c) : status;
}
