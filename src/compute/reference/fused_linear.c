#include "compute/reference/operations.h"

void reference_linear_gelu_forward(struct compute *c, activation *out, activation *activated,
                                   const activation *inp, const real *weight, const real *bias, size_t rows,
                                   int in_features, int out_features)
{
    c->linear_forward(c, out, inp, weight, bias, rows, in_features, out_features);
    c->gelu_forward(c, activated, out, rows * (size_t)out_features);
}

void reference_linear_gelu_backward(struct compute *c, activation *dwide, real *dweight, real *dbias,
                                    const activation *dout, const activation *activated,
                                    const activation *wide, const real *weight, size_t rows, int in_features,
                                    int out_features)
{
    c->linear_backward(c, dwide, dweight, dbias, dout, activated, weight, rows, in_features, out_features);
    if (dwide != NULL) {
        c->gelu_backward(c, dwide, dwide, wide, rows * (size_t)in_features);
    }
}

void reference_linear_add_forward(struct compute *c, activation *out, const activation *inp,
                                  const real *weight, const real *bias, const activation *residual,
                                  size_t rows, int in_features, int out_features)
{
    c->linear_forward(c, out, inp, weight, bias, rows, in_features, out_features);
    c->add(c, out, out, residual, rows * (size_t)out_features);
}
