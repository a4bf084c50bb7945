/* The norm of the hidden states h0..h4 (voco.md section 2): LayerNorm over channels without affine
 * parameters. */
#ifndef NN_HIDDEN_NORM_H
#define NN_HIDDEN_NORM_H

#include "nn/normed_tokens.h"

/* The norm of inp (rows, channels), into `kept` or, where that is NULL or nothing, onto the arena. */
struct normed_tokens hidden_norm_forward(const struct layer_run *run, const activation *inp, int channels,
                                         const struct token_grid *grid, const struct normed_tokens *kept);

/* What was kept, or the same made again. */
struct normed_tokens hidden_norm_again(const struct layer_run *run, const activation *inp, int channels,
                                       const struct token_grid *grid, const struct normed_tokens *kept);

/* dinp: the gradient of inp, + residual (NULL: nothing), which may not be dinp. dinp may be dout. */
void hidden_norm_backward(const struct layer_run *run, activation *dinp, const activation *dout,
                          const activation *inp, const struct normed_tokens *normed,
                          const activation *residual, int channels, const struct token_grid *grid);

#endif
