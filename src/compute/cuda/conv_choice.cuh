/* How each convolution is done: by own tensor core kernels, by one of cuDNN's plans or by plain kernels. */
#ifndef COMPUTE_CUDA_CONV_CHOICE_CUH
#define COMPUTE_CUDA_CONV_CHOICE_CUH

#include "compute/cuda/cuda_state.h"

enum conv_direction { CONV_FORWARD, CONV_INPUT_GRADIENT, CONV_WEIGHT_GRADIENT };

/* One convolution in one direction. */
struct conv_call {
    enum conv_direction direction;
    const struct conv3d_shape *shape;
    activation *written; /* out, or the gradient of what the convolution reads */
    float *mean, *rstd;  /* the moments of out, where they are wanted */
    float *dweight;      /* added to */
    const activation *inp, *dout;
    const struct norm_activation *norm; /* what the convolution reads is act(norm(inp)); NULL: inp */
    activation *work;                   /* of inp's size where norm is given */
    const float *weight;
    const float *bias; /* may be NULL */
};

/* Does it in the way that was fastest when this shape, direction and precision came first in the process (see
 * measured.cuh). VOCO_CUDA_CONV=own, cudnn or direct in the environment takes that one wherever it can. */
void convolve(struct compute *c, const struct conv_call *call);

/* Whether own kernels are among the ways: they can do it, and the environment does not forbid it. */
int conv_may_be_own(const struct compute *c, const struct conv3d_shape *shape);

struct cudnn;
void conv_choices_free(struct cudnn *cudnn);

#endif
