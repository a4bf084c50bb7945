#include "compute/cpu/cpu_state.h"
#include "compute/supported_shapes.h"

#include <stdlib.h>

static size_t input_rows(const struct conv3d_shape *s)
{
    return (size_t)s->n * s->d * s->h * s->w;
}

static size_t output_rows(const struct conv3d_shape *s)
{
    return (size_t)s->n * (s->d / s->stride) * (s->h / s->stride) * (s->w / s->stride);
}

/* What computes a convolution. */
enum way { BY_FUSED_KERNEL, BY_NARROW_KERNEL, BY_PRODUCT, BY_ONEDNN };

static enum way way_of(const struct compute *c, const struct conv3d_shape *s, int of_weight_gradient)
{
    const int is_small = of_weight_gradient ? has_small_grid_gradient(s) : is_small_grid(s);
    const struct kernels *kernels = kernels_of(c);
    int (*const narrow_fits)(int, int) =
        of_weight_gradient ? kernels->narrow_gradient_fits : kernels->narrow_convolution_fits;
    if (kernels->fused_convolution_fits(s)) {
        return BY_FUSED_KERNEL;
    }
    if (c->precision == PRECISION_BF16 && c->multiplies_bf16) {
        return of_weight_gradient && is_small ? BY_PRODUCT : BY_ONEDNN;
    }
    if (s->kernel == 3 && narrow_fits(s->in_channels, s->out_channels)) {
        return BY_NARROW_KERNEL;
    }
    return is_small ? BY_PRODUCT : BY_ONEDNN;
}

/* Whether activations have to be converted to floats as a whole, there and back: products over gathered
 * neighbourhoods take floats, and so does oneDNN on a processor that does not multiply bf16. */
static int goes_through_floats(const struct compute *c, enum way way)
{
    return c->precision == PRECISION_BF16 && (way == BY_PRODUCT || (way == BY_ONEDNN && !c->multiplies_bf16));
}

static void forward_through_floats(struct compute *c, activation *out, const activation *inp,
                                   const float *weight, const float *bias, const struct conv3d_shape *s)
{
    const size_t inputs = input_rows(s) * s->in_channels, outputs = output_rows(s) * s->out_channels;
    float *x, *y;
    if (cpu_float_arrays(c, &x, inputs, &y, outputs)) {
        c->reals_from_activations(c, x, inp, inputs);
        c->full->conv3d_forward(c->full, as_activations(y), as_activations(x), weight, bias, s);
        c->activations_from_reals(c, out, y, outputs);
    }
}

void cpu_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                        const float *bias, const struct conv3d_shape *shape)
{
    if (!conv3d_is_supported(c, shape)) {
        return;
    }
    use_threads(c);
    const enum way way = way_of(c, shape, 0);
    if (goes_through_floats(c, way)) {
        forward_through_floats(c, out, inp, weight, bias, shape);
        return;
    }
    switch (way) {
    case BY_FUSED_KERNEL:
        kernels_of(c)->fused_convolution_forward(c, out, NULL, NULL, inp, NULL, weight, shape);
        break;
    case BY_NARROW_KERNEL:
        kernels_of(c)->narrow_convolution(c, out, inp, weight, shape, 0);
        break;
    case BY_PRODUCT:
        small_grid_forward(c, (float *)out, (const float *)inp, weight, shape);
        break;
    case BY_ONEDNN:
        convolution_forward(c, out, inp, weight, bias, shape);
    }
    if (bias != NULL && way != BY_ONEDNN) {
        kernels_of(c)->add_bias(c, out, bias, output_rows(shape), shape->out_channels);
    }
}

static void input_gradient_through_floats(struct compute *c, activation *dinp, const activation *dout,
                                          const float *weight, const struct conv3d_shape *s)
{
    const size_t inputs = input_rows(s) * s->in_channels, outputs = output_rows(s) * s->out_channels;
    float *dx, *dy;
    if (cpu_float_arrays(c, &dx, inputs, &dy, outputs)) {
        c->reals_from_activations(c, dy, dout, outputs);
        c->full->conv3d_backward(c->full, as_activations(dx), NULL, NULL, as_activations(dy), NULL, weight,
                                 s);
        c->activations_from_reals(c, dinp, dx, inputs);
    }
}

static void input_gradient(struct compute *c, activation *dinp, const activation *dout, const float *weight,
                           const struct conv3d_shape *shape)
{
    const enum way way = way_of(c, shape, 0);
    if (goes_through_floats(c, way)) {
        input_gradient_through_floats(c, dinp, dout, weight, shape);
        return;
    }
    switch (way) {
    case BY_FUSED_KERNEL:
        kernels_of(c)->fused_convolution_input_gradient(c, dinp, NULL, NULL, dout, weight, NULL, NULL, shape);
        break;
    case BY_NARROW_KERNEL:
        kernels_of(c)->narrow_convolution(c, dinp, dout, weight, shape, 1);
        break;
    case BY_PRODUCT:
        small_grid_input_gradient(c, (float *)dinp, (const float *)dout, weight, shape);
        break;
    case BY_ONEDNN:
        convolution_input_gradient(c, dinp, dout, weight, shape);
    }
}

