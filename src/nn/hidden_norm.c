#include "nn/hidden_norm.h"

void hidden_norm_forward(const struct layer_run *run, activation *out, real *mean, real *rstd,
                         const activation *inp, int channels, const struct token_grid *grid)
{
    if (!run->arena->exhausted) {
        run->compute->layer_norm_forward(run->compute, out, mean, rstd, inp, NULL, NULL, grid_rows(grid),
                                         channels);
    }
}

void hidden_norm_backward(const struct layer_run *run, activation *dinp, const activation *dout,
                          const activation *inp, const real *mean, const real *rstd,
                          const activation *residual, int channels, const struct token_grid *grid)
{
    if (!run->arena->exhausted) {
        run->compute->layer_norm_backward(run->compute, dinp, NULL, NULL, dout, inp, mean, rstd, NULL,
                                          residual, grid_rows(grid), channels);
    }
}
