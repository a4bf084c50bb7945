/* A linear layer with bias, as the other layers hold it: out (rows, out_features) = inp weight^T + bias. */
#ifndef NN_LINEAR_H
#define NN_LINEAR_H

#include "nn/layer.h"

struct linear {
    int in_features, out_features;
    size_t weight, bias;
};

void linear_layer_forward(const struct layer_run *run, const struct linear *linear, activation *out,
                          const activation *inp, size_t rows);

/* dinp may be NULL. */
void linear_layer_backward(const struct layer_run *run, const struct linear *linear, activation *dinp,
                           const activation *dout, const activation *inp, size_t rows);

/* out = linear(inp), activated = GELU(out) */
void linear_layer_gelu_forward(const struct layer_run *run, const struct linear *linear, activation *out,
                               activation *activated, const activation *inp, size_t rows);

/* Of a layer whose input is activated = GELU(wide): dwide is the gradient of wide. */
void linear_layer_gelu_backward(const struct layer_run *run, const struct linear *linear, activation *dwide,
                                const activation *dout, const activation *activated, const activation *wide,
                                size_t rows);

/* out = linear(inp) + residual */
void linear_layer_add_forward(const struct layer_run *run, const struct linear *linear, activation *out,
                              const activation *inp, const activation *residual, size_t rows);

#endif
