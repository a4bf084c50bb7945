#include "nn/hidden_norm.h"

void hidden_norm_forward(const struct layer_run *run, activation *out, const activation *inp, int channels,
                         const struct token_grid *grid)
{
    const size_t rows = grid_rows(grid);
    const struct arena_mark mark = arena_mark(run->arena);
    real *mean = push_reals(run, rows);
    real *rstd = push_reals(run, rows);
    if (!run->arena->exhausted) {
        run->compute->layer_norm_forward(run->compute, out, mean, rstd, inp, NULL, NULL, rows, channels);
    }
    arena_release(run->arena, mark);
}

void hidden_norm_backward(const struct layer_run *run, activation *dinp, const activation *dout,
                          const activation *inp, const activation *residual, int channels,
                          const struct token_grid *grid)
{
    struct compute *c = run->compute;
    const size_t rows = grid_rows(grid);
    const struct arena_mark mark = arena_mark(run->arena);
    real *mean = push_reals(run, rows);
    real *rstd = push_reals(run, rows);
    activation *normed = push_activations(run, rows * (size_t)channels);
    if (!run->arena->exhausted) {
        c->layer_norm_forward(c, normed, mean, rstd, inp, NULL, NULL, rows, channels);
        c->layer_norm_backward(c, dinp, NULL, NULL, dout, inp, mean, rstd, NULL, residual, rows, channels);
    }
    arena_release(run->arena, mark);
}
