/* The norm of the hidden states h0..h4 (voco.md section 2): LayerNorm over channels without affine
 * parameters. */
#ifndef NN_HIDDEN_NORM_H
#define NN_HIDDEN_NORM_H

#include "nn/layer.h"

/* out and inp (rows, channels); mean and rstd (rows), which backward takes. */
void hidden_norm_forward(const struct layer_run *run, activation *out, real *mean, real *rstd,
                         const activation *inp, int channels, const struct token_grid *grid);

/* dinp: the gradient of inp, + residual (NULL: nothing), which may not be dinp. dinp may be dout. */
void hidden_norm_backward(const struct layer_run *run, activation *dinp, const activation *dout,
                          const activation *inp, const real *mean, const real *rstd,
                          const activation *residual, int channels, const struct token_grid *grid);

#endif
