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

#endif