static void weight_gradient_through_floats(struct compute *c, float *dweight, const activation *dout,
                                           const activation *inp, const struct conv3d_shape *s)
{
    const size_t inputs = input_rows(s) * s->in_channels, outputs = output_rows(s) * s->out_channels;
    float *x, *dy;
    if (cpu_float_arrays(c, &x, inputs, &dy, outputs)) {
        c->reals_from_activations(c, x, inp, inputs);
        c->reals_from_activations(c, dy, dout, outputs);
        c->full->conv3d_backward(c->full, NULL, dweight, NULL, as_activations(dy), as_activations(x), NULL,
                                 s);
    }
}

static void weight_gradient(struct compute *c, float *dweight, const activation *dout, const activation *inp,
                            const struct conv3d_shape *shape)
{
    const enum way way = way_of(c, shape, 1);
    if (goes_through_floats(c, way)) {
        weight_gradient_through_floats(c, dweight, dout, inp, shape);
        return;
    }
    switch (way) {
    case BY_FUSED_KERNEL:
        kernels_of(c)->fused_convolution_weight_gradient(c, dweight, dout, inp, NULL, shape);
        break;
    case BY_NARROW_KERNEL:
        kernels_of(c)->narrow_convolution_gradient(c, dweight, dout, inp, shape);
        break;
    case BY_PRODUCT:
        small_grid_weight_gradient(c, dweight, (const float *)dout, (const float *)inp, shape);
        break;
    case BY_ONEDNN:
        convolution_weight_gradient(c, dweight, dout, inp, shape);
    }
}

void cpu_conv3d_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                         const activation *dout, const activation *inp, const float *weight,
                         const struct conv3d_shape *shape)
{
    if (!conv3d_is_supported(c, shape)) {
        return;
    }
    use_threads(c);
    if (dinp != NULL) {
        input_gradient(c, dinp, dout, weight, shape);
    }
    if (dweight != NULL) {
        weight_gradient(c, dweight, dout, inp, shape);
    }
    if (dbias != NULL) {
        kernels_of(c)->add_row_sums(c, dbias, dout, output_rows(shape), shape->out_channels);
    }
}

size_t cpu_normed_conv3d_work(struct compute *c, const struct conv3d_shape *s)
{
    const size_t size = (size_t)s->n * s->d * s->h * s->w * s->in_channels;
    return way_of(c, s, 0) == BY_FUSED_KERNEL ? 0 : size;
}

void cpu_normed_conv3d_forward(struct compute *c, activation *out, float *mean, float *rstd,
                               const activation *inp, const struct norm_activation *norm, activation *work,
                               const float *weight, const struct conv3d_shape *s)
{
    const struct kernels *kernels = kernels_of(c);
    const size_t space = (size_t)s->d * s->h * s->w;
    if (!conv3d_is_supported(c, s)) {
        return;
    }
    if (way_of(c, s, 0) == BY_FUSED_KERNEL) {
        kernels->fused_convolution_forward(c, out, mean, rstd, inp, norm, weight, s);
        return;
    }
    if (norm != NULL) {
        c->instance_norm_apply(c, work, inp, norm, NULL, s->n, space, s->in_channels);
        inp = work;
    }
    cpu_conv3d_forward(c, out, inp, weight, NULL, s);
    c->instance_norm_moments(c, mean, rstd, out, s->n, space, s->out_channels);
}

/* The input gradient through the norm of the input where there is one. */
static void fused_gradient_of_input(struct compute *c, activation *dinp, const activation *dout,
                                    const activation *inp, const struct norm_activation *norm,
                                    const float *weight, const struct conv3d_shape *s)
{
    const struct kernels *kernels = kernels_of(c);
    const size_t moments = (size_t)s->n * s->in_channels;
    float *shift = norm != NULL ? malloc(2 * moments * sizeof *shift) : NULL, *factor = NULL;
    if (norm != NULL && shift == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "input gradient of a convolution");
        return;
    }
    if (norm != NULL) {
        factor = shift + moments;
    }
    kernels->fused_convolution_input_gradient(c, dinp, shift, factor, dout, weight, inp, norm, s);
    if (norm != NULL) {
        kernels->norm_input_gradient(c, dinp, inp, norm, shift, factor, s->n, (size_t)s->d * s->h * s->w,
                                     s->in_channels);
    }
    free(shift);
}

void cpu_normed_conv3d_backward(struct compute *c, activation *dinp, float *dweight, const activation *dout,
                                const activation *inp, const struct norm_activation *norm, activation *work,
                                const float *weight, const struct conv3d_shape *s)
{
    const size_t space = (size_t)s->d * s->h * s->w;
    if (!conv3d_is_supported(c, s)) {
        return;
    }
    if (way_of(c, s, 0) == BY_FUSED_KERNEL) {
        kernels_of(c)->fused_convolution_weight_gradient(c, dweight, dout, inp, norm, s);
        if (dinp != NULL) {
            fused_gradient_of_input(c, dinp, dout, inp, norm, weight, s);
        }
        return;
    }
    if (norm != NULL) {
        c->instance_norm_apply(c, work, inp, norm, NULL, s->n, space, s->in_channels);
    }
    cpu_conv3d_backward(c, dinp, dweight, NULL, dout, norm != NULL ? work : inp, weight, s);
    if (norm != NULL && dinp != NULL) {
        c->instance_norm_backward(c, dinp, NULL, dinp, work, inp, norm->mean, norm->rstd, norm->slope, s->n,
                                  space, s->in_channels);
    }
}
