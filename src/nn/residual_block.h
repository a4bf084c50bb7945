/* The residual convolution block (voco.md section 2, `layer.conv1/conv2/conv3`):
 *
 *   out = lrelu(IN(conv2(lrelu(IN(conv1(inp))))) + r),   r = inp, or IN(conv3(inp)) where inp has one channel
 *
 * 3^3 convolutions (conv3: 1^3) without bias, instance norm without affine parameters, leaky ReLU of slope
 * 0.01. The encoders' blocks end in a global average pool: then only the pool's result is computed, and out
 * is never written.
 *
 * Passes over a tensor of out's size (R = read, W = written; a convolution reads its input once), where
 * moments, norms and activations go along with the convolutions (compute.h, normed_conv3d):
 *
 *   forward    conv1 W; conv2 R W; end R (residual R, out W unless pooled)
 *   backward   end, sums R (pooled: forward made them); end, gradient R W (residual R, its gradient W);
 * conv2's weight 2 R, input R W, norm 2 R W; conv1's weight 2 R, input R W
 *
 * With one input channel the residual is a multiple of it, so conv3 costs no pass at all, nor does inp. Where
 * backward fuses the two convolutions (compute.h, normed_conv3d_pair_backward), norm and conv1's weight are R
 * in place of 3 R W. */
#ifndef NN_RESIDUAL_BLOCK_H
#define NN_RESIDUAL_BLOCK_H

#include "nn/layer.h"

struct residual_block {
    int in_channels, out_channels; /* equal, or in_channels is 1 (pooled blocks, and forward without kept) */
    size_t conv1, conv2;           /* places of the weights */
    size_t conv3;                  /* not read where in_channels == out_channels */
};

/* The outputs of the two 3^3 convolutions (rows, out_channels), the moments of their norms (n, out_channels)
 * and what a pool needs of them (3, n, out_channels; pooled blocks). */
struct residual_block_activations {
    activation *conv1;
    real *mean1, *rstd1;
    activation *conv2;
    real *mean2, *rstd2;
    real *bends;
};

void residual_block_keep(const struct layer_run *run, const struct residual_block *block,
                         const struct token_grid *grid, struct residual_block_activations *kept);

/* out (rows, out_channels) from inp (rows, in_channels). Without kept it uses two more arrays of out's size,
 * and a third where in_channels is 1. */
void residual_block_forward(const struct layer_run *run, const struct residual_block *block, activation *out,
                            const activation *inp, const struct token_grid *grid,
                            const struct residual_block_activations *kept);

/* dinp (rows, in_channels) is written. dout is overwritten. out is forward's result. */
void residual_block_backward(const struct layer_run *run, const struct residual_block *block,
                             activation *dinp, activation *dout, const activation *out, const activation *inp,
                             const struct token_grid *grid, const struct residual_block_activations *kept);

/* pooled[i * stride + ch] = the mean of out over the voxels of grid i. */
void pooled_block_forward(const struct layer_run *run, const struct residual_block *block, real *pooled,
                          size_t stride, const activation *inp, const struct token_grid *grid,
                          const struct residual_block_activations *kept);

/* dinp (rows, in_channels) is written; NULL where inp has one channel: crops need no gradient. */
void pooled_block_backward(const struct layer_run *run, const struct residual_block *block, activation *dinp,
                           const real *dpooled, size_t stride, const activation *inp,
                           const struct token_grid *grid, const struct residual_block_activations *kept);

#endif
