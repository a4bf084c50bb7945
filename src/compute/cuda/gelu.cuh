/* GELU, x Phi(x), and its derivative, for the kernels that compute it alone or with a product. */
#ifndef COMPUTE_CUDA_GELU_CUH
#define COMPUTE_CUDA_GELU_CUH

#include "compute/cuda/kernel.cuh"

/* What is computed of Phi, the standard normal distribution function: itself at -|x|, and its slope at x. */
struct normal_tail {
    float value, density;
};

/* As exact as floats are: erfc keeps its digits where it is small. */
static __device__ __forceinline__ normal_tail normal_tail_of(float x, float)
{
    normal_tail result;
    result.value = 0.5f * erfcf(fabsf(x) * 0.70710678f);
    result.density = 0.39894228f * expf(-0.5f * x * x);
    return result;
}

#ifdef __CUDACC__
static __device__ __forceinline__ float fast_reciprocal(float x)
{
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

static __device__ __forceinline__ float fast_exp2(float x)
{
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
#else
static inline float fast_reciprocal(float x)
{
    return 1 / x;
}

static inline float fast_exp2(float x)
{
    return exp2f(x);
}
#endif

/* For activations in bf16, which the exact one would keep waiting: the density times a polynomial in
 * t = 1 / (|x| + 1 / 0.29) without constant term, as Abramowitz and Stegun's 7.1.25 is, but fitted so that
 * the relative error is smallest: 9e-5, a twentieth of what rounding to bf16 costs. */
static __device__ __forceinline__ normal_tail normal_tail_of(float x, bf16)
{
    const float t = fast_reciprocal(fabsf(x) + 3.4482759f);
    normal_tail result;
    result.density = fast_exp2(-0.72134752f * (x * x) - 1.3257481f);
    result.value = 91.920273f;
    result.value = result.value * t - 3.1052199f;
    result.value = result.value * t + 4.7857209f;
    result.value = result.value * t + 0.95359141f;
    result.value *= t * result.density;
    return result;
}

/* Phi(-|x|) alone. */
static __device__ __forceinline__ float normal_tail_alone(float x, float)
{
    return normal_tail_of(x, 0.0f).value;
}

/* In bf16 two to the power of a polynomial: one function of the slow unit in place of two. Relative error
 * 9e-5 for |x| up to 4.5, where GELU is -1.5e-5; x times it is nowhere off by more than that. */
static __device__ __forceinline__ float normal_tail_alone(float x, bf16)
{
    const float distance = fabsf(x);
    float power = -0.00031208423f;
    power = power * distance + 0.0057434772f;
    power = power * distance - 0.047949517f;
    power = power * distance - 0.46451715f;
    power = power * distance - 1.1489891f;
    power = power * distance - 1.0001344f;
    return fast_exp2(power);
}

/* GELU, with the accuracy that activations of type T ask for. */
template <typename T> static __device__ __forceinline__ float gelu(float x)
{
    return fmaxf(x, 0) - fabsf(x) * normal_tail_alone(x, T());
}

/* Its value and its derivative. */
struct gelu_pair {
    float value, derivative;
};

template <typename T> static __device__ __forceinline__ gelu_pair gelu_and_derivative(float x)
{
    const normal_tail tail = normal_tail_of(x, T());
    const float below = x > 0 ? 1 - tail.value : tail.value;
    gelu_pair result;
    result.value = x * below;
    result.derivative = below + x * tail.density;
    return result;
}

template <typename T> static __device__ __forceinline__ float gelu_derivative(float x)
{
    return gelu_and_derivative<T>(x).derivative;
}

#endif
