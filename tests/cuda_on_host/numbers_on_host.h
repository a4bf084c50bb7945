/* CUDA's functions of numbers, and bf16 (see cuda_on_host.h). */
#ifndef NUMBERS_ON_HOST_H
#define NUMBERS_ON_HOST_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

static inline float __uint_as_float(unsigned bits)
{
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static inline unsigned __float_as_uint(float x)
{
    unsigned result;
    memcpy(&result, &x, sizeof result);
    return result;
}

static inline float __int_as_float(int bits)
{
    return __uint_as_float((unsigned)bits);
}

static inline int __float_as_int(float x)
{
    return (int)__float_as_uint(x);
}

struct __nv_bfloat16 {
    unsigned short bits;
};

static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    const unsigned bits = __float_as_uint(x);
    if (x != x) {
        return __nv_bfloat16{0x7fff};
    }
    return __nv_bfloat16{(unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

static inline float __bfloat162float(__nv_bfloat16 x)
{
    return __uint_as_float((unsigned)x.bits << 16);
}

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return __nv_bfloat16{bits};
}

/* The C library has functions of these names, of its own. */
#define __expf(x) expf(x)
#define __exp10f(x) powf(10, x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf(x, y)

static inline float __fdividef(float x, float y)
{
    return fabsf(y) > 8.5e37f ? 0 : x / y; /* as on the GPU, for y beyond 2^126 */
}

static inline float __frcp_rn(float x)
{
    return 1 / x;
}

static inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}

static inline float __frsqrt_rn(float x)
{
    return (float)(1 / sqrt((double)x));
}

static inline float __fadd_rn(float x, float y)
{
    return x + y;
}

static inline float __fmul_rn(float x, float y)
{
    return x * y;
}

static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}

static inline float __fdiv_rn(float x, float y)
{
    return x / y;
}

static inline float rsqrtf(float x)
{
    return (float)(1 / sqrt((double)x));
}

static inline double rsqrt(double x)
{
    return 1 / sqrt(x);
}

static inline float normcdff(float x)
{
    return (float)(0.5 * erfc(-(double)x * 0.70710678118654752440));
}

static inline double normcdf(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

static inline float __saturatef(float x)
{
    return x > 1 ? 1 : x > 0 ? x : 0;
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline unsigned __brev(unsigned x)
{
    unsigned result = 0;
    for (int k = 0; k < 32; k++) {
        result |= (x >> k & 1) << (31 - k);
    }
    return result;
}

static inline unsigned __umulhi(unsigned x, unsigned y)
{
    return (unsigned)((uint64_t)x * y >> 32);
}

static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned result = 0;
    for (int k = 0; k < 4; k++) {
        const unsigned s = selector >> (4 * k) & 0xf, byte = (unsigned)(bytes >> (8 * (s & 7)) & 0xff);
        result |= (s & 8 ? (byte & 0x80 ? 0xffu : 0) : byte) << (8 * k);
    }
    return result;
}

template <typename A, typename B> constexpr static inline typename std::common_type<A, B>::type min(A a, B b)
{
    typedef typename std::common_type<A, B>::type T;
    return (T)b < (T)a ? (T)b : (T)a;
}

template <typename A, typename B> constexpr static inline typename std::common_type<A, B>::type max(A a, B b)
{
    typedef typename std::common_type<A, B>::type T;
    return (T)a < (T)b ? (T)b : (T)a;
}

#endif
