/* The LayerNorm of tokens, with what its backward pass takes, either kept from forward to backward or on the
 * arena while a pass needs it. */
#ifndef NN_NORMED_TOKENS_H
#define NN_NORMED_TOKENS_H

#include "nn/layer.h"

struct normed_tokens {
    activation *out;   /* (rows, channels); NULL: nothing is kept */
    real *mean, *rstd; /* (rows) */
};

/* To be kept where layers keep such things (keeps_passes), else nothing. */
struct normed_tokens keep_normed_tokens(const struct layer_run *run, size_t rows, int channels);

/* norm(inp), into `kept` or, where that is NULL or nothing, onto the arena. weight and bias may be NULL. */
struct normed_tokens norm_tokens(const struct layer_run *run, const struct normed_tokens *kept,
                                 const activation *inp, const real *weight, const real *bias, size_t rows,
                                 int channels);

/* What was kept, or the same made again. */
struct normed_tokens norm_tokens_again(const struct layer_run *run, const struct normed_tokens *kept,
                                       const activation *inp, const real *weight, const real *bias,
                                       size_t rows, int channels);

#endif
