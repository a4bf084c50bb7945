#include "nn/projector_layer.h"

void projector_layer_keep(const struct layer_run *run, const struct linear *linear, int n,
                          struct projector_layer_activations *kept)
{
    const size_t features = (size_t)linear->out_features;
    kept->linear = push_activations(run, (size_t)n * features);
    kept->mean = push_reals(run, features);
    kept->rstd = push_reals(run, features);
    kept->out = push_activations(run, (size_t)n * features);
}

void projector_layer_forward(const struct layer_run *run, const struct linear *linear, const activation *inp,
                             int n, const struct projector_layer_activations *kept)
{
    struct compute *c = run->compute;
    if (!run->arena->exhausted) {
        linear_layer_forward(run, linear, kept->linear, inp, (size_t)n);
        c->instance_norm_forward(c, kept->out, kept->mean, kept->rstd, kept->linear, NULL, 0, 1, (size_t)n,
                                 linear->out_features);
    }
}

void projector_layer_backward(const struct layer_run *run, const struct linear *linear, activation *dinp,
                              activation *dout, const activation *inp, int n,
                              const struct projector_layer_activations *kept)
{
    struct compute *c = run->compute;
    if (!run->arena->exhausted) {
        c->instance_norm_backward(c, dout, NULL, dout, kept->out, kept->linear, kept->mean, kept->rstd, 0, 1,
                                  (size_t)n, linear->out_features);
        linear_layer_backward(run, linear, dinp, dout, inp, (size_t)n);
    }
}
