/* The residual convolution block (voco.md section 2, `layer.conv1/conv2/conv3`):
 *
 *   out = lrelu(IN(conv2(lrelu(IN(conv1(inp))))) + r),   r = inp, or IN(conv3(inp)) where channels differ
 *
 * 3^3 convolutions (conv3: 1^3) without bias, instance norm without affine parameters, leaky ReLU of slope
 * 0.01. */
#ifndef NN_RESIDUAL_BLOCK_H
#define NN_RESIDUAL_BLOCK_H

#include "nn/layer.h"

struct residual_block {
    int in_channels, out_channels;
    size_t conv1, conv2; /* places of the weights */
    size_t conv3;        /* not read where in_channels == out_channels */
};

/* The outputs of the two 3^3 convolutions (rows, out_channels) and the moments of their norms (n,
 * out_channels). */
struct residual_block_activations {
    activation *conv1, *conv2;
    real *mean1, *rstd1, *mean2, *rstd2;
};

void residual_block_keep(const struct layer_run *run, const struct residual_block *block,
                         const struct token_grid *grid, struct residual_block_activations *kept);

/* out (rows, out_channels) from inp (rows, in_channels). Without kept it uses two more arrays of out's size.
 */
void residual_block_forward(const struct layer_run *run, const struct residual_block *block, activation *out,
                            const activation *inp, const struct token_grid *grid,
                            const struct residual_block_activations *kept);

/* dinp (rows, in_channels) is written; may be NULL. dout is overwritten. out is forward's result, or NULL
 * when it was not kept: then it is rebuilt. */
void residual_block_backward(const struct layer_run *run, const struct residual_block *block,
                             activation *dinp, activation *dout, const activation *out, const activation *inp,
                             const struct token_grid *grid, const struct residual_block_activations *kept);

#endif
