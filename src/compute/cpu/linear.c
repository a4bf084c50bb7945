#include "compute/cpu/cpu_state.h"
#include "compute/cpu/onednn.h"

#include <string.h>

static void product(struct compute *c, float *out, const float *a, int transpose_a, const float *b,
                    int transpose_b, size_t m, size_t n, size_t k, float beta)
{
    if (onednn_product(out, a, transpose_a, b, transpose_b, m, n, k, beta) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "matrix product");
    }
}

static void forward_in_float(struct compute *c, float *out, const float *inp, const float *weight,
                             const float *bias, size_t rows, int in_features, int out_features)
{
    if (bias != NULL) {
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
        for (size_t row = 0; row < rows; row++) {
            memcpy(out + row * out_features, bias, out_features * sizeof(float));
        }
    }
    product(c, out, inp, 0, weight, 1, rows, out_features, in_features, bias != NULL);
}

static void backward_in_float(struct compute *c, float *dinp, float *dweight, const float *dout,
                              const float *inp, const float *weight, size_t rows, int in_features,
                              int out_features)
{
    if (dinp != NULL) {
        product(c, dinp, dout, 0, weight, 0, rows, in_features, out_features, 0);
    }
    if (dweight != NULL) {
        product(c, dweight, dout, 1, inp, 0, out_features, in_features, rows, 1);
    }
}

/* The layer as a convolution with a kernel of one voxel over a line of rows: faster than oneDNN's matrix
 * products in float and as fast as those in bf16, with weights in the order that it wants and sums over rows
 * that threads share. */
static struct conv3d_shape line_of(size_t rows, int in_features, int out_features)
{
    return (struct conv3d_shape){.n = 1,
                                 .d = 1,
                                 .h = 1,
                                 .w = (int)rows,
                                 .in_channels = in_features,
                                 .out_channels = out_features,
                                 .kernel = 1,
                                 .stride = 1};
}

/* Below, oneDNN's own order of the weight's gradient costs more than products in bf16 save. */
static const size_t least_rows = 32;
static const size_t least_kernel_rows = 512; /* for a kernel of our own, whose threads' sums are added up */

/* From so many rows on, weights in the order that a convolution wants save more in products of floats than
 * they cost when they are made: the rows of a projector are fewer. Gradients gain nothing by it. */
static const size_t least_float_rows = 64;

/* From so many rows and features on, kernels of our own for floats, where there are any: between fewer
 * features, what they do to get floats into tiles costs more than the tiles save. */
static const size_t least_own_float_rows = 64;
static const int least_own_features = 24;
static const int most_of_small_weight = 96 * 96; /* elements of a weight whose gradient is better by oneDNN */

static int may_have_own(const struct compute *c, size_t rows)
{
    return c->precision == PRECISION_FLOAT32 && rows >= least_own_float_rows &&
           kernels_of(c)->linear_forward != NULL;
}

static int has_own(const struct compute *c, size_t rows, int in_features, int out_features)
{
    return may_have_own(c, rows) && in_features >= least_own_features && out_features >= least_own_features;
}

static int has_own_gradient(const struct compute *c, size_t rows, int in_features, int out_features)
{
    return may_have_own(c, rows) && in_features * (long)out_features > most_of_small_weight;
}

/* Activations in bf16 by products in float. */
static void forward_through_floats(struct compute *c, activation *out, const activation *inp,
                                   const float *weight, const float *bias, size_t rows, int in_features,
                                   int out_features)
{
    float *x, *y;
    if (cpu_float_arrays(c, &x, rows * in_features, &y, rows * out_features)) {
        c->reals_from_activations(c, x, inp, rows * in_features);
        forward_in_float(c, y, x, weight, bias, rows, in_features, out_features);
        c->activations_from_reals(c, out, y, rows * out_features);
    }
}

