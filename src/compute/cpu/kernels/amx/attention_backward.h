/* Backward of window attention in tiles, of one head in one window: attention_backward.c gathers what there
 * is to multiply and writes the gradients, attention_backward_blocks.c multiplies. Between them lies the
 * memory of a thread.
 *
 * Probabilities and gradients of scores lie as pairs of the queries k and k + 16 of a block, by keys. As
 * right factors they give the gradients of keys and values. As left ones, with keys beside zeros to the
 * right, they give those of the queries k and of the queries k + 16. */
#ifndef COMPUTE_CPU_KERNELS_AMX_ATTENTION_BACKWARD_H
#define COMPUTE_CPU_KERNELS_AMX_ATTENTION_BACKWARD_H

#include "compute/cpu/kernels/amx/attention_tiles.h"

enum { turns = 2, block_tiles = block_side / tile_rows, block_pairs = block_side * block_side };

/* The memory of one thread. */
struct backward_work {
    struct attention_walk walk;
    activation *queries, *douts; /* rows, see attention_tiles.h */
    activation *keys, *values;   /* tiles, ditto */
    struct single_keys single;   /* keys */
    activation *query_pairs,
        *dout_pairs;                /* (blocks, channel_tiles, 16, 16, 2): pairs of queries by channels */
    float *dkeys, *dvalues;         /* (blocks, 2, channel_tiles, 16, 16): channels by keys */
    float *dqueries;                /* (blocks, 2, channel_tiles, 16, 16): queries by channels */
    float *scores, *dprobabilities; /* (turns, block_side, block_side) */
    activation *probabilities, *dscores; /* (turns, 2, 16, 16, 2): pairs of queries by keys */
    float *logsumexp, *dout_out;         /* numbers of queries, see attention_tiles.h */
    struct attention_layout layout;
    struct exp2_table table;
};

/* What backward reads besides qkv. */
struct upstream {
    const activation *dout, *out;
    const float *logsumexp;
};

/* Where gradients of a window go. */
struct gradients {
    activation *dqkv;
    double *dqkv_bias; /* takes up those of padding */
};

/* One of 16 queries' sums. */
static ALWAYS_INLINE float *sums_at(const struct backward_work *work, float *sums, int block, int half,
                                    int part)
{
    return sums + (size_t)((block * block_tiles + half) * work->layout.channel_tiles + part) * tile_pairs;
}

/* Scores again, and from them all gradients. Heads of one tile of channels, whose rows are one tile deep;
 * meanwhile what the next window reads is fetched. */
void KERNEL(gradients_of_narrow_head)(const struct gradients *gradients, const struct upstream *upstream,
                                      struct backward_work *work, const struct attention_sizes *sizes);

/* The same of any head. */
void KERNEL(gradients_of_wide_head)(struct backward_work *work);

#endif
