/* Where each layer's parameters lie, and what a pass through the network keeps. Private to src/model. */
#ifndef MODEL_LAYOUT_H
#define MODEL_LAYOUT_H

#include "model/model.h"
#include "nn/hidden_norm.h"
#include "nn/patch_embed.h"
#include "nn/patch_merging.h"
#include "nn/projector_layer.h"
#include "nn/residual_block.h"
#include "nn/swin_block.h"

enum { stage_count = 4, encoder_count = encoder_levels, projector_depth = 3 };

/* layers{l}c and layers{l} */
struct stage {
    struct residual_block conv;
    struct swin_block blocks[2];
    struct patch_merging_layer merging;
};

struct model_layout {
    struct patch_embed embed;
    struct stage stages[stage_count];
    struct residual_block encoders[encoder_count]; /* encoder1, 2, 3, 4, 10 */
    struct linear projectors[2][projector_depth];  /* student, teacher */
};

/* encoders[0] takes the crop; encoders[e] takes hidden state number hidden_of_encoder[e], the norm of
 * x[that]. Its pooled result starts at column embedding_column[e] C of the embedding. */
extern const int hidden_of_encoder[encoder_count];
extern const int embedding_column[encoder_count];

/* The tokens of x[0], ..., x[4] of these crops: x[l] goes into stage l (from 0), which gives x[l + 1]. */
void hidden_grids(struct token_grid grids[stage_count + 1], const struct token_grid *crops);

struct stage_activations {
    struct residual_block_activations conv;
    activation *conv_out;
    struct swin_block_activations blocks[2];
    activation *block_out[2];
    struct patch_merging_activations merging;
};

struct encoder_activations {
    struct residual_block_activations encoders[encoder_count];
    /* What the encoders take, where that is kept; of the first nothing is, it takes crops. */
    struct normed_tokens hidden[encoder_count];
    struct stage_activations stages[stage_count];
    activation *x[stage_count + 1]; /* patch embedding, and each stage's result */
};

/* The crops (n, R, R, R) as activations, on the arena; NULL when it is used up. */
activation *push_crops(const struct layer_run *run, const real *crops, const struct token_grid *grid);

/* What a pass returns at its end: the failure of an operation, or VOCO_NO_MEMORY when the arena was used up.
 */
enum voco_status pass_status(struct compute *c, const struct arena *arena, const char *pass, int n);

#endif
