/* One of the projector's first two layers (voco.md section 2): relu(BN(Linear(inp))). BatchNorm is over the n
 * rows of the batch, without affine parameters and without running statistics. */
#ifndef NN_PROJECTOR_LAYER_H
#define NN_PROJECTOR_LAYER_H

#include "nn/layer.h"
#include "nn/linear.h"

struct projector_layer_activations {
    activation *linear; /* (n, out_features): before the norm */
    real *mean, *rstd;  /* (out_features) */
    activation *out;    /* (n, out_features): the layer's result */
};

void projector_layer_keep(const struct layer_run *run, const struct linear *linear, int n,
                          struct projector_layer_activations *kept);

/* kept->out from inp (n, in_features) */
void projector_layer_forward(const struct layer_run *run, const struct linear *linear, const activation *inp,
                             int n, const struct projector_layer_activations *kept);

/* dinp (n, in_features) is written; dout (n, out_features) is overwritten. */
void projector_layer_backward(const struct layer_run *run, const struct linear *linear, activation *dinp,
                              activation *dout, const activation *inp, int n,
                              const struct projector_layer_activations *kept);

#endif
