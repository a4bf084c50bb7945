#include "compute/cpu/cpu_state.h"
#include "compute/cpu/onednn.h"

static size_t output_rows(const struct conv3d_shape *s)
{
    return (size_t)s->n * (s->d / s->stride) * (s->h / s->stride) * (s->w / s->stride);
}

static int unsupported(struct compute *c, const struct conv3d_shape *s)
{
    const int same = s->stride == 1 && s->kernel % 2 == 1;
    if (s->kernel >= 1 && s->kernel <= 3 && (same || s->stride == s->kernel)) {
        return 0;
    }
    compute_failed(c, VOCO_UNSUPPORTED, "convolution with this kernel and stride");
    return 1;
}

static struct convolution *convolution_of(struct compute *c, enum convolution_pass pass,
                                          const struct conv3d_shape *shape)
{
    struct convolution *convolution = onednn_convolution(cpu_state(c)->onednn, pass, shape);
    if (convolution == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "oneDNN cannot make this convolution");
    }
    return convolution;
}

/* What computes a convolution. */
enum way { BY_WINOGRAD, BY_NARROW_KERNEL, BY_PRODUCT, BY_ONEDNN };

static enum way way_of(const struct compute *c, const struct conv3d_shape *s, int of_weight_gradient)
{
    if (kernels_of(c)->winograd_fits(s)) {
        return BY_WINOGRAD;
    }
    if (s->kernel == 3 && kernels_of(c)->narrow_convolution_fits(s->in_channels, s->out_channels)) {
        return BY_NARROW_KERNEL;
    }
    return (of_weight_gradient ? has_small_grid_gradient(s) : is_small_grid(s)) ? BY_PRODUCT : BY_ONEDNN;
}

static void run(struct compute *c, enum convolution_pass pass, activation *result, const activation *first,
                const float *weight, const struct conv3d_shape *shape)
{
    struct convolution *convolution = convolution_of(c, pass, shape);
    if (convolution == NULL) {
        return;
    }
    void *scratch = cpu_scratch(c, convolution_scratch(convolution));
    if (scratch != NULL &&
        convolution_run(cpu_state(c)->onednn, convolution, result, first, weight, scratch) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "convolution");
    }
}

static void add_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                const activation *inp, const struct conv3d_shape *shape)
{
    struct convolution *convolution = convolution_of(c, CONVOLUTION_BACKWARD_WEIGHTS, shape);
    if (convolution == NULL) {
        return;
    }
    void *scratch = cpu_scratch(c, convolution_scratch(convolution));
    if (scratch != NULL && convolution_add_weight_gradient(cpu_state(c)->onednn, convolution, dweight, dout,
                                                           inp, scratch) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "weight gradient of a convolution");
    }
}

void cpu_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                        const float *bias, const struct conv3d_shape *shape)
{
    if (c->status != VOCO_OK || unsupported(c, shape)) {
        return;
    }
    use_threads(c);
    switch (way_of(c, shape, 0)) {
    case BY_WINOGRAD:
        kernels_of(c)->winograd_convolution(c, out, inp, weight, shape, 0);
        break;
    case BY_NARROW_KERNEL:
        kernels_of(c)->narrow_convolution(c, out, inp, weight, shape, 0);
        break;
    case BY_PRODUCT:
        small_grid_forward(c, out, inp, weight, shape);
        break;
    case BY_ONEDNN:
        run(c, CONVOLUTION_FORWARD, out, inp, weight, shape);
    }
    if (bias != NULL) {
        kernels_of(c)->add_bias(c, out, bias, output_rows(shape), shape->out_channels);
    }
}

static void input_gradient(struct compute *c, activation *dinp, const activation *dout, const float *weight,
                           const struct conv3d_shape *shape)
{
    switch (way_of(c, shape, 0)) {
    case BY_WINOGRAD:
        kernels_of(c)->winograd_convolution(c, dinp, dout, weight, shape, 1);
        break;
    case BY_NARROW_KERNEL:
        kernels_of(c)->narrow_convolution(c, dinp, dout, weight, shape, 1);
        break;
    case BY_PRODUCT:
        small_grid_input_gradient(c, dinp, dout, weight, shape);
        break;
    case BY_ONEDNN:
        run(c, CONVOLUTION_BACKWARD_DATA, dinp, dout, weight, shape);
    }
}

static void weight_gradient(struct compute *c, float *dweight, const activation *dout, const activation *inp,
                            const struct conv3d_shape *shape)
{
    switch (way_of(c, shape, 1)) {
    case BY_WINOGRAD:
        kernels_of(c)->winograd_gradient(c, dweight, dout, inp, shape);
        break;
    case BY_NARROW_KERNEL:
        kernels_of(c)->narrow_convolution_gradient(c, dweight, dout, inp, shape);
        break;
    case BY_PRODUCT:
        small_grid_weight_gradient(c, dweight, dout, inp, shape);
        break;
    case BY_ONEDNN:
        add_weight_gradient(c, dweight, dout, inp, shape);
    }
}

void cpu_conv3d_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                         const activation *dout, const activation *inp, const float *weight,
                         const struct conv3d_shape *shape)
{
    if (c->status != VOCO_OK || unsupported(c, shape)) {
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
