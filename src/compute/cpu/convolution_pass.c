#include "compute/cpu/cpu_state.h"
#include "compute/cpu/onednn.h"

static struct convolution *convolution_of(struct compute *c, enum convolution_pass pass,
                                          const struct conv3d_shape *shape, int with_bias)
{
    struct convolution *convolution =
        onednn_convolution(cpu_state(c)->onednn, pass, shape, c->precision, with_bias);
    if (convolution == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "oneDNN cannot make this convolution");
    }
    return convolution;
}

static void run(struct compute *c, enum convolution_pass pass, activation *result, const activation *first,
                const float *weight, const float *bias, const struct conv3d_shape *shape)
{
    struct convolution *convolution = convolution_of(c, pass, shape, bias != NULL);
    if (convolution == NULL) {
        return;
    }
    void *scratch = cpu_scratch(c, convolution_scratch(convolution));
    if (scratch != NULL &&
        convolution_run(cpu_state(c)->onednn, convolution, result, first, weight, bias, scratch) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "convolution");
    }
}

void convolution_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                         const float *bias, const struct conv3d_shape *shape)
{
    run(c, CONVOLUTION_FORWARD, out, inp, weight, bias, shape);
}

void convolution_input_gradient(struct compute *c, activation *dinp, const activation *dout,
                                const float *weight, const struct conv3d_shape *shape)
{
    run(c, CONVOLUTION_BACKWARD_DATA, dinp, dout, weight, NULL, shape);
}

void convolution_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                 const activation *inp, const struct conv3d_shape *shape)
{
    struct convolution *convolution = convolution_of(c, CONVOLUTION_BACKWARD_WEIGHTS, shape, 0);
    if (convolution == NULL) {
        return;
    }
    void *scratch = cpu_scratch(c, convolution_scratch(convolution));
    if (scratch != NULL && convolution_add_weight_gradient(cpu_state(c)->onednn, convolution, dweight, dout,
                                                           inp, scratch) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "weight gradient of a convolution");
    }
}
