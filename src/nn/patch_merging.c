#include "nn/patch_merging.h"

struct token_grid merged_grid(const struct token_grid *grid)
{
    return (struct token_grid){grid->n, (grid->d + 1) / 2, (grid->h + 1) / 2, (grid->w + 1) / 2};
}

static size_t gathered_size(const struct patch_merging_layer *layer, size_t rows)
{
    return rows * 8 * (size_t)layer->channels;
}

void patch_merging_keep(const struct layer_run *run, const struct patch_merging_layer *layer,
                        const struct token_grid *grid, struct patch_merging_activations *kept)
{
    const struct token_grid merged = merged_grid(grid);
    const size_t rows = grid_rows(&merged);
    kept->gathered = keeps_passes(run) ? push_activations(run, gathered_size(layer, rows)) : NULL;
    kept->normed = keep_normed_tokens(run, rows, 8 * layer->channels);
}

/* What both passes compute before the linear layer, into what is kept or onto the arena. kept may be NULL. */
static struct patch_merging_activations gather_and_norm(const struct layer_run *run,
                                                        const struct patch_merging_layer *layer,
                                                        const activation *inp, const struct token_grid *grid,
                                                        const struct patch_merging_activations *kept)
{
    struct compute *c = run->compute;
    const struct token_grid merged = merged_grid(grid);
    const size_t rows = grid_rows(&merged);
    struct patch_merging_activations a = {NULL};
    if (kept != NULL) {
        a = *kept;
    }
    if (a.gathered == NULL) {
        a.gathered = push_activations(run, gathered_size(layer, rows));
    }
    if (!run->arena->exhausted) {
        c->patch_merge_forward(c, a.gathered, inp, layer->order, grid->n, grid->d, grid->h, grid->w,
                               layer->channels);
    }
    a.normed = norm_tokens(run, &a.normed, a.gathered, run->params + layer->norm_weight,
                           run->params + layer->norm_bias, rows, 8 * layer->channels);
    return a;
}

void patch_merging_forward(const struct layer_run *run, const struct patch_merging_layer *layer,
                           activation *out, const activation *inp, const struct token_grid *grid,
                           const struct patch_merging_activations *kept)
{
    struct compute *c = run->compute;
    const struct token_grid merged = merged_grid(grid);
    const struct arena_mark mark = arena_mark(run->arena);
    const struct patch_merging_activations a = gather_and_norm(run, layer, inp, grid, kept);
    if (!run->arena->exhausted) {
        c->linear_forward(c, out, a.normed.out, run->params + layer->reduction, NULL, grid_rows(&merged),
                          8 * layer->channels, 2 * layer->channels);
    }
    arena_release(run->arena, mark);
}

void patch_merging_backward(const struct layer_run *run, const struct patch_merging_layer *layer,
                            activation *dinp, const activation *dout, const activation *inp,
                            const struct token_grid *grid, const struct patch_merging_activations *kept)
{
    struct compute *c = run->compute;
    const struct token_grid merged = merged_grid(grid);
    const size_t rows = grid_rows(&merged);
    const int wide = 8 * layer->channels;
    const struct arena_mark mark = arena_mark(run->arena);
    const struct patch_merging_activations a =
        kept->gathered != NULL ? *kept : gather_and_norm(run, layer, inp, grid, kept);
    activation *dnormed = push_activations(run, gathered_size(layer, rows));
    if (!run->arena->exhausted) {
        c->linear_backward(c, dnormed, run->grads + layer->reduction, NULL, dout, a.normed.out,
                           run->params + layer->reduction, rows, wide, 2 * layer->channels);
        c->layer_norm_backward(c, dnormed, run->grads + layer->norm_weight, run->grads + layer->norm_bias,
                               dnormed, a.gathered, a.normed.mean, a.normed.rstd,
                               run->params + layer->norm_weight, NULL, rows, wide);
        c->patch_merge_backward(c, dinp, dnormed, layer->order, grid->n, grid->d, grid->h, grid->w,
                                layer->channels);
    }
    arena_release(run->arena, mark);
}
