/* Window attention whose products are those of tiles (tiles.h), for heads of a multiple of 4 channels, 8
 * to 64. Heads of fewer, in which exponentials are most of the work, take ../window_attention_*.c, which is
 * faster; others ../avx512bf16/attention_pairs.h.
 *
 * A score is the product of a query's row and a key's row. Behind the channels, a row has slots for what else
 * a score consists of, which tiles have room for:
 *
 *     query: channels (head_dim) | a number of the query in three parts, 0 | region factors
 *     key:   channels (head_dim) | 1, 1, 1, 0                              | region factors
 *
 * The number is added to each score of the query without rounding: minus the logarithm of its sum of
 * exponentials, or minus its largest score. The product of region factors is the mask of keys in other
 * regions. What remains is one fused multiply-add that scales and adds the bias, see score_factor. Gradients
 * of probabilities come about in the same way from rows of dout and of values, with the number -dout . out.
 *
 * Tokens are worked on in blocks of 32 x 32 (or 16 x 32) queries and keys. Of absent keys the bias is
 * absent_key, and the exponential therefore zero; of absent queries all is zero but the number, where
 * backward says so.
 *
 * Subnormal numbers are flushed to zero here, as products of tiles do it anyway. */
#ifndef COMPUTE_CPU_KERNELS_AMX_ATTENTION_TILES_H
#define COMPUTE_CPU_KERNELS_AMX_ATTENTION_TILES_H

#include "compute/cpu/kernels/amx/tiles.h"
#include "compute/cpu/kernels/attention_walk.h"
#include "compute/cpu/kernels/factor.h"

#include <math.h>

enum {
    least_tile_head = 8,
    most_tile_head = 64,
    number_slots = 4,
    region_slots = 8, /* a window has at most two regions along an axis */
    slots = number_slots + region_slots,
    block_side = 32, /* tokens */
    most_row = (most_tile_head + slots + tile_depth - 1) / tile_depth * tile_depth,
    most_blocks = (window_tokens_max + block_side - 1) / block_side,
    tile_pairs = tile_rows * tile_columns,
    tile_factors = 2 * tile_pairs, /* elements of a tile of bf16 */
};

/* The sizes of one call. */
struct attention_layout {
    int row;            /* elements of a row with slots, whole tiles deep */
    int chunks;         /* row / tile_depth */
    int channel_tiles;  /* head_dim / tile_columns, rounded up */
    int blocks;         /* of tokens, at most */
    float score_factor; /* of products, to be an exponent of 2: log2(e) / sqrt(head_dim) */
    activation query_region[region_slots][region_slots], key_region[region_slots][region_slots];
};

struct attention_layout KERNEL(attention_layout)(const struct attention_sizes *sizes);

/* The sizes of windows that are one piece, whose queries are whole blocks of slots and whose bias lies as
 * multiply-adds read it: (blocks of keys, slots of queries, block_side). */
int KERNEL(tile_attention_sizes)(struct compute *c, struct attention_sizes *sizes,
                                 const struct attention_shape *shape);

/* The largest magnitudes of each channel. */
struct magnitudes {
    activation channel[most_tile_head];
};

/* rows (slots of queries, row): columns first .. of the real tokens of `from` (n d h w, row_length), each
 * with the number 0; absent ones are zero. */
void KERNEL(gather_query_tiles)(activation *rows, struct magnitudes *largest, const activation *from,
                                size_t row_length, int first, const struct cut_window *cut,
                                const struct attention_layout *layout, const struct attention_sizes *sizes);

/* Puts numbers (count, rounded up to 16) into rows. */
void KERNEL(set_query_numbers)(activation *rows, const float *numbers, int count,
                               const struct attention_layout *layout, const struct attention_sizes *sizes);

/* tiles (slots / 16, chunks, 16, 16, 2): columns first .. of the window's rows of qkv, pairs of channels by
 * keys. Of values, which have no regions, `masked` is 0. Where single is not NULL, it takes the same channels
 * with keys along the depth, each key paired with zeros. */
struct single_keys {
    activation *low, *high; /* (slots / 16, channel_tiles, 16, 16, 2): the key is the first, the second */
};
void KERNEL(gather_key_tiles)(activation *tiles, struct magnitudes *largest, const struct single_keys *single,
                              int first, int masked, const struct cut_window *cut,
                              const struct attention_layout *layout, const struct attention_sizes *sizes);

