/* A Swin transformer block (voco.md section 2, "Swin block"):
 *
 *   x1  = inp + proj(attention(qkv(LN1(inp))))
 *   out = x1 + linear2(GELU(linear1(LN2(x1))))
 *
 * Windows and shift follow from the grid and from whether the block is the even or the odd one of its stage.
 */
#ifndef NN_SWIN_BLOCK_H
#define NN_SWIN_BLOCK_H

#include "nn/layer.h"
#include "nn/linear.h"
#include "nn/normed_tokens.h"

struct swin_block {
    int channels, heads;
    int odd;                         /* 1: the shifted one */
    size_t norm1_weight, norm1_bias; /* (C) */
    size_t bias_table;               /* (2197, heads) */
    struct linear qkv, proj;         /* C -> 3 C, C -> C */
    size_t norm2_weight, norm2_bias; /* (C) */
    struct linear linear1, linear2;  /* C -> 4 C, 4 C -> C */
};

struct swin_block_activations {
    struct normed_tokens norm1; /* nothing where it is fused with what makes queries, keys and values */
    activation *qkv;            /* (rows, 3 C) */
    activation *attended;       /* (rows, C): attention's output */
    real *logsumexp;            /* (rows, heads) */
    activation *x1;             /* (rows, C) */
    /* Nothing where the MLP is one operation. */
    struct normed_tokens norm2;
    activation *wide;      /* (rows, 4 C): linear1's output */
    activation *activated; /* its GELU, where that is kept */
};

void swin_block_keep(const struct layer_run *run, const struct swin_block *block,
                     const struct token_grid *grid, struct swin_block_activations *kept);

/* out and inp (rows, C) */
void swin_block_forward(const struct layer_run *run, const struct swin_block *block, activation *out,
                        const activation *inp, const struct token_grid *grid,
                        const struct swin_block_activations *kept);

/* dinp and dout (rows, C) */
void swin_block_backward(const struct layer_run *run, const struct swin_block *block, activation *dinp,
                         const activation *dout, const activation *inp, const struct token_grid *grid,
                         const struct swin_block_activations *kept);

#endif
