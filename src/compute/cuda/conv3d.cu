#include "compute/cuda/conv_choice.cuh"
#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/row_sums.cuh"

static int unsupported(struct compute *c, const struct conv3d_shape *s)
{
    const int same = s->stride == 1 && s->kernel % 2 == 1;
    if (s->kernel >= 1 && s->kernel <= 3 && (same || s->stride == s->kernel)) {
        return 0;
    }
    compute_failed(c, VOCO_UNSUPPORTED, "convolution with this kernel and stride");
    return 1;
}

void cuda_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                         const float *bias, const struct conv3d_shape *shape)
{
    if (c->status != VOCO_OK || unsupported(c, shape)) {
        return;
    }
    struct conv_call call = {};
    call.direction = CONV_FORWARD;
    call.shape = shape;
    call.written = out;
    call.inp = inp;
    call.weight = weight;
    call.bias = bias;
    convolve(c, &call);
}

void cuda_conv3d_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                          const activation *dout, const activation *inp, const float *weight,
                          const struct conv3d_shape *shape)
{
    if (c->status != VOCO_OK || unsupported(c, shape)) {
        return;
    }
    cuda_normed_conv3d_backward(c, dinp, dweight, dout, inp, NULL, NULL, weight, shape);
    if (dbias != NULL) {
        cuda_add_row_sums(c, dbias, dout, conv3d_output_voxels(shape), shape->out_channels);
    }
}
