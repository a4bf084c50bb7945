#include "compute/reference/operations.h"

#include <stdlib.h>

void reference_linear_forward(struct compute *c, activation *out, const activation *inp, const real *weight,
                              const real *bias, size_t rows, int in_features, int out_features)
{
    if (c->status != VOCO_OK) {
        return;
    }
    double *transposed = zeroed_doubles(c, (size_t)in_features * out_features); /* (in, out) */
    double *sum = zeroed_doubles(c, out_features);
    if (transposed == NULL || sum == NULL) {
        goto done;
    }
    for (int o = 0; o < out_features; o++) {
        for (int i = 0; i < in_features; i++) {
            transposed[(size_t)i * out_features + o] = weight[(size_t)o * in_features + i];
        }
    }
    for (size_t row = 0; row < rows; row++) {
        for (int o = 0; o < out_features; o++) {
            sum[o] = bias != NULL ? bias[o] : 0;
        }
        for (int i = 0; i < in_features; i++) {
            const double x = inp[row * in_features + i].value;
            for (int o = 0; o < out_features; o++) {
                sum[o] += x * transposed[(size_t)i * out_features + o];
            }
        }
        for (int o = 0; o < out_features; o++) {
            out[row * out_features + o].value = (real)sum[o];
        }
    }
done:
    free(sum);
    free(transposed);
}

static void input_gradient(struct compute *c, activation *dinp, const activation *dout, const real *weight,
                           size_t rows, int in_features, int out_features)
{
    double *sum = zeroed_doubles(c, in_features);
    if (sum == NULL) {
        return;
    }
    for (size_t row = 0; row < rows; row++) {
        for (int i = 0; i < in_features; i++) {
            sum[i] = 0;
        }
        for (int o = 0; o < out_features; o++) {
            const double dy = dout[row * out_features + o].value;
            for (int i = 0; i < in_features; i++) {
                sum[i] += dy * weight[(size_t)o * in_features + i];
            }
        }
        for (int i = 0; i < in_features; i++) {
            dinp[row * in_features + i].value = (real)sum[i];
        }
    }
    free(sum);
}

static void weight_gradient(struct compute *c, real *dweight, const activation *dout, const activation *inp,
                            size_t rows, int in_features, int out_features)
{
    const size_t count = (size_t)in_features * out_features;
    double *sum = zeroed_doubles(c, count);
    if (sum == NULL) {
        return;
    }
    for (size_t row = 0; row < rows; row++) {
        for (int o = 0; o < out_features; o++) {
            const double dy = dout[row * out_features + o].value;
            for (int i = 0; i < in_features; i++) {
                sum[(size_t)o * in_features + i] += dy * inp[row * in_features + i].value;
            }
        }
    }
    for (size_t k = 0; k < count; k++) {
        dweight[k] += (real)sum[k];
    }
    free(sum);
}

static void bias_gradient(struct compute *c, real *dbias, const activation *dout, size_t rows,
                          int out_features)
{
    double *sum = zeroed_doubles(c, out_features);
    if (sum == NULL) {
        return;
    }
    for (size_t row = 0; row < rows; row++) {
        for (int o = 0; o < out_features; o++) {
            sum[o] += dout[row * out_features + o].value;
        }
    }
    for (int o = 0; o < out_features; o++) {
        dbias[o] += (real)sum[o];
    }
    free(sum);
}

void reference_linear_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                               const activation *dout, const activation *inp, const real *weight, size_t rows,
                               int in_features, int out_features)
{
    if (c->status != VOCO_OK) {
        return;
    }
    if (dinp != NULL) {
        input_gradient(c, dinp, dout, weight, rows, in_features, out_features);
    }
    if (dweight != NULL) {
        weight_gradient(c, dweight, dout, inp, rows, in_features, out_features);
    }
    if (dbias != NULL) {
        bias_gradient(c, dbias, dout, rows, out_features);
    }
}
