#include "nn/hidden_norm.h"

struct normed_tokens hidden_norm_forward(const struct layer_run *run, const activation *inp, int channels,
                                         const struct token_grid *grid, const struct normed_tokens *kept)
{
    return norm_tokens(run, kept, inp, NULL, NULL, grid_rows(grid), channels);
}

struct normed_tokens hidden_norm_again(const struct layer_run *run, const activation *inp, int channels,
                                       const struct token_grid *grid, const struct normed_tokens *kept)
{
    return norm_tokens_again(run, kept, inp, NULL, NULL, grid_rows(grid), channels);
}

void hidden_norm_backward(const struct layer_run *run, activation *dinp, const activation *dout,
                          const activation *inp, const struct normed_tokens *normed,
                          const activation *residual, int channels, const struct token_grid *grid)
{
    if (!run->arena->exhausted) {
        run->compute->layer_norm_backward(run->compute, dinp, NULL, NULL, dout, inp, normed->mean,
                                          normed->rstd, NULL, residual, grid_rows(grid), channels);
    }
}
