/* Products of bf16 matrices in shared memory by the four warps of a warpgroup, Hopper's own (PTX ISA,
 * "wgmma"; compiled for sm_90a only). Where there is no CUDA compiler, tests/cuda_on_host reads the same
 * operands.
 *
 * An operand is K-major without swizzle: octets of rows (of b: columns), each row 16 bytes of 8 neighbours
 * along k, the 8 rows one behind the other. d (64 rows, columns) is spread as warps' own products are
 * (tensor_core.cuh): warp w of the group has rows 16 w to 16 w + 15, and d[4 j] to d[4 j + 3] are its columns
 * 8 j to 8 j + 7. */
#ifndef COMPUTE_CUDA_WARPGROUP_CUH
#define COMPUTE_CUDA_WARPGROUP_CUH

#include "compute/cuda/kernel.cuh"

#if defined __CUDA_ARCH_FEAT_SM90_ALL || !defined __CUDACC__
#define WARPGROUP_PRODUCTS 1
#else
#define WARPGROUP_PRODUCTS 0
#endif

/* What is added to an operand so that it starts `bytes` (a multiple of 16) later. */
static __device__ __forceinline__ uint64_t operand_shift(int bytes)
{
    return (uint64_t)(bytes / 16);
}

/* The operand at an address in shared memory: octets of rows and octets along k are so many bytes apart. */
static __device__ __forceinline__ uint64_t operand_at(uint32_t address, int rows_apart, int k_apart)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(k_apart / 16) << 16 |
           (uint64_t)(rows_apart / 16) << 32;
}

/* An N-major operand (warpgroup_multiply_transposed) whose rows along k are 32 bytes, 16 neighbours along n,
 * at places as box_copy.cuh has them: sixteens along n, and octets along k, are so many bytes apart. It
 * starts at a multiple of 256 bytes. */
static __device__ __forceinline__ uint64_t boxed_operand_at(uint32_t address, int sixteens_apart, int k_apart)
{
    return operand_at(address, k_apart, sixteens_apart) | (uint64_t)3 << 62;
}

#ifndef __CUDACC__
#include "warpgroup_on_host.h"
#else

/* The instructions are there where WARPGROUP_PRODUCTS is 1; elsewhere the functions below compile and must
 * not be called. */
#if WARPGROUP_PRODUCTS
#define WARPGROUP_ASM(...) asm volatile(__VA_ARGS__)
#else
#define WARPGROUP_ASM(...) ((void)0)
#endif

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* What this thread wrote to shared memory is seen by products begun after the next barrier. */
static __device__ __forceinline__ void show_to_warpgroup_products()
{
    WARPGROUP_ASM("fence.proxy.async.shared::cta;" ::: "memory");
}

/* The compiler moves no use of d across this place. */
template <int count> static __device__ __forceinline__ void pin(float (&d)[count])
{
#pragma unroll
    for (int k = 0; k < count; k++) {
        WARPGROUP_ASM("" : "+f"(d[k])::"memory");
    }
}

/* Before products with registers that other instructions have written. */
static __device__ __forceinline__ void begin_warpgroup_products()
{
    WARPGROUP_ASM("wgmma.fence.sync.aligned;" ::: "memory");
}

/* The same, of sums d. */
template <int count> static __device__ __forceinline__ void begin_warpgroup_products(float (&d)[count])
{
    pin(d);
    begin_warpgroup_products();
}

/* Neither compiler nor assembler mixes what is before with what is behind: a branch, never taken, where a
 * number, each time another one, is not above 0. */
static __device__ __forceinline__ void end_of_stretch(int positive)
{
    WARPGROUP_ASM("" : "+r"(positive));
    while (positive <= 0) {
        WARPGROUP_ASM("" ::: "memory");
    }
}

