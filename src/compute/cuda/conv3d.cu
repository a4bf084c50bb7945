#include "compute/cuda/conv_choice.cuh"
#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/row_sums.cuh"
#include "compute/supported_shapes.h"

void cuda_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                         const float *bias, const struct conv3d_shape *shape)
{
    if (!conv3d_is_supported(c, shape)) {
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
    if (!conv3d_is_supported(c, shape)) {
        return;
    }
    cuda_normed_conv3d_backward(c, dinp, dweight, dout, inp, NULL, NULL, weight, shape);
    if (dbias != NULL) {
        const struct written_ranges written(c, {range_of(dbias, (size_t)shape->out_channels)});
        cuda_add_row_sums(c, dbias, dout, conv3d_output_voxels(shape), shape->out_channels);
    }
}
