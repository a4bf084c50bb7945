/* Convolutions of our own: 3^3, stride 1, no bias, bf16, on tensor cores, with the norm and activation before
 * them applied while the input is fetched. Candidates beside cuDNN's for the shapes that fit. */
#ifndef COMPUTE_CUDA_OWN_CONV3D_CUH
#define COMPUTE_CUDA_OWN_CONV3D_CUH

#include "compute/cuda/cuda_state.h"

/* 1: products by warps also where the GPU has those of warpgroups. Tests compare the two. */
extern int own_conv3d_by_warps;

/* Whether the functions below can do this convolution, as c's precision and GPU are. */
int own_conv3d_fits(const struct compute *c, const struct conv3d_shape *shape);

/* out = conv(act(norm(inp))); norm may be NULL: inp is read as it is. mean and rstd (n, out_channels): the
 * moments of out, where they are wanted. */
void own_conv3d_forward(struct compute *c, activation *out, const activation *inp,
                        const struct norm_activation *norm, const float *weight,
                        const struct conv3d_shape *shape, float *mean = NULL, float *rstd = NULL);

/* dinp: the gradient of what the convolution read; where norm is given, it read act(norm(inp)), and dinp is
 * the gradient of inp. kept: where norm is given and this is not NULL, act(norm(inp)) is written there. */
void own_conv3d_input_gradient(struct compute *c, activation *dinp, const activation *dout,
                               const float *weight, const struct conv3d_shape *shape,
                               const activation *inp = NULL, const struct norm_activation *norm = NULL,
                               activation *kept = NULL);

/* The same but for the norm's own part: dnorm is the gradient of norm(inp), and dnorm_mean, dnorm_xhat_mean
 * (n, in_channels) are its means over space and those of its product with norm(inp). scratch:
 * own_conv3d_norm_gradient_scratch bytes. */
void own_conv3d_norm_gradient(struct compute *c, activation *dnorm, float *dnorm_mean, float *dnorm_xhat_mean,
                              const activation *dout, const float *weight, const struct conv3d_shape *shape,
                              const activation *inp, const struct norm_activation *norm, activation *kept,
                              void *scratch);
size_t own_conv3d_norm_gradient_scratch(const struct compute *c, const struct conv3d_shape *shape);

/* dweight is added to; the convolution read act(norm(inp)), or inp where norm is NULL. */
void own_conv3d_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                const activation *inp, const struct norm_activation *norm,
                                const struct conv3d_shape *shape);

/* The same on Hopper, where both channels are multiples of 48 (own_conv3d_wide_gradient.cu). */
void own_conv3d_wide_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                     const activation *inp, const struct norm_activation *norm,
                                     const struct conv3d_shape *shape);

/* The same, where inp is read as it is (own_conv3d_boxed_gradient.cu). 0, and nothing done, where the GPU or
 * its driver has not what this needs. */
int own_conv3d_boxed_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                     const activation *inp, const struct conv3d_shape *shape);

#endif
