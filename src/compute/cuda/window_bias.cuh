/* What is added to the scores of a window, the way fragments of tensor cores have them.
 *
 * Keys lie in rows of the window (keys that differ in w alone) of 8 slots, of which 7 have keys. For each
 * place w of a query, the bias table is in shared memory once with rows of 8 halves, one for each key of a
 * row of the window: what 8 queries, in any order, and the 8 slots of a row are to have added is an 8 x 8
 * matrix, whose rows may be loaded from wherever they are. The slot without a key has minus infinity.
 *
 * The mask is a product, too: tokens of equal region have a common coordinate. */
#ifndef COMPUTE_CUDA_WINDOW_BIAS_CUH
#define COMPUTE_CUDA_WINDOW_BIAS_CUH

#include "compute/cuda/tensor_core.cuh"
#include "compute/cuda/window_attention.cuh"

enum {
    side = relative_table_window,
    window_rows = side * side,
    row_slots = 8, /* of a row of the window */
    table_plane = table_side * table_side,
    no_key = 8, /* in place of a key's region */
};

/* ---- words for tensor cores that tensor_core.cuh does not have ---- */

/* d = a b + c */
static __device__ __forceinline__ void multiply_add_bf16_to(float d[4], const uint32_t a[4],
                                                            const uint32_t b[2], const float c[4])
{
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%10,%11,%12,%13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
                   "f"(c[2]), "f"(c[3]));
#else
    for (int e = 0; e < 4; e++) {
        d[e] = c[e];
    }
    multiply_add_bf16(d, a, b);
#endif
}

/* pack_bf16 in one instruction. */
static __device__ __forceinline__ uint32_t pack_pair(float low, float high)
{
#ifdef __CUDACC__
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return pack_bf16(low, high);
#endif
}

/* ---- halves ---- */

/* Two halves to floats. */
static __device__ __forceinline__ void from_halves(float *low, float *high, uint32_t pair)
{
#ifdef __CUDACC__
    asm("{\n\t.reg .b16 l, h;\n\tmov.b32 {l, h}, %2;\n\tcvt.f32.f16 %0, l;\n\tcvt.f32.f16 %1, h;\n\t}"
        : "=f"(*low), "=f"(*high)
        : "r"(pair));
#else
    float *to[2] = {low, high};
    for (int k = 0; k < 2; k++) {
        const int bits = (int)(pair >> 16 * k & 0xffff), exponent = bits >> 10 & 31, mantissa = bits & 1023;
        const float size = exponent == 31 ? INFINITY
                           : exponent > 0 ? ldexpf((float)(mantissa + 1024), exponent - 25)
                                          : ldexpf((float)mantissa, -24);
        *to[k] = bits >> 15 ? -size : size;
    }
#endif
}

/* To the nearest half; what is beyond the largest becomes that. */
static __device__ __forceinline__ uint16_t to_half(float x)
{
    const float most = 65504;
    x = fminf(fmaxf(x, -most), most);
#ifdef __CUDACC__
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#else
    int exponent = 0;
    frexpf(x, &exponent);
    exponent = exponent < -13 ? -13 : exponent; /* size < 2^exponent, in steps of 2^(exponent - 11) */
    const int steps = (int)rintf(ldexpf(fabsf(x), 11 - exponent));
    return (uint16_t)((x < 0 ? 0x8000 : 0) | (((exponent + 13) << 10) + steps));
#endif
}

/* ---- the bias table ---- */

struct window_bias {
    uint4 rows[side][table_plane]; /* [w of the query][d of query - key and h of key - query] */
    uint4 none;                    /* where the window has no such row */
};

/* One head's column of the bias table, times `factor`, by all threads of the block. */
static __device__ __forceinline__ void load_bias(window_bias *bias, const float *bias_table, int head,
                                                 int heads, float factor)
{
    const uint16_t minus_infinity = 0xfc00;
    uint16_t *to = (uint16_t *)bias;
    for (int k = (int)threadIdx.x; k < (side * table_plane + 1) * row_slots; k += (int)blockDim.x) {
        const int key = k % row_slots, row = k / row_slots % table_plane, query = k / row_slots / table_plane;
        const int exists = query < side && key < side;
        const int w = exists ? query - key + side - 1 : 0;
        const int d = row / table_side, h = table_side - 1 - row % table_side;
        const float value = bias_table[((size_t)(d * table_side + h) * table_side + w) * heads + head];
        to[k] = exists ? to_half(value * factor) : minus_infinity;
    }
}

/* Where the rows for a query are, and how far before that the one for a row of the window is; both in bytes.
 * Tokens are known by their numbers, as if the window were one of 7^3. Rows for queries that differ in h go
 * backwards, so that those for eight queries, one after the other, lie in different banks. */
static __device__ __forceinline__ int bias_of_query(int number)
{
    const int d = number / window_rows, h = number / side % side, w = number % side;
    return (w * table_plane + (d + side - 1) * table_side + table_side - 1 - h) * (int)sizeof(uint4);
}

static __device__ __forceinline__ int bias_of_row(int row)
{
    return (row / side * table_side + side - 1 - row % side) * (int)sizeof(uint4);
}

static __device__ __forceinline__ int key_slot(int number)
{
    return number / side * row_slots + number % side;
}

static __device__ __forceinline__ int rows_of_keys(const window_grid &g)
{
    return (g.tokens + side - 1) / side;
}

/* ---- the mask ---- */

/* A token has 8 coordinates, one for each region, and the same ones again. Query: 1 where its region is. Key:
 * there what scores within a region have more than others, as two bf16; or, where there is no key, too little
 * for any power in all of them. `more` is over the scale, 100 sqrt(dims). */
template <int dims> struct region_code;
template <> struct region_code<16> {
    static const uint32_t first = 0x43c8, second = 0; /* 400 */
    static constexpr float more = 400;
};
template <> struct region_code<32> {
    static const uint32_t first = 0x440d, second = 0x3fd8; /* 564, 1.6875 */
    static constexpr float more = 565.6875f;
};
template <> struct region_code<64> {
    static const uint32_t first = 0x4448, second = 0; /* 800 */
    static constexpr float more = 800;
};
static const uint32_t one_bits = 0x3f80, never_bits = 0xf149f149; /* bf16: 1, -1e30 twice */

/* Of the regions of token_of_window a window has two along an axis at most, the last one of which is 2. */
static __device__ __forceinline__ uint32_t region_in_window(int region)
{
    return (uint32_t)((region / 9 == 2) * 4 + (region / 3 % 3 == 2) * 2 + (region % 3 == 2));
}

/* Whether scores need the mask's product: it also keeps out the slots of a row that is not whole. */
static __device__ __forceinline__ int needs_mask(const window_grid &g, const window_cut &cut)
{
    return cut.mixed || g.tokens % side != 0;
}

/* The neighbours 2t and 2t + 1 of a token's coordinates, of which the one of its region is `bits`. */
static __device__ __forceinline__ uint32_t region_pair(uint32_t region, uint32_t bits)
{
    const uint32_t column = threadIdx.x % 4 * 2;
    return region == column ? bits : region == column + 1 ? bits << 16 : 0;
}

static __device__ __forceinline__ uint32_t query_region_pair(uint32_t region)
{
    return region_pair(region, one_bits);
}

/* The first and the second 8 coordinates of a key. */
template <int dims>
static __device__ __forceinline__ void key_region_pairs(uint32_t *first, uint32_t *second, uint32_t region)
{
    *first = region == no_key ? never_bits : region_pair(region, region_code<dims>::first);
    *second = region_pair(region, region_code<dims>::second);
}

#endif
