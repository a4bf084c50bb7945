#include "model/layout.h"

/* Gradients of tokens: each array holds the largest, x[0]'s. */
struct token_gradients {
    activation *x;       /* of x[l], l falling */
    activation *between; /* of what lies between two layers */
};

/* g->x: from x[l + 1]'s gradient to x[l]'s by way of stage l. */
static void stage_backward(const struct layer_run *run, const struct stage *stage,
                           const struct token_gradients *g, const activation *inp,
                           const struct token_grid *grid, const struct stage_activations *kept)
{
    patch_merging_backward(run, &stage->merging, g->between, g->x, kept->block_out[1], grid, &kept->merging);
    swin_block_backward(run, &stage->blocks[1], g->x, g->between, kept->block_out[0], grid, &kept->blocks[1]);
    swin_block_backward(run, &stage->blocks[0], g->between, g->x, kept->conv_out, grid, &kept->blocks[0]);
    residual_block_backward(run, &stage->conv, g->x, g->between, kept->conv_out, inp, grid, &kept->conv);
}

/* dx is written: the gradient of x by way of its norm and its encoder, and `stages`, that by way of the
 * stages (NULL: there are none). */
static void hidden_state_backward(const struct layer_run *run, const struct residual_block *block,
                                  activation *dx, const activation *stages, const real *dpart, size_t stride,
                                  const activation *x, const struct token_grid *grid,
                                  const struct residual_block_activations *kept,
                                  const struct normed_tokens *kept_hidden)
{
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens hidden = hidden_norm_again(run, x, block->in_channels, grid, kept_hidden);
    pooled_block_backward(run, block, dx, dpart, stride, hidden.out, grid, kept);
    hidden_norm_backward(run, dx, dx, x, &hidden, stages, block->in_channels, grid);
    arena_release(run->arena, mark);
}

/* The number of the encoder that takes hidden state l, 0 when there is none (h3). */
static int encoder_of_hidden(int l)
{
    for (int e = 1; e < encoder_count; e++) {
        if (hidden_of_encoder[e] == l) {
            return e;
        }
    }
    return 0;
}

/* Counts the parts that are complete, and tells. */
struct progress {
    const struct backward_listener *listener;
    int parts;
};

static void complete_part(struct progress *progress)
{
    if (progress->listener != NULL) {
        progress->listener->completed(progress->listener->context, progress->parts);
    }
    progress->parts++;
}

/* From the embedding back to x[0], whose gradient is g->x then: the way back through the stages, where each
 * hidden state's encoder joins. */
static void tokens_backward(const struct layer_run *run, const struct model *model, struct token_gradients *g,
                            const real *dembedding, const struct token_grid *grids,
                            const struct encoder_activations *kept, struct progress *progress)
{
    const struct model_layout *layout = model->layout;
    const int feature_size = model->config.feature_size;
    const size_t stride = (size_t)model_embedding_size(&model->config);
    for (int l = stage_count; l >= 0; l--) {
        const int last = l == stage_count;
        if (!last) {
            stage_backward(run, &layout->stages[l], g, kept->x[l], &grids[l], &kept->stages[l]);
            complete_part(progress);
        }
        const int e = encoder_of_hidden(l);
        if (e == 0) {
            continue;
        }
        hidden_state_backward(run, &layout->encoders[e], g->between, last ? NULL : g->x,
                              dembedding + (size_t)embedding_column[e] * (size_t)feature_size, stride,
                              kept->x[l], &grids[l], &kept->encoders[e], &kept->hidden[e]);
        complete_part(progress);
        *g = (struct token_gradients){.x = g->between, .between = g->x};
    }
}

enum voco_status encoder_backward(const struct model *model, struct compute *c, struct arena *arena,
                                  real *grads, const real *params, const real *dembedding, const real *crops,
                                  int n, const struct encoder_activations *kept)
{
    return encoder_backward_heard(model, c, arena, grads, params, dembedding, crops, n, kept, NULL);
}

enum voco_status encoder_backward_heard(const struct model *model, struct compute *c, struct arena *arena,
                                        real *grads, const real *params, const real *dembedding,
                                        const real *crops, int n, const struct encoder_activations *kept,
                                        const struct backward_listener *listener)
{
    const struct model_layout *layout = model->layout;
    const struct layer_run run = {.compute = c, .arena = arena, .params = params, .grads = grads};
    const struct token_grid crop_grid = token_cube(n, model->config.roi);
    struct token_grid grids[stage_count + 1];
    hidden_grids(grids, &crop_grid);

    struct progress progress = {.listener = listener};
    const struct arena_mark mark = arena_mark(arena);
    const activation *inp = push_crops(&run, crops, &crop_grid);
    pooled_block_backward(&run, &layout->encoders[0], NULL, dembedding,
                          (size_t)model_embedding_size(&model->config), inp, &crop_grid, &kept->encoders[0]);
    complete_part(&progress);
    const size_t largest = grid_rows(&grids[0]) * (size_t)model->config.feature_size;
    struct token_gradients g = {.x = push_activations(&run, largest),
                                .between = push_activations(&run, largest)};
    if (!arena->exhausted) {
        tokens_backward(&run, model, &g, dembedding, grids, kept, &progress);
        patch_embed_backward(&run, &layout->embed, g.x, inp, &crop_grid);
        complete_part(&progress);
    }
    arena_release(arena, mark);
    return pass_status(c, arena, "encoder backward", n);
}
