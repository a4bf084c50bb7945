#include "nn/patch_merging.h"

struct token_grid merged_grid(const struct token_grid *grid)
{
    return (struct token_grid){grid->n, (grid->d + 1) / 2, (grid->h + 1) / 2, (grid->w + 1) / 2};
}

/* What both passes compute before the linear layer. */
struct merged_tokens {
    activation *gathered, *normed; /* (merged rows, 8 C) */
    real *mean, *rstd;             /* (merged rows) */
};

static struct merged_tokens push_merged_tokens(const struct layer_run *run,
                                               const struct patch_merging_layer *layer, size_t rows)
{
    struct merged_tokens m;
    m.gathered = push_activations(run, rows * 8 * (size_t)layer->channels);
    m.normed = push_activations(run, rows * 8 * (size_t)layer->channels);
    m.mean = push_reals(run, rows);
    m.rstd = push_reals(run, rows);
    return m;
}

static void gather_and_norm(const struct layer_run *run, const struct patch_merging_layer *layer,
                            const struct merged_tokens *m, const activation *inp,
                            const struct token_grid *grid, size_t rows)
{
    struct compute *c = run->compute;
    c->patch_merge_forward(c, m->gathered, inp, layer->order, grid->n, grid->d, grid->h, grid->w,
                           layer->channels);
    c->layer_norm_forward(c, m->normed, m->mean, m->rstd, m->gathered, run->params + layer->norm_weight,
                          run->params + layer->norm_bias, rows, 8 * layer->channels);
}

void patch_merging_forward(const struct layer_run *run, const struct patch_merging_layer *layer,
                           activation *out, const activation *inp, const struct token_grid *grid)
{
    struct compute *c = run->compute;
    const struct token_grid merged = merged_grid(grid);
    const size_t rows = grid_rows(&merged);
    const struct arena_mark mark = arena_mark(run->arena);
    const struct merged_tokens m = push_merged_tokens(run, layer, rows);
    if (!run->arena->exhausted) {
        gather_and_norm(run, layer, &m, inp, grid, rows);
        c->linear_forward(c, out, m.normed, run->params + layer->reduction, NULL, rows, 8 * layer->channels,
                          2 * layer->channels);
    }
    arena_release(run->arena, mark);
}

void patch_merging_backward(const struct layer_run *run, const struct patch_merging_layer *layer,
                            activation *dinp, const activation *dout, const activation *inp,
                            const struct token_grid *grid)
{
    struct compute *c = run->compute;
    const struct token_grid merged = merged_grid(grid);
    const size_t rows = grid_rows(&merged);
    const int wide = 8 * layer->channels;
    const struct arena_mark mark = arena_mark(run->arena);
    const struct merged_tokens m = push_merged_tokens(run, layer, rows);
    activation *dnormed = push_activations(run, rows * (size_t)wide);
    if (!run->arena->exhausted) {
        gather_and_norm(run, layer, &m, inp, grid, rows);
        c->linear_backward(c, dnormed, run->grads + layer->reduction, NULL, dout, m.normed,
                           run->params + layer->reduction, rows, wide, 2 * layer->channels);
        c->layer_norm_backward(c, dnormed, run->grads + layer->norm_weight, run->grads + layer->norm_bias,
                               dnormed, m.gathered, m.mean, m.rstd, run->params + layer->norm_weight, NULL,
                               rows, wide);
        c->patch_merge_backward(c, dinp, dnormed, layer->order, grid->n, grid->d, grid->h, grid->w,
                                layer->channels);
    }
    arena_release(run->arena, mark);
}
