#include "nn/residual_block.h"

static const real slope = (real)0.01;
static const real no_activation = 1;

static int has_conv3(const struct residual_block *block)
{
    return block->in_channels != block->out_channels;
}

static struct conv3d_shape conv_shape(const struct token_grid *grid, int in_channels, int out_channels,
                                      int kernel)
{
    return (struct conv3d_shape){.n = grid->n,
                                 .d = grid->d,
                                 .h = grid->h,
                                 .w = grid->w,
                                 .in_channels = in_channels,
                                 .out_channels = out_channels,
                                 .kernel = kernel,
                                 .stride = 1};
}

static void conv_forward(const struct layer_run *run, activation *out, const activation *inp, size_t weight,
                         const struct conv3d_shape *shape)
{
    run->compute->conv3d_forward(run->compute, out, inp, run->params + weight, NULL, shape);
}

static void conv_backward(const struct layer_run *run, activation *dinp, const activation *dout,
                          const activation *inp, size_t weight, const struct conv3d_shape *shape)
{
    run->compute->conv3d_backward(run->compute, dinp, run->grads + weight, NULL, dout, inp,
                                  run->params + weight, shape);
}

static void norm_forward(const struct layer_run *run, activation *out, real *mean, real *rstd,
                         const activation *inp, const activation *residual, real act_slope,
                         const struct token_grid *grid, int channels)
{
    run->compute->instance_norm_forward(run->compute, out, mean, rstd, inp, residual, act_slope, grid->n,
                                        grid_space(grid), channels);
}

void residual_block_keep(const struct layer_run *run, const struct residual_block *block,
                         const struct token_grid *grid, struct residual_block_activations *kept)
{
    const size_t size = grid_rows(grid) * (size_t)block->out_channels;
    const size_t moments = (size_t)grid->n * (size_t)block->out_channels;
    kept->conv1 = push_activations(run, size);
    kept->mean1 = push_reals(run, moments);
    kept->rstd1 = push_reals(run, moments);
    kept->conv2 = push_activations(run, size);
    kept->mean2 = push_reals(run, moments);
    kept->rstd2 = push_reals(run, moments);
}

/* As residual_block_keep, for a pass that keeps nothing: conv2 may take conv1's place. */
static struct residual_block_activations passing_activations(const struct layer_run *run,
                                                             const struct residual_block *block,
                                                             const struct token_grid *grid)
{
    const size_t moments = (size_t)grid->n * (size_t)block->out_channels;
    struct residual_block_activations passing;
    passing.conv1 = push_activations(run, grid_rows(grid) * (size_t)block->out_channels);
    passing.mean1 = push_reals(run, moments);
    passing.rstd1 = push_reals(run, moments);
    passing.conv2 = passing.conv1;
    passing.mean2 = passing.mean1;
    passing.rstd2 = passing.rstd1;
    return passing;
}

void residual_block_forward(const struct layer_run *run, const struct residual_block *block, activation *out,
                            const activation *inp, const struct token_grid *grid,
                            const struct residual_block_activations *kept)
{
    const int channels = block->out_channels;
    const size_t mark = arena_mark(run->arena);
    const struct residual_block_activations a = kept != NULL ? *kept : passing_activations(run, block, grid);
    activation *hidden = push_activations(run, grid_rows(grid) * (size_t)channels);
    const size_t moments = (size_t)grid->n * (size_t)channels;
    real *mean3 = push_reals(run, moments);
    real *rstd3 = push_reals(run, moments);
    if (!run->arena->exhausted) {
        const struct conv3d_shape conv1 = conv_shape(grid, block->in_channels, channels, 3);
        const struct conv3d_shape conv2 = conv_shape(grid, channels, channels, 3);
        conv_forward(run, a.conv1, inp, block->conv1, &conv1);
        norm_forward(run, hidden, a.mean1, a.rstd1, a.conv1, NULL, slope, grid, channels);
        conv_forward(run, a.conv2, hidden, block->conv2, &conv2);
        const activation *residual = inp;
        if (has_conv3(block)) {
            /* out holds conv3's result for a moment, and hidden becomes the residual. */
            const struct conv3d_shape conv3 = conv_shape(grid, block->in_channels, channels, 1);
            conv_forward(run, out, inp, block->conv3, &conv3);
            norm_forward(run, hidden, mean3, rstd3, out, NULL, no_activation, grid, channels);
            residual = hidden;
        }
        norm_forward(run, out, a.mean2, a.rstd2, a.conv2, residual, slope, grid, channels);
    }
    arena_release(run->arena, mark);
}

