/* Patch embedding (voco.md section 2): a 2^3 convolution of stride 2 with bias, 1 -> C, no norm. It keeps
 * nothing. */
#ifndef NN_PATCH_EMBED_H
#define NN_PATCH_EMBED_H

#include "nn/layer.h"

struct patch_embed {
    int channels; /* C */
    size_t weight, bias;
};

/* out (n, d/2, h/2, w/2, C) from inp (n, d, h, w, 1); grid is inp's, with even sides. */
void patch_embed_forward(const struct layer_run *run, const struct patch_embed *embed, activation *out,
                         const activation *inp, const struct token_grid *grid);

/* Parameter gradients only: crops need none. */
void patch_embed_backward(const struct layer_run *run, const struct patch_embed *embed,
                          const activation *dout, const activation *inp, const struct token_grid *grid);

#endif
