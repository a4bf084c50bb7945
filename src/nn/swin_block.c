#include "nn/swin_block.h"

static struct attention_shape attention_shape_of(const struct swin_block *block,
                                                 const struct token_grid *grid)
{
    struct attention_shape shape = {.n = grid->n,
                                    .d = grid->d,
                                    .h = grid->h,
                                    .w = grid->w,
                                    .heads = block->heads,
                                    .head_dim = block->channels / block->heads};
    const int tokens[3] = {grid->d, grid->h, grid->w};
    for (int axis = 0; axis < 3; axis++) {
        attention_window_of_axis(tokens[axis], block->odd, &shape.window[axis], &shape.shift[axis]);
    }
    return shape;
}

/* In place; residual is added. */
static void norm_backward(const struct layer_run *run, activation *gradient, const activation *inp,
                          const activation *residual, const struct normed_tokens *normed, size_t weight,
                          size_t bias, size_t rows, int channels)
{
    run->compute->layer_norm_backward(run->compute, gradient, run->grads + weight, run->grads + bias,
                                      gradient, inp, normed->mean, normed->rstd, run->params + weight,
                                      residual, rows, channels);
}

/* Whether the implementation fuses the MLP: then it needs nothing but x1. */
static int is_one_operation(const struct layer_run *run, const struct swin_block *block)
{
    struct compute *c = run->compute;
    return c->mlp_forward != NULL && c->mlp_fits(c, block->channels, 4 * block->channels);
}

/* Whether it fuses the norm with what makes queries, keys and values. */
static int norms_within_qkv(const struct layer_run *run, const struct swin_block *block)
{
    struct compute *c = run->compute;
    return c->normed_linear_forward != NULL && c->normed_linear_fits(c, block->channels, 3 * block->channels);
}

static struct normed_linear normed_qkv_of(const struct layer_run *run, const struct swin_block *block)
{
    return (struct normed_linear){.in_features = block->channels,
                                  .out_features = 3 * block->channels,
                                  .norm_weight = run->params + block->norm1_weight,
                                  .norm_bias = run->params + block->norm1_bias,
                                  .weight = run->params + block->qkv.weight,
                                  .bias = run->params + block->qkv.bias};
}

static struct mlp mlp_of(const struct layer_run *run, const struct swin_block *block)
{
    return (struct mlp){.channels = block->channels,
                        .hidden = 4 * block->channels,
                        .norm_weight = run->params + block->norm2_weight,
                        .norm_bias = run->params + block->norm2_bias,
                        .weight1 = run->params + block->linear1.weight,
                        .bias1 = run->params + block->linear1.bias,
                        .weight2 = run->params + block->linear2.weight,
                        .bias2 = run->params + block->linear2.bias};
}

static struct mlp_gradients mlp_gradients_of(const struct layer_run *run, const struct swin_block *block)
{
    return (struct mlp_gradients){.norm_weight = run->grads + block->norm2_weight,
                                  .norm_bias = run->grads + block->norm2_bias,
                                  .weight1 = run->grads + block->linear1.weight,
                                  .bias1 = run->grads + block->linear1.bias,
                                  .weight2 = run->grads + block->linear2.weight,
                                  .bias2 = run->grads + block->linear2.bias};
}

void swin_block_keep(const struct layer_run *run, const struct swin_block *block,
                     const struct token_grid *grid, struct swin_block_activations *kept)
{
    const size_t rows = grid_rows(grid);
    const size_t size = rows * (size_t)block->channels;
    *kept = (struct swin_block_activations){.norm1 = {NULL}};
    kept->qkv = push_activations(run, 3 * size);
    kept->attended = push_activations(run, size);
    kept->logsumexp = push_reals(run, rows * (size_t)block->heads);
    kept->x1 = push_activations(run, size);
    if (!norms_within_qkv(run, block)) {
        kept->norm1 = keep_normed_tokens(run, rows, block->channels);
    }
    if (!is_one_operation(run, block)) {
        kept->norm2 = keep_normed_tokens(run, rows, block->channels);
        kept->wide = push_activations(run, 4 * size);
        kept->activated = keeps_passes(run) ? push_activations(run, 4 * size) : NULL;
    }
}