/* Arrays of out's size that backward works in, and moments. */
struct backward_arrays {
    activation *first, *second, *third;
    real *mean, *rstd;  /* of conv3's norm */
    activation *dconv1; /* inp's size; NULL where dinp is */
};

static struct backward_arrays push_backward_arrays(const struct layer_run *run,
                                                   const struct residual_block *block,
                                                   const struct token_grid *grid, int with_dinp)
{
    const size_t size = grid_rows(grid) * (size_t)block->out_channels;
    const size_t moments = (size_t)grid->n * (size_t)block->out_channels;
    struct backward_arrays b = {0};
    b.first = push_activations(run, size);
    b.second = push_activations(run, size);
    b.third = has_conv3(block) ? push_activations(run, size) : NULL;
    b.mean = push_reals(run, moments);
    b.rstd = push_reals(run, moments);
    b.dconv1 = with_dinp ? push_activations(run, grid_rows(grid) * (size_t)block->in_channels) : NULL;
    return b;
}

/* Through the outer activation, the norm of conv2 and the residual: dout becomes the gradient of conv2's
 * output, dinp is written with the residual's share. */
static void residual_backward(const struct layer_run *run, const struct residual_block *block,
                              activation *dinp, activation *dout, const activation *out,
                              const activation *inp, const struct token_grid *grid,
                              const struct residual_block_activations *kept, const struct backward_arrays *b)
{
    struct compute *c = run->compute;
    const int channels = block->out_channels;
    const size_t space = grid_space(grid);
    const activation *residual = inp;
    const struct conv3d_shape conv3 = conv_shape(grid, block->in_channels, channels, 1);
    if (has_conv3(block)) {
        conv_forward(run, b->third, inp, block->conv3, &conv3);
        norm_forward(run, b->second, b->mean, b->rstd, b->third, NULL, no_activation, grid, channels);
        residual = b->second;
    }
    if (out == NULL) {
        norm_forward(run, b->first, kept->mean2, kept->rstd2, kept->conv2, residual, slope, grid, channels);
        out = b->first;
    }
    activation *dresidual = has_conv3(block) ? b->second : dinp;
    c->instance_norm_backward(c, dout, dresidual, dout, out, kept->conv2, kept->mean2, kept->rstd2, slope,
                              grid->n, space, channels);
    if (has_conv3(block)) {
        c->instance_norm_backward(c, dresidual, NULL, dresidual, NULL, b->third, b->mean, b->rstd,
                                  no_activation, grid->n, space, channels);
        conv_backward(run, dinp, dresidual, inp, block->conv3, &conv3);
    }
}

void residual_block_backward(const struct layer_run *run, const struct residual_block *block,
                             activation *dinp, activation *dout, const activation *out, const activation *inp,
                             const struct token_grid *grid, const struct residual_block_activations *kept)
{
    struct compute *c = run->compute;
    const int channels = block->out_channels;
    const size_t mark = arena_mark(run->arena);
    const struct backward_arrays b = push_backward_arrays(run, block, grid, dinp != NULL);
    if (!run->arena->exhausted) {
        residual_backward(run, block, dinp, dout, out, inp, grid, kept, &b);

        const struct conv3d_shape conv1 = conv_shape(grid, block->in_channels, channels, 3);
        const struct conv3d_shape conv2 = conv_shape(grid, channels, channels, 3);
        activation *hidden = b.first;
        activation *dhidden = b.second;
        norm_forward(run, hidden, kept->mean1, kept->rstd1, kept->conv1, NULL, slope, grid, channels);
        conv_backward(run, dhidden, dout, hidden, block->conv2, &conv2);
        c->instance_norm_backward(c, dhidden, NULL, dhidden, hidden, kept->conv1, kept->mean1, kept->rstd1,
                                  slope, grid->n, grid_space(grid), channels);
        conv_backward(run, b.dconv1, dhidden, inp, block->conv1, &conv1);
        if (dinp != NULL) {
            c->add(c, dinp, dinp, b.dconv1, grid_rows(grid) * (size_t)block->in_channels);
        }
    }
    arena_release(run->arena, mark);
}
