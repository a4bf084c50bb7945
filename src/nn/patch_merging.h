/* Patch merging (voco.md section 2, item 6): gathers 8 neighbours to 8 C channels, LayerNorm, Linear(8 C, 2
 * C) without bias. Odd axes are zero-padded at their end. What it gathers and norms is kept where
 * keeps_passes; elsewhere backward does that again. */
#ifndef NN_PATCH_MERGING_H
#define NN_PATCH_MERGING_H

#include "nn/normed_tokens.h"

struct patch_merging_layer {
    int channels; /* C, of the input */
    enum patch_merging order;
    size_t norm_weight, norm_bias; /* (8 C) */
    size_t reduction;              /* (2 C, 8 C) */
};

/* The grid of the merged tokens: half of each side, rounded up. */
struct token_grid merged_grid(const struct token_grid *grid);

struct patch_merging_activations {
    activation *gathered;        /* (merged rows, 8 C); NULL: nothing is kept */
    struct normed_tokens normed; /* (merged rows, 8 C) */
};

/* grid is that of the layer's input, here and below. */
void patch_merging_keep(const struct layer_run *run, const struct patch_merging_layer *layer,
                        const struct token_grid *grid, struct patch_merging_activations *kept);

/* out (merged rows, 2 C) from inp (rows, C) */
void patch_merging_forward(const struct layer_run *run, const struct patch_merging_layer *layer,
                           activation *out, const activation *inp, const struct token_grid *grid,
                           const struct patch_merging_activations *kept);

/* dinp (rows, C), dout (merged rows, 2 C) */
void patch_merging_backward(const struct layer_run *run, const struct patch_merging_layer *layer,
                            activation *dinp, const activation *dout, const activation *inp,
                            const struct token_grid *grid, const struct patch_merging_activations *kept);

#endif