static void backward_through_floats(struct compute *c, activation *dinp, float *dweight,
                                    const activation *dout, const activation *inp, const float *weight,
                                    size_t rows, int in_features, int out_features)
{
    float *x, *dy;
    if (!cpu_float_arrays(c, &x, rows * in_features, &dy, rows * out_features)) {
        return;
    }
    c->reals_from_activations(c, dy, dout, rows * out_features);
    if (dweight != NULL) {
        c->reals_from_activations(c, x, inp, rows * in_features);
        backward_in_float(c, NULL, dweight, dy, x, weight, rows, in_features, out_features);
    }
    if (dinp != NULL) {
        backward_in_float(c, x, NULL, dy, NULL, weight, rows, in_features, out_features);
        c->activations_from_reals(c, dinp, x, rows * in_features);
    }
}

void cpu_linear_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                        const float *bias, size_t rows, int in_features, int out_features)
{
    if (c->status != VOCO_OK) {
        return;
    }
    use_threads(c);
    const int in_float = c->precision == PRECISION_FLOAT32;
    if (has_own(c, rows, in_features, out_features)) {
        kernels_of(c)->linear_forward(c, out, inp, weight, bias, rows, in_features, out_features);
    } else if (in_float && rows < least_float_rows) {
        forward_in_float(c, (float *)out, (const float *)inp, weight, bias, rows, in_features, out_features);
    } else if (in_float || c->multiplies_bf16) {
        const struct conv3d_shape shape = line_of(rows, in_features, out_features);
        convolution_forward(c, out, inp, weight, bias, &shape);
    } else {
        forward_through_floats(c, out, inp, weight, bias, rows, in_features, out_features);
    }
}

static void input_gradient_of_floats(struct compute *c, activation *dinp, const activation *dout,
                                     const float *weight, size_t rows, int in_features, int out_features)
{
    if (dinp != NULL && has_own(c, rows, in_features, out_features)) {
        kernels_of(c)->linear_input_gradient(c, dinp, dout, weight, rows, in_features, out_features);
    } else {
        backward_in_float(c, (float *)dinp, NULL, (const float *)dout, NULL, weight, rows, in_features,
                          out_features);
    }
}

static void weight_gradient_of_floats(struct compute *c, float *dweight, const activation *dout,
                                      const activation *inp, size_t rows, int in_features, int out_features)
{
    if (dweight != NULL && has_own_gradient(c, rows, in_features, out_features)) {
        kernels_of(c)->linear_weight_gradient(c, dweight, dout, inp, rows, in_features, out_features);
    } else {
        backward_in_float(c, NULL, dweight, (const float *)dout, (const float *)inp, NULL, rows, in_features,
                          out_features);
    }
}

void cpu_linear_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                         const activation *dout, const activation *inp, const float *weight, size_t rows,
                         int in_features, int out_features)
{
    if (c->status != VOCO_OK) {
        return;
    }
    use_threads(c);
    if (c->precision == PRECISION_FLOAT32) {
        input_gradient_of_floats(c, dinp, dout, weight, rows, in_features, out_features);
        weight_gradient_of_floats(c, dweight, dout, inp, rows, in_features, out_features);
    } else if (c->multiplies_bf16) {
        const struct conv3d_shape shape = line_of(rows, in_features, out_features);
        if (dinp != NULL) {
            convolution_input_gradient(c, dinp, dout, weight, &shape);
        }
        if (dweight != NULL && rows >= least_kernel_rows && kernels_of(c)->linear_weight_gradient != NULL) {
            kernels_of(c)->linear_weight_gradient(c, dweight, dout, inp, rows, in_features, out_features);
        } else if (dweight != NULL && rows >= least_rows) {
            convolution_weight_gradient(c, dweight, dout, inp, &shape);
        } else if (dweight != NULL) {
            backward_through_floats(c, NULL, dweight, dout, inp, weight, rows, in_features, out_features);
        }
    } else {
        backward_through_floats(c, dinp, dweight, dout, inp, weight, rows, in_features, out_features);
    }
    if (dbias != NULL) {
        kernels_of(c)->add_row_sums(c, dbias, dout, rows, out_features);
    }
}
