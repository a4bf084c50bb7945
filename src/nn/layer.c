#include "nn/layer.h"

struct token_grid token_cube(int n, int side)
{
    return (struct token_grid){n, side, side, side};
}

size_t grid_space(const struct token_grid *grid)
{
    return (size_t)grid->d * (size_t)grid->h * (size_t)grid->w;
}

size_t grid_rows(const struct token_grid *grid)
{
    return (size_t)grid->n * grid_space(grid);
}

int keeps_passes(const struct layer_run *run)
{
    return run->compute->separate_memory;
}

activation *push_activations(const struct layer_run *run, size_t count)
{
    return arena_push(run->arena, count * run->compute->activation_size);
}

real *push_reals(const struct layer_run *run, size_t count)
{
    return arena_push(run->arena, count * sizeof(real));
}
