/* GELU, x Phi(x), and its derivative, for the kernels that compute it alone or with a product. */
#ifndef COMPUTE_CUDA_GELU_CUH
#define COMPUTE_CUDA_GELU_CUH

#include "compute/cuda/kernel.cuh"

/* Phi(x), the standard normal distribution function, and its derivative. */
struct normal_distribution {
    float below, density;
};

/* As exact as floats are: erfc keeps its digits where it is small. */
static __device__ __forceinline__ normal_distribution normal_of(float x, float)
{
    normal_distribution result;
    result.below = 0.5f * erfcf(-x * 0.70710678f);
    result.density = 0.39894228f * expf(-0.5f * x * x);
    return result;
}

/* For activations in bf16, which the exact one would keep waiting: a polynomial in 1 / (1 + p |x|) times
 * exp(-x^2 / 2), within 1e-7 of Phi (Abramowitz and Stegun, 7.1.26). */
static __device__ __forceinline__ normal_distribution normal_of(float x, bf16)
{
    const float t = __fdividef(1.0f, 1.0f + 0.23164190f * fabsf(x));
    const float bell = exp2f(-0.72134752f * x * x); /* exp(-x^2 / 2) */
    float tail = 1.061405429f;
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail *= 0.5f * t * bell;
    normal_distribution result;
    result.below = x > 0 ? 1 - tail : tail;
    result.density = 0.39894228f * bell;
    return result;
}

/* With the accuracy that activations of type T ask for. */
template <typename T> static __device__ __forceinline__ float gelu(float x)
{
    return x * normal_of(x, T()).below;
}

template <typename T> static __device__ __forceinline__ float gelu_derivative(float x)
{
    const normal_distribution normal = normal_of(x, T());
    return normal.below + x * normal.density;
}

#endif