/* Registers that a product under way reads: the compiler has no other use for them before this place. */
static __device__ __forceinline__ void keep_until_here(uint32_t (&a)[4])
{
    WARPGROUP_ASM("" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
}

static __device__ __forceinline__ void commit_warpgroup_products()
{
    WARPGROUP_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until all but the last `pending` groups of products are done. */
template <int pending> static __device__ __forceinline__ void wait_for_warpgroup_products()
{
    WARPGROUP_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* The same, where d is used next: no use of it is moved before the wait. */
template <int pending, int count>
static __device__ __forceinline__ void wait_for_warpgroup_products(float (&d)[count])
{
    wait_for_warpgroup_products<pending>();
    pin(d);
}

/* Of the registers that a block's threads have alike, a warpgroup keeps `count` for each thread (a multiple
 * of 8), fewer or more than it had; who asks for more waits until others have let them go. */
template <int count> static __device__ __forceinline__ void keep_registers()
{
    WARPGROUP_ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

template <int count> static __device__ __forceinline__ void ask_for_registers()
{
    WARPGROUP_ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

/* x, in a way that keeps the compiler from computing what is made of it ahead of a loop: registers are few.
 */
static __device__ __forceinline__ uint64_t not_ahead(uint64_t x)
{
    WARPGROUP_ASM("" : "+l"(x));
    return x;
}

#define EIGHT_OF(d, k)                                                                                       \
    "+f"(d[k]), "+f"(d[k + 1]), "+f"(d[k + 2]), "+f"(d[k + 3]), "+f"(d[k + 4]), "+f"(d[k + 5]),              \
        "+f"(d[k + 6]), "+f"(d[k + 7])

/* d (64, 144) += a (64, 16) b (16, 144) */
static __device__ __forceinline__ void warpgroup_multiply(float (&d)[72], uint64_t a, uint64_t b)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %74, 0; wgmma.mma_async.sync.aligned.m64n144k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
        "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71},"
        " %72, %73, add, 1, 1, 0, 0; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16), EIGHT_OF(d, 24), EIGHT_OF(d, 32), EIGHT_OF(d, 40),
          EIGHT_OF(d, 48), EIGHT_OF(d, 56), EIGHT_OF(d, 64)
        : "l"(a), "l"(b), "r"(1));
}

/* d (64, 96) += a (64, 16) b (16, 96) */
static __device__ __forceinline__ void warpgroup_multiply(float (&d)[48], uint64_t a, uint64_t b)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %50, 0; wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
        "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47},"
        " %48, %49, add, 1, 1, 0, 0; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16), EIGHT_OF(d, 24), EIGHT_OF(d, 32), EIGHT_OF(d, 40)
        : "l"(a), "l"(b), "r"(1));
}

/* d (64, 48) += a (64, 16) b (16, 48) */
static __device__ __forceinline__ void warpgroup_multiply(float (&d)[24], uint64_t a, uint64_t b)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %26, 0; wgmma.mma_async.sync.aligned.m64n48k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23},"
        " %24, %25, add, 1, 1, 0, 0; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16)
        : "l"(a), "l"(b), "r"(1));
}

/* d (64, 64) += a (64, 16) b (16, 64), or = where add is 0 */
static __device__ __forceinline__ void warpgroup_multiply(float (&d)[32], uint64_t a, uint64_t b, int add)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
        "%24,%25,%26,%27,%28,%29,%30,%31},"
        " %32, %33, add, 1, 1, 0, 0; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16), EIGHT_OF(d, 24)
        : "l"(a), "l"(b), "r"(add));
}

/* Left factors in registers, as warps' own products have them, 16 rows a warp: a must stay as it is until the
 * product is done. d (64, 32) += a (64, 16) b (16, 32), or = where add is 0 */
static __device__ __forceinline__ void warpgroup_multiply(float (&d)[16], const uint32_t (&a)[4], uint64_t b,
                                                          int add)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %21, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},"
        " {%16,%17,%18,%19}, %20, add, 1, 1, 0; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

/* d (64, 48) += a (64, 16) b (16, 48), or = where add is 0 */
static __device__ __forceinline__ void warpgroup_multiply(float (&d)[24], const uint32_t (&a)[4], uint64_t b,
                                                          int add)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %29, 0; wgmma.mma_async.sync.aligned.m64n48k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23},"
        " {%24,%25,%26,%27}, %28, add, 1, 1, 0; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

/* In those below the operand b is N-major: octets of rows of 8 neighbours along n, 16 bytes each, one row
 * behind the other along k. */

/* d (64, 48) += a (64, 16) b (16, 48), or = where add is 0 */
static __device__ __forceinline__ void warpgroup_multiply_transposed(float (&d)[24], uint64_t a, uint64_t b,
                                                                     int add)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %26, 0; wgmma.mma_async.sync.aligned.m64n48k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23},"
        " %24, %25, add, 1, 1, 0, 1; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16)
        : "l"(a), "l"(b), "r"(add));
}

/* d (64, 48) += a (64, 16) b (16, 48) */
static __device__ __forceinline__ void warpgroup_multiply_transposed(float (&d)[24], const uint32_t (&a)[4],
                                                                     uint64_t b)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %29, 0; wgmma.mma_async.sync.aligned.m64n48k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23},"
        " {%24,%25,%26,%27}, %28, add, 1, 1, 1; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

/* d (64, 56) += a (64, 16) b (16, 56) */
static __device__ __forceinline__ void warpgroup_multiply_transposed(float (&d)[28], const uint32_t (&a)[4],
                                                                     uint64_t b)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %33, 0; wgmma.mma_async.sync.aligned.m64n56k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
        "%24,%25,%26,%27},"
        " {%28,%29,%30,%31}, %32, add, 1, 1, 1; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

/* d (64, 144) += a (64, 16) b (16, 144) */
static __device__ __forceinline__ void warpgroup_multiply_transposed(float (&d)[72], const uint32_t (&a)[4],
                                                                     uint64_t b)
{
    WARPGROUP_ASM(
        "{ .reg .pred add; setp.ne.b32 add, %77, 0; wgmma.mma_async.sync.aligned.m64n144k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
        "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71},"
        " {%72,%73,%74,%75}, %76, add, 1, 1, 1; }"
        : EIGHT_OF(d, 0), EIGHT_OF(d, 8), EIGHT_OF(d, 16), EIGHT_OF(d, 24), EIGHT_OF(d, 32), EIGHT_OF(d, 40),
          EIGHT_OF(d, 48), EIGHT_OF(d, 56), EIGHT_OF(d, 64)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

#endif

#endif
