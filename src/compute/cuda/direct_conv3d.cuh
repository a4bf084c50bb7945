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

/* ---- single_channel_conv3d.cu: one input channel; kernel 3 of stride 1, 2 of stride 2, or 1 ---- */

int single_channel_fits(const struct conv3d_shape *shape);
void single_channel_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                            const float *bias, const struct conv3d_shape *shape);
void single_channel_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                    const activation *inp, const struct conv3d_shape *shape);

/* ---- single_channel_bf16.cu: the same on tensor cores, for kernel 3 and multiples of 48 output channels
 * ---- */

/* wide: the array that has them. */
int single_channel_bf16_fits(const struct compute *c, const struct conv3d_shape *shape,
                             const activation *wide);
void single_channel_bf16_forward(struct compute *c, activation *out, const activation *inp,
                                 const float *weight, const float *bias, const struct conv3d_shape *shape);
void single_channel_bf16_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, const struct conv3d_shape *shape);

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
