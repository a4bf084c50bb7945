#include "nn/residual_block.h"

static const real slope = (real)0.01;

static struct conv3d_shape conv_shape(const struct token_grid *grid, int in_channels, int out_channels)
{
    return (struct conv3d_shape){.n = grid->n,
                                 .d = grid->d,
                                 .h = grid->h,
                                 .w = grid->w,
                                 .in_channels = in_channels,
                                 .out_channels = out_channels,
                                 .kernel = 3,
                                 .stride = 1};
}

static struct norm_activation first_norm(const struct residual_block_activations *a)
{
    return (struct norm_activation){.mean = a->mean1, .rstd = a->rstd1, .slope = slope};
}

static struct norm_activation second_norm(const struct residual_block_activations *a)
{
    return (struct norm_activation){.mean = a->mean2, .rstd = a->rstd2, .slope = slope};
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
    kept->bends = push_reals(run, 3 * moments);
}

/* kept, or memory for a pass that keeps nothing. */
static struct residual_block_activations activations_of(const struct layer_run *run,
                                                        const struct residual_block *block,
                                                        const struct token_grid *grid,
                                                        const struct residual_block_activations *kept)
{
    struct residual_block_activations passing;
    if (kept != NULL) {
        return *kept;
    }
    residual_block_keep(run, block, grid, &passing);
    return passing;
}

/* Memory for the normed input of a convolution, where it is needed. */
static activation *push_work(const struct layer_run *run, const struct conv3d_shape *shape)
{
    const size_t size = run->compute->normed_conv3d_work(run->compute, shape);
    return size > 0 ? push_activations(run, size) : NULL;
}

/* Both convolutions and the moments of their norms. */
static void convolve(const struct layer_run *run, const struct residual_block *block, const activation *inp,
                     const struct token_grid *grid, const struct residual_block_activations *a)
{
    struct compute *c = run->compute;
    const struct conv3d_shape conv1 = conv_shape(grid, block->in_channels, block->out_channels);
    const struct conv3d_shape conv2 = conv_shape(grid, block->out_channels, block->out_channels);
    const struct norm_activation norm = first_norm(a);
    const struct arena_mark mark = arena_mark(run->arena);
    activation *work = push_work(run, &conv2);
    if (!run->arena->exhausted) {
        c->normed_conv3d_forward(c, a->conv1, a->mean1, a->rstd1, inp, NULL, NULL, run->params + block->conv1,
                                 &conv1);
        c->normed_conv3d_forward(c, a->conv2, a->mean2, a->rstd2, a->conv1, &norm, work,
                                 run->params + block->conv2, &conv2);
    }
    arena_release(run->arena, mark);
}

/* From the gradient of conv2's output to that of inp by way of the convolutions; NULL where inp has one
 * channel. */
static void convolve_backward(const struct layer_run *run, const struct residual_block *block,
                              activation *dinp, const activation *dconv2, const activation *inp,
                              const struct token_grid *grid, const struct residual_block_activations *kept)
{
    struct compute *c = run->compute;
    const struct conv3d_shape conv1 = conv_shape(grid, block->in_channels, block->out_channels);
    const struct conv3d_shape conv2 = conv_shape(grid, block->out_channels, block->out_channels);
    const struct norm_activation norm = first_norm(kept);
    const struct arena_mark mark = arena_mark(run->arena);
    activation *dconv1 = push_activations(run, grid_rows(grid) * (size_t)block->out_channels);
    activation *work = push_work(run, &conv2);
    if (!run->arena->exhausted) {
        if (dinp == NULL) {
            c->normed_conv3d_pair_backward(c, run->grads + block->conv1, run->grads + block->conv2, dconv1,
                                           dconv2, kept->conv1, &norm, work, inp, run->params + block->conv1,
                                           run->params + block->conv2, &conv2);
        } else {
            c->normed_conv3d_backward(c, dconv1, run->grads + block->conv2, dconv2, kept->conv1, &norm, work,
                                      run->params + block->conv2, &conv2);
            c->normed_conv3d_backward(c, dinp, run->grads + block->conv1, dconv1, inp, NULL, NULL,
                                      run->params + block->conv1, &conv1);
        }
    }
    arena_release(run->arena, mark);
}

/* dinp holds the residual's gradient, to which that of the convolutions is added. */
static void add_convolve_backward(const struct layer_run *run, const struct residual_block *block,
                                  activation *dinp, const activation *dconv2, const activation *inp,
                                  const struct token_grid *grid,
                                  const struct residual_block_activations *kept)
{
    const size_t size = grid_rows(grid) * (size_t)block->in_channels;
    const struct arena_mark mark = arena_mark(run->arena);
    activation *by_convolutions = push_activations(run, size);
    convolve_backward(run, block, by_convolutions, dconv2, inp, grid, kept);
    if (!run->arena->exhausted) {
        run->compute->add(run->compute, dinp, dinp, by_convolutions, size);
    }
    arena_release(run->arena, mark);
}

/* IN(conv3(inp)), on the arena; `between` (rows, out_channels) is written. */
static const activation *project_channel(const struct layer_run *run, const struct residual_block *block,
                                         activation *between, const activation *inp,
                                         const struct token_grid *grid)
{
    struct compute *c = run->compute;
    struct conv3d_shape shape = conv_shape(grid, block->in_channels, block->out_channels);
    const size_t moments = (size_t)grid->n * (size_t)block->out_channels;
    activation *out = push_activations(run, grid_rows(grid) * (size_t)block->out_channels);
    real *mean = push_reals(run, moments);
    real *rstd = push_reals(run, moments);
    shape.kernel = 1;
    if (!run->arena->exhausted) {
        c->conv3d_forward(c, between, inp, run->params + block->conv3, NULL, &shape);
        c->instance_norm_forward(c, out, mean, rstd, between, NULL, 1, grid->n, grid_space(grid),
                                 block->out_channels);
    }
    return out;
}

