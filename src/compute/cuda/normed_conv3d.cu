#include "compute/cuda/conv_choice.cuh"

static size_t space_of(const struct conv3d_shape *s)
{
    return (size_t)s->d * (size_t)s->h * (size_t)s->w;
}

size_t cuda_normed_conv3d_work(struct compute *c, const struct conv3d_shape *s)
{
    (void)c;
    return (size_t)s->n * space_of(s) * (size_t)s->in_channels;
}

void cuda_normed_conv3d_forward(struct compute *c, activation *out, float *mean, float *rstd,
                                const activation *inp, const struct norm_activation *norm, activation *work,
                                const float *weight, const struct conv3d_shape *shape)
{
    struct conv_call call = {};
    call.direction = CONV_FORWARD;
    call.shape = shape;
    call.written = out;
    call.mean = mean;
    call.rstd = rstd;
    call.inp = inp;
    call.norm = norm;
    call.work = work;
    call.weight = weight;
    convolve(c, &call);
}

void cuda_normed_conv3d_backward(struct compute *c, activation *dinp, float *dweight, const activation *dout,
                                 const activation *inp, const struct norm_activation *norm, activation *work,
                                 const float *weight, const struct conv3d_shape *shape)
{
    struct conv_call call = {};
    call.shape = shape;
    call.written = dinp;
    call.dweight = dweight;
    call.inp = inp;
    call.dout = dout;
    call.norm = norm;
    call.work = work;
    call.weight = weight;
    if (dweight != NULL) {
        call.direction = CONV_WEIGHT_GRADIENT;
        convolve(c, &call);
    }
    if (dinp != NULL) {
        call.direction = CONV_INPUT_GRADIENT;
        convolve(c, &call);
    }
}
