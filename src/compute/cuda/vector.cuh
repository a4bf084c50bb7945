/* Neighbouring elements that a thread loads and stores at once: 16 bytes where sizes and addresses allow. */
#ifndef COMPUTE_CUDA_VECTOR_CUH
#define COMPUTE_CUDA_VECTOR_CUH

#include "compute/cuda/kernel.cuh"

#include <string.h>

template <typename T, int width> struct alignas(sizeof(T) * width) vector {
    T value[width];
};

template <int width, typename T> static __device__ __forceinline__ vector<T, width> load_vector(const T *from)
{
    return *reinterpret_cast<const vector<T, width> *>(from);
}

template <typename T, int width>
static __device__ __forceinline__ void store_vector(T *to, const vector<T, width> &v)
{
    *reinterpret_cast<vector<T, width> *>(to) = v;
}

/* Element k as a float: of bf16 by the pair that it lies in, which takes one instruction either way. */
template <int width> static __device__ __forceinline__ float element_of(const vector<float, width> &v, int k)
{
    return v.value[k];
}

template <int width> static __device__ __forceinline__ float element_of(const vector<bf16, width> &v, int k)
{
    uint32_t pair;
    memcpy(&pair, &v.value[k & ~1], sizeof pair);
    return k & 1 ? high_of(pair) : low_of(pair);
}

static __device__ __forceinline__ float element_of(const vector<bf16, 1> &v, int)
{
    return to_float(v.value[0]);
}

/* What a kernel of vectors is made for: elements and how many at once. */
template <typename T, int vector_width> struct vector_kind {
    typedef T element;
    enum { width = vector_width };
};

/* Addresses of which each may be NULL: 1 where all of them are multiples of 16. */
template <typename... Pointers> static inline int all_aligned(Pointers... pointers)
{
    uintptr_t bits = 0;
    const uintptr_t addresses[] = {(uintptr_t)pointers...};
    for (const uintptr_t address : addresses) {
        bits |= address;
    }
    return bits % 16 == 0;
}

/* Calls operation(vector_kind) for the form of c's activations and the widest vectors that divide `extent`,
 * the channels of a row, where the arrays of activations are aligned. */
template <typename Operation>
static inline void with_vectors(const struct compute *c, size_t extent, int aligned, Operation operation)
{
    if (c->precision == PRECISION_BF16 && aligned && extent % 8 == 0) {
        operation(vector_kind<bf16, 8>());
    } else if (c->precision == PRECISION_BF16 && aligned && extent % 4 == 0) {
        operation(vector_kind<bf16, 4>());
    } else if (c->precision == PRECISION_BF16) {
        operation(vector_kind<bf16, 1>());
    } else if (aligned && extent % 4 == 0) {
        operation(vector_kind<float, 4>());
    } else {
        operation(vector_kind<float, 1>());
    }
}

/* ---- arrays without rows: out[k] = f(inputs[k]) ---- */

/* Applies `function` to each of the `count` elements from `first` on, at once where all of them are there. A
 * function has `width`, operator()(k) for one element and vectors(k) for `width` of them from k on. */
template <typename Function> static __global__ void for_elements(Function function, size_t count)
{
    const size_t first = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * Function::width;
    if (first + Function::width <= count) {
        function.vectors(first);
    } else {
        for (size_t k = first; k < count; k++) {
            function(k);
        }
    }
}

template <typename Function>
static inline void launch_for_elements(struct compute *c, Function function, size_t count)
{
    enum { threads = 256 };
    const size_t blocks = divide_up(divide_up(count, Function::width), threads);
    launch(c, for_elements<Function>, dim3((unsigned)blocks), dim3(threads), 0, function, count);
}

#endif