void residual_block_forward(const struct layer_run *run, const struct residual_block *block, activation *out,
                            const activation *inp, const struct token_grid *grid,
                            const struct residual_block_activations *kept)
{
    const struct arena_mark mark = arena_mark(run->arena);
    const struct residual_block_activations a = activations_of(run, block, grid, kept);
    const struct norm_activation norm = second_norm(&a);
    const activation *residual =
        block->in_channels == block->out_channels ? inp : project_channel(run, block, out, inp, grid);
    convolve(run, block, inp, grid, &a);
    if (!run->arena->exhausted) {
        run->compute->instance_norm_apply(run->compute, out, a.conv2, &norm, residual, grid->n,
                                          grid_space(grid), block->out_channels);
    }
    arena_release(run->arena, mark);
}

void residual_block_backward(const struct layer_run *run, const struct residual_block *block,
                             activation *dinp, activation *dout, const activation *out, const activation *inp,
                             const struct token_grid *grid, const struct residual_block_activations *kept)
{
    struct compute *c = run->compute;
    if (!run->arena->exhausted) {
        c->instance_norm_backward(c, dout, dinp, dout, out, kept->conv2, kept->mean2, kept->rstd2, slope,
                                  grid->n, grid_space(grid), block->out_channels);
        add_convolve_backward(run, block, dinp, dout, inp, grid, kept);
    }
}

/* IN(w x) of one channel x, see channel_scale_forward. Arrays on the arena: */
struct scaled_channel {
    real *mean;      /* (n) */
    real *rstd;      /* (n), of x itself, from which v follows */
    real *scale;     /* (n, out_channels) */
    real *dscale_dw; /* the same */
};

static struct scaled_channel scale_channel(const struct layer_run *run, const struct residual_block *block,
                                           const activation *inp, const struct token_grid *grid)
{
    const size_t n = (size_t)grid->n, channels = (size_t)block->out_channels;
    struct scaled_channel s = {.mean = push_reals(run, n),
                               .rstd = push_reals(run, n),
                               .scale = push_reals(run, n * channels),
                               .dscale_dw = push_reals(run, n * channels)};
    if (run->arena->exhausted) {
        return s;
    }
    run->compute->instance_norm_moments(run->compute, s.mean, s.rstd, inp, grid->n, grid_space(grid), 1);
    run->compute->channel_scale_forward(run->compute, s.scale, s.dscale_dw, run->params + block->conv3,
                                        s.rstd, grid->n, block->out_channels);
    return s;
}

static struct pooled_residual residual_of(const struct layer_run *run, const struct residual_block *block,
                                          const activation *inp, const struct token_grid *grid,
                                          struct scaled_channel *s)
{
    struct pooled_residual residual = {.x = inp};
    if (block->in_channels != block->out_channels) {
        *s = scale_channel(run, block, inp, grid);
        residual.scale = s->scale;
        residual.centre = s->mean;
    }
    return residual;
}

void pooled_block_forward(const struct layer_run *run, const struct residual_block *block, real *pooled,
                          size_t stride, const activation *inp, const struct token_grid *grid,
                          const struct residual_block_activations *kept)
{
    struct compute *c = run->compute;
    const struct arena_mark mark = arena_mark(run->arena);
    const struct residual_block_activations a = activations_of(run, block, grid, kept);
    const struct norm_activation norm = second_norm(&a);
    struct scaled_channel scaled;
    const struct pooled_residual residual = residual_of(run, block, inp, grid, &scaled);
    convolve(run, block, inp, grid, &a);
    if (!run->arena->exhausted) {
        c->pooled_norm_forward(c, pooled, stride, a.bends, a.conv2, &norm, &residual, grid->n,
                               grid_space(grid), block->out_channels);
    }
    arena_release(run->arena, mark);
}

void pooled_block_backward(const struct layer_run *run, const struct residual_block *block, activation *dinp,
                           const real *dpooled, size_t stride, const activation *inp,
                           const struct token_grid *grid, const struct residual_block_activations *kept)
{
    struct compute *c = run->compute;
    const int channels = block->out_channels, one_channel = block->in_channels != channels;
    const struct norm_activation norm = second_norm(kept);
    const struct arena_mark mark = arena_mark(run->arena);
    struct scaled_channel scaled;
    const struct pooled_residual residual = residual_of(run, block, inp, grid, &scaled);
    real *dscale = push_reals(run, (size_t)grid->n * (size_t)channels);
    activation *dconv2 = push_activations(run, grid_rows(grid) * (size_t)channels);
    if (!run->arena->exhausted) {
        c->pooled_norm_backward(c, dconv2, one_channel ? NULL : dinp, dscale, dpooled, stride, kept->bends,
                                kept->conv2, &norm, &residual, grid->n, grid_space(grid), channels);
        if (one_channel) {
            c->channel_scale_backward(c, run->grads + block->conv3, dscale, scaled.dscale_dw, grid->n,
                                      channels);
            convolve_backward(run, block, NULL, dconv2, inp, grid, kept);
        } else {
            add_convolve_backward(run, block, dinp, dconv2, inp, grid, kept);
        }
    }
    arena_release(run->arena, mark);
}
