#include "nn/linear.h"

void linear_layer_forward(const struct layer_run *run, const struct linear *linear, activation *out,
                          const activation *inp, size_t rows)
{
    if (!run->arena->exhausted) {
        run->compute->linear_forward(run->compute, out, inp, run->params + linear->weight,
                                     run->params + linear->bias, rows, linear->in_features,
                                     linear->out_features);
    }
}

void linear_layer_backward(const struct layer_run *run, const struct linear *linear, activation *dinp,
                           const activation *dout, const activation *inp, size_t rows)
{
    if (!run->arena->exhausted) {
        run->compute->linear_backward(run->compute, dinp, run->grads + linear->weight,
                                      run->grads + linear->bias, dout, inp, run->params + linear->weight,
                                      rows, linear->in_features, linear->out_features);
    }
}

void linear_layer_gelu_forward(const struct layer_run *run, const struct linear *linear, activation *out,
                               activation *activated, const activation *inp, size_t rows)
{
    if (!run->arena->exhausted) {
        run->compute->linear_gelu_forward(run->compute, out, activated, inp, run->params + linear->weight,
                                          run->params + linear->bias, rows, linear->in_features,
                                          linear->out_features);
    }
}

void linear_layer_gelu_backward(const struct layer_run *run, const struct linear *linear, activation *dwide,
                                const activation *dout, const activation *activated, const activation *wide,
                                size_t rows)
{
    if (!run->arena->exhausted) {
        run->compute->linear_gelu_backward(
            run->compute, dwide, run->grads + linear->weight, run->grads + linear->bias, dout, activated,
            wide, run->params + linear->weight, rows, linear->in_features, linear->out_features);
    }
}

void linear_layer_add_forward(const struct layer_run *run, const struct linear *linear, activation *out,
                              const activation *inp, const activation *residual, size_t rows)
{
    if (!run->arena->exhausted) {
        run->compute->linear_add_forward(run->compute, out, inp, run->params + linear->weight,
                                         run->params + linear->bias, residual, rows, linear->in_features,
                                         linear->out_features);
    }
}
