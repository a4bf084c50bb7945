#include "compute/cpu/peak/peak_loops.h"

#include "compute/cpu/kernels/vector.h"

/* Independent sums, so that no unit waits for its last result: two units of at most six cycles' latency. With
 * the two constants, and a register between where a product is not fused, they fit into 16 registers. */
enum { chains = 12, flops_per_product = 2 };

static float float32_loop(size_t rounds)
{
    const vec factor = broadcast(0.999F), term = broadcast(0.001F);
    vec sum[chains];
    for (int k = 0; k < chains; k++) {
        sum[k] = broadcast(0.1F * (float)k);
    }
    for (size_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
        for (int k = 0; k < chains; k++) {
            sum[k] = sum[k] * factor + term;
        }
    }
    for (int k = 1; k < chains; k++) {
        sum[0] += sum[k];
    }
    return sum_of_lanes(sum[0]);
}

#if defined(__AVX512F__)
enum { bf16_products = 2 * lanes }; /* of an instruction, which adds two to each sum */

__attribute__((target("avx512bf16"))) static float bf16_loop(size_t rounds)
{
    const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5F), _mm512_set1_ps(0.5F));
    const __m512bh b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.25F), _mm512_set1_ps(0.25F));
    __m512 sum[chains];
    for (int k = 0; k < chains; k++) {
        sum[k] = _mm512_set1_ps(0.1F * (float)k);
    }
    for (size_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
        for (int k = 0; k < chains; k++) {
            sum[k] = _mm512_dpbf16_ps(sum[k], a, b);
        }
    }
    for (int k = 1; k < chains; k++) {
        sum[0] = _mm512_add_ps(sum[0], sum[k]);
    }
    return _mm512_reduce_add_ps(sum[0]);
}
#endif

static void triad_loop(float *a, const float *b, const float *c, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        a[i] = b[i] + scale * c[i];
    }
}

#define LOOPS_OF(isa) peak_loops_##isa
#define LOOPS(isa) LOOPS_OF(isa)

struct peak_loops LOOPS(KERNEL_ISA)(void)
{
    struct peak_loops loops = {
        .float32 = float32_loop,
        .float32_flops = (double)flops_per_product * chains * lanes,
        .triad = triad_loop,
    };
#if defined(__AVX512F__)
    loops.bf16 = bf16_loop;
    loops.bf16_flops = (double)flops_per_product * chains * bf16_products;
#endif
    return loops;
}