/* a->qkv = qkv(LN1(inp)) */
static void qkv_forward(const struct layer_run *run, const struct swin_block *block, const activation *inp,
                        size_t rows, const struct swin_block_activations *a)
{
    if (norms_within_qkv(run, block)) {
        const struct normed_linear layer = normed_qkv_of(run, block);
        if (!run->arena->exhausted) {
            run->compute->normed_linear_forward(run->compute, a->qkv, inp, &layer, rows);
        }
        return;
    }
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens normed = norm_tokens(run, &a->norm1, inp, run->params + block->norm1_weight,
                                                    run->params + block->norm1_bias, rows, block->channels);
    linear_layer_forward(run, &block->qkv, a->qkv, normed.out, rows);
    arena_release(run->arena, mark);
}

/* dinp: the gradient of inp through qkv(LN1(inp)), + dx1. */
static void qkv_backward(const struct layer_run *run, const struct swin_block *block, activation *dinp,
                         const activation *dqkv, const activation *inp, const activation *dx1, size_t rows,
                         const struct swin_block_activations *a)
{
    if (norms_within_qkv(run, block)) {
        const struct normed_linear layer = normed_qkv_of(run, block);
        const struct normed_linear_gradients gradients = {.norm_weight = run->grads + block->norm1_weight,
                                                          .norm_bias = run->grads + block->norm1_bias,
                                                          .weight = run->grads + block->qkv.weight,
                                                          .bias = run->grads + block->qkv.bias};
        run->compute->normed_linear_backward(run->compute, dinp, &gradients, dqkv, inp, dx1, &layer, rows);
        return;
    }
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens normed =
        norm_tokens_again(run, &a->norm1, inp, run->params + block->norm1_weight,
                          run->params + block->norm1_bias, rows, block->channels);
    if (!run->arena->exhausted) {
        linear_layer_backward(run, &block->qkv, dinp, dqkv, normed.out, rows);
        norm_backward(run, dinp, inp, dx1, &normed, block->norm1_weight, block->norm1_bias, rows,
                      block->channels);
    }
    arena_release(run->arena, mark);
}

/* x1 = inp + proj(attention(qkv(LN1(inp)))) */
static void attention_half_forward(const struct layer_run *run, const struct swin_block *block,
                                   const activation *inp, const struct token_grid *grid,
                                   const struct swin_block_activations *a)
{
    struct compute *c = run->compute;
    const size_t rows = grid_rows(grid);
    const struct attention_shape shape = attention_shape_of(block, grid);
    qkv_forward(run, block, inp, rows, a);
    if (!run->arena->exhausted) {
        c->window_attention_forward(c, a->attended, a->logsumexp, a->qkv, run->params + block->qkv.bias,
                                    run->params + block->bias_table, &shape);
        linear_layer_add_forward(run, &block->proj, a->x1, a->attended, inp, rows);
    }
}

static void mlp_step_by_step_forward(const struct layer_run *run, const struct swin_block *block,
                                     activation *out, const struct token_grid *grid,
                                     const struct swin_block_activations *a)
{
    const size_t rows = grid_rows(grid);
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens normed = norm_tokens(run, &a->norm2, a->x1, run->params + block->norm2_weight,
                                                    run->params + block->norm2_bias, rows, block->channels);
    activation *activated =
        a->activated != NULL ? a->activated : push_activations(run, 4 * rows * (size_t)block->channels);
    if (!run->arena->exhausted) {
        linear_layer_gelu_forward(run, &block->linear1, a->wide, activated, normed.out, rows);
        linear_layer_add_forward(run, &block->linear2, out, activated, a->x1, rows);
    }
    arena_release(run->arena, mark);
}

/* out = x1 + linear2(GELU(linear1(LN2(x1)))) */
static void mlp_half_forward(const struct layer_run *run, const struct swin_block *block, activation *out,
                             const struct token_grid *grid, const struct swin_block_activations *a)
{
    if (!is_one_operation(run, block)) {
        mlp_step_by_step_forward(run, block, out, grid, a);
    } else if (!run->arena->exhausted) {
        const struct mlp mlp = mlp_of(run, block);
        run->compute->mlp_forward(run->compute, out, a->x1, &mlp, grid_rows(grid));
    }
}

