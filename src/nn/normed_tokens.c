#include "nn/normed_tokens.h"

static struct normed_tokens push_normed_tokens(const struct layer_run *run, size_t rows, int channels)
{
    struct normed_tokens normed;
    normed.out = push_activations(run, rows * (size_t)channels);
    normed.mean = push_reals(run, rows);
    normed.rstd = push_reals(run, rows);
    return normed;
}

struct normed_tokens keep_normed_tokens(const struct layer_run *run, size_t rows, int channels)
{
    return keeps_passes(run) ? push_normed_tokens(run, rows, channels) : (struct normed_tokens){NULL};
}

static int is_kept(const struct normed_tokens *kept)
{
    return kept != NULL && kept->out != NULL;
}

struct normed_tokens norm_tokens(const struct layer_run *run, const struct normed_tokens *kept,
                                 const activation *inp, const real *weight, const real *bias, size_t rows,
                                 int channels)
{
    const struct normed_tokens normed = is_kept(kept) ? *kept : push_normed_tokens(run, rows, channels);
    if (!run->arena->exhausted) {
        run->compute->layer_norm_forward(run->compute, normed.out, normed.mean, normed.rstd, inp, weight,
                                         bias, rows, channels);
    }
    return normed;
}

struct normed_tokens norm_tokens_again(const struct layer_run *run, const struct normed_tokens *kept,
                                       const activation *inp, const real *weight, const real *bias,
                                       size_t rows, int channels)
{
    return is_kept(kept) ? *kept : norm_tokens(run, kept, inp, weight, bias, rows, channels);
}
