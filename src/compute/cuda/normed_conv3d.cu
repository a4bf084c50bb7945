#include "compute/cuda/conv_choice.cuh"
#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/own_conv3d.cuh"
#include "compute/cuda/vector.cuh"

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

/* Both norm and convolution of the first one's output in one pass each: its gradient is never written. */
static void fused_pair(struct compute *c, float *dweight1, activation *dbetween, const activation *dout,
                       const activation *between, const struct norm_activation *norm, const activation *x,
                       const float *weight1, const float *weight2, const struct conv3d_shape *first,
                       const struct conv3d_shape *second)
{
    const size_t moments = cuda_aligned((size_t)first->n * first->out_channels * sizeof(float));
    const size_t by_walk = cuda_aligned(own_conv3d_norm_gradient_scratch(c, second));
    char *scratch = (char *)cuda_scratch(c, 2 * moments + by_walk +
                                                single_channel_bf16_normed_gradient_scratch(c, first));
    float *mean = (float *)scratch, *xhat_mean = (float *)(scratch + moments);
    own_conv3d_norm_gradient(c, dbetween, mean, xhat_mean, dout, weight2, second, between, norm,
                             scratch + 2 * moments);
    single_channel_bf16_normed_gradient(c, dweight1, dbetween, mean, xhat_mean, norm, x, weight1,
                                        scratch + 2 * moments + by_walk, first);
}

void cuda_normed_conv3d_pair_backward(struct compute *c, float *dweight1, float *dweight2,
                                      activation *dbetween, const activation *dout, const activation *between,
                                      const struct norm_activation *norm, activation *work,
                                      const activation *x, const float *weight1, const float *weight2,
                                      const struct conv3d_shape *shape)
{
    struct conv3d_shape first = *shape;
    first.in_channels = 1;
    first.out_channels = shape->in_channels;
    const int fused = conv_may_be_own(c, shape) && single_channel_bf16_fits(c, &first, dbetween) &&
                      all_aligned(dout, between);
    cuda_normed_conv3d_backward(c, fused ? NULL : dbetween, dweight2, dout, between, norm, work, weight2,
                                shape);
    if (c->status == VOCO_OK && fused) {
        fused_pair(c, dweight1, dbetween, dout, between, norm, x, weight1, weight2, &first, shape);
    } else {
        cuda_normed_conv3d_backward(c, NULL, dweight1, dbetween, x, NULL, NULL, weight1, &first);
    }
}
