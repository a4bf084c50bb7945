/* The norm of the hidden states h0..h4 (voco.md section 2): LayerNorm over channels without affine
 * parameters. It keeps nothing: backward computes the moments anew. */
#ifndef NN_HIDDEN_NORM_H
#define NN_HIDDEN_NORM_H

#include "nn/layer.h"

/* out and inp (rows, channels) */
void hidden_norm_forward(const struct layer_run *run, activation *out, const activation *inp, int channels,
                         const struct token_grid *grid);

/* dinp: the gradient of inp, + residual (NULL: nothing), which may not be dinp. dinp may be dout. */
void hidden_norm_backward(const struct layer_run *run, activation *dinp, const activation *dout,
                          const activation *inp, const activation *residual, int channels,
                          const struct token_grid *grid);

#endif
