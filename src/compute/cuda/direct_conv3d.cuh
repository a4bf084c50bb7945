/* Convolutions by plain kernels, for every shape that there is: what is used where cuDNN has nothing, and for
 * one input channel, where it is slow. Products and sums are in float whatever the precision. */
#ifndef COMPUTE_CUDA_DIRECT_CONV3D_CUH
#define COMPUTE_CUDA_DIRECT_CONV3D_CUH

#include "compute/cuda/kernel.cuh"

/* bias may be NULL. */
void direct_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                           const float *bias, const struct conv3d_shape *shape);
void direct_conv3d_input_gradient(struct compute *c, activation *dinp, const activation *dout,
                                  const float *weight, const struct conv3d_shape *shape);
void direct_conv3d_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                   const activation *inp, const struct conv3d_shape *shape);

/* ---- conv3d_sums.cu ---- */

/* dweight (out, in, taps) += the sum of `parts` partial ones (out, taps, in), always in the same order. */
void conv3d_add_partials(struct compute *c, float *dweight, const float *partials, int parts, int out, int in,
                         int taps);

/* mean and rstd (n, channels) from the sums of values and of their squares, (n, parts, channels, 2); where
 * mean_product is given and rstd is not, the means of the two. Always in the same order. */
void conv3d_finish_sums(struct compute *c, float *mean, float *rstd, float *mean_product, const float *sums,
                        int parts, int n, size_t space, int channels);

/* ---- single_channel_conv3d.cu: one input channel; kernel 3 of stride 1, 2 of stride 2, or 1 ---- */

int single_channel_fits(const struct conv3d_shape *shape);
void single_channel_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                            const float *bias, const struct conv3d_shape *shape);
void single_channel_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                    const activation *inp, const struct conv3d_shape *shape);

/* ---- single_channel_bf16.cu, single_channel_gradient.cu: the same on tensor cores, for kernel 3 and
 * multiples of 48 output channels ---- */

/* wide: the array that has them. */
int single_channel_bf16_fits(const struct compute *c, const struct conv3d_shape *shape,
                             const activation *wide);
void single_channel_bf16_forward(struct compute *c, activation *out, const activation *inp,
                                 const float *weight, const float *bias, const struct conv3d_shape *shape);
/* With the moments of out. */
void single_channel_bf16_forward_with_moments(struct compute *c, activation *out, float *mean, float *rstd,
                                              const activation *inp, const float *weight,
                                              const struct conv3d_shape *shape);
void single_channel_bf16_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, const struct conv3d_shape *shape);

/* dweight += the gradient from behind the norm of the convolution's output, whose moments norm has: dnorm is
 * the gradient of the norm's result, dnorm_mean and dnorm_xhat_mean (n, channels) are its means over space
 * and those of its product with that result. scratch: single_channel_bf16_normed_gradient_scratch bytes. */
void single_channel_bf16_normed_gradient(struct compute *c, float *dweight, const activation *dnorm,
                                         const float *dnorm_mean, const float *dnorm_xhat_mean,
                                         const struct norm_activation *norm, const activation *inp,
                                         const float *weight, void *scratch,
                                         const struct conv3d_shape *shape);
size_t single_channel_bf16_normed_gradient_scratch(const struct compute *c, const struct conv3d_shape *shape);

static inline int conv3d_taps(const struct conv3d_shape *s)
{
    return s->kernel * s->kernel * s->kernel;
}

static inline size_t conv3d_output_voxels(const struct conv3d_shape *s)
{
    return (size_t)s->n * (size_t)(s->d / s->stride) * (size_t)(s->h / s->stride) *
           (size_t)(s->w / s->stride);
}

#endif