/* 2^x as table and line: see tile_exp2. */
struct exp2_table {
    vec value, slope;
};

/* For `more` added to the mantissa, in [1, 2), of each power. */
static inline struct exp2_table exp2_table(float more)
{
    enum { pieces = 16 };
    const float from_below =
        0.999882701F; /* the line from end to end of a piece is too high by up to 2.3e-4 */
    const float rise = (exp2f(1.0F / pieces) - 1) * pieces;
    float value[pieces], slope[pieces];
    for (int k = 0; k < pieces; k++) {
        const float power = exp2f((float)k / pieces) * from_below;
        value[k] = power + more;
        slope[k] = power * rise;
    }
    return (struct exp2_table){load(value), load(slope)};
}

/* x's power of two for x below 127, but for a factor of 1 +- 1.2e-4, a fraction of what rounding it to bf16
 * costs. NaN gives NaN. 2^x = 2^floor(x) (value + slope r), where r is x beyond the next lower sixteenth.
 * While tiles are at work only one of two ports multiplies vectors: four such instructions here, and four
 * for the other port. */
static ALWAYS_INLINE vec tile_exp2(vec x, const struct exp2_table *table)
{
    enum { down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC, fraction_bits = 4 };
    const __m512 unit_is_a_sixteenth = _mm512_set1_ps(0x1.8p19F);
    const __m512i piece = (__m512i)_mm512_add_round_ps((__m512)x, unit_is_a_sixteenth, down);
    const vec r = (vec)_mm512_reduce_ps((__m512)x, fraction_bits << 4 | down);
    const vec power = (vec)_mm512_permutexvar_ps(piece, (__m512)table->slope) * r +
                      (vec)_mm512_permutexvar_ps(piece, (__m512)table->value);
    return (vec)_mm512_scalef_ps((__m512)power, (__m512)x);
}

/* The upper halves of a and b, in turns. */
static ALWAYS_INLINE __m512i upper_halves(__m512i a, __m512i b)
{
    const __m512i down = _mm512_set4_epi32(0x0F0E0F0E, 0x0B0A0B0A, 0x07060706, 0x03020302);
    return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_shuffle_epi8(a, down), b);
}

/* The same of a and b rounded to bf16; halfway up. */
static ALWAYS_INLINE __m512i rounded_halves(vec a, vec b)
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    return upper_halves(_mm512_add_epi32((__m512i)a, half), _mm512_add_epi32((__m512i)b, half));
}

/* The share of step `step` of `steps` in 0 .. count - 1. */
struct share {
    int begin, end;
};
static ALWAYS_INLINE struct share share_of_step(int count, int step, int steps)
{
    const int length = (count + steps - 1) / steps, begin = step * length, end = begin + length;
    return (struct share){begin, end < count ? end : count};
}

/* A window's rows lie apart and far away; while one window is worked on they are called into the second-level
 * cache for the next. */
static ALWAYS_INLINE void fetch(const void *from)
{
    _mm_prefetch((const char *)from, _MM_HINT_T1);
}

/* Columns of the queries, keys and values of a share of the window's slots. */
static ALWAYS_INLINE void fetch_tokens(const struct cut_window *cut, struct share share, int first,
                                       const struct attention_sizes *z)
{
    for (int t = share.begin; t < share.end; t++) {
        const activation *from = cut->qkv[t] + first;
        fetch(from);
        fetch(from + z->channels);
        fetch(from + 2 * (size_t)z->channels);
    }
}

/* Lets this thread flush subnormal numbers; returns what end_flushing takes. */
static inline unsigned begin_flushing(void)
{
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON | 0x40 /* denormals are zeros */);
    return before;
}

static inline void end_flushing(unsigned before)
{
    _mm_setcsr(before);
}

void KERNEL(tile_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *shape);
void KERNEL(tile_attention_backward)(struct compute *c, activation *dqkv, float *dqkv_bias,
                                     float *dbias_table, const activation *dout, const activation *out,
                                     const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                     const float *bias_table, const struct attention_shape *shape);

#endif