void swin_block_forward(const struct layer_run *run, const struct swin_block *block, activation *out,
                        const activation *inp, const struct token_grid *grid,
                        const struct swin_block_activations *kept)
{
    const struct arena_mark mark = arena_mark(run->arena);
    struct swin_block_activations a;
    if (kept != NULL) {
        a = *kept;
    } else {
        swin_block_keep(run, block, grid, &a);
    }
    attention_half_forward(run, block, inp, grid, &a);
    mlp_half_forward(run, block, out, grid, &a);
    arena_release(run->arena, mark);
}

/* What was kept, or the same on the arena. */
static const activation *activated_again(const struct layer_run *run, const struct swin_block_activations *a,
                                         size_t count)
{
    activation *activated = a->activated != NULL ? a->activated : push_activations(run, count);
    if (a->activated == NULL && !run->arena->exhausted) {
        run->compute->gelu_forward(run->compute, activated, a->wide, count);
    }
    return activated;
}

static void mlp_step_by_step_backward(const struct layer_run *run, const struct swin_block *block,
                                      activation *dx1, const activation *dout, const struct token_grid *grid,
                                      const struct swin_block_activations *a)
{
    const size_t rows = grid_rows(grid);
    const size_t size = rows * (size_t)block->channels;
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens normed =
        norm_tokens_again(run, &a->norm2, a->x1, run->params + block->norm2_weight,
                          run->params + block->norm2_bias, rows, block->channels);
    const activation *activated = activated_again(run, a, 4 * size);
    activation *dwide = push_activations(run, 4 * size);
    if (!run->arena->exhausted) {
        linear_layer_gelu_backward(run, &block->linear2, dwide, dout, activated, a->wide, rows);
        linear_layer_backward(run, &block->linear1, dx1, dwide, normed.out, rows);
        norm_backward(run, dx1, a->x1, dout, &normed, block->norm2_weight, block->norm2_bias, rows,
                      block->channels);
    }
    arena_release(run->arena, mark);
}

/* dx1 is written: the gradient of x1, from the MLP and past it. */
static void mlp_half_backward(const struct layer_run *run, const struct swin_block *block, activation *dx1,
                              const activation *dout, const struct token_grid *grid,
                              const struct swin_block_activations *a)
{
    if (!is_one_operation(run, block)) {
        mlp_step_by_step_backward(run, block, dx1, dout, grid, a);
    } else if (!run->arena->exhausted) {
        const struct mlp mlp = mlp_of(run, block);
        const struct mlp_gradients gradients = mlp_gradients_of(run, block);
        run->compute->mlp_backward(run->compute, dx1, &gradients, dout, a->x1, &mlp, grid_rows(grid));
    }
}

static void attention_half_backward(const struct layer_run *run, const struct swin_block *block,
                                    activation *dinp, const activation *dx1, const activation *inp,
                                    const struct token_grid *grid, const struct swin_block_activations *a)
{
    struct compute *c = run->compute;
    const size_t rows = grid_rows(grid);
    const size_t size = rows * (size_t)block->channels;
    const struct attention_shape shape = attention_shape_of(block, grid);
    const struct arena_mark mark = arena_mark(run->arena);
    activation *dattended = push_activations(run, size);
    activation *dqkv = push_activations(run, 3 * size);
    if (!run->arena->exhausted) {
        linear_layer_backward(run, &block->proj, dattended, dx1, a->attended, rows);
        c->window_attention_backward(c, dqkv, run->grads + block->qkv.bias, run->grads + block->bias_table,
                                     dattended, a->attended, a->logsumexp, a->qkv,
                                     run->params + block->qkv.bias, run->params + block->bias_table, &shape);
        qkv_backward(run, block, dinp, dqkv, inp, dx1, rows, a);
    }
    arena_release(run->arena, mark);
}

void swin_block_backward(const struct layer_run *run, const struct swin_block *block, activation *dinp,
                         const activation *dout, const activation *inp, const struct token_grid *grid,
                         const struct swin_block_activations *kept)
{
    const struct arena_mark mark = arena_mark(run->arena);
    activation *dx1 = push_activations(run, grid_rows(grid) * (size_t)block->channels);
    mlp_half_backward(run, block, dx1, dout, grid, kept);
    attention_half_backward(run, block, dinp, dx1, inp, grid, kept);
    arena_release(run->arena, mark);
}
