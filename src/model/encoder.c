/* What a crop takes of the arena, in MiB for `base` (C = 48, R = 64, float; tests/model/test_memory.c holds
 * the totals). F is a tensor (R^3, C), T_l the tokens of x[l]: F = 48, T_0 = 6, T_1 = 1.5, T_2 = 0.375, T_3 =
 * 0.094, T_4 = 0.023.
 *
 *   kept from forward to backward                               tensors              MiB
 *     encoder1: outputs of its two 3^3 convolutions             2 F                   96
 *     encoder2, 3, 4, 10: the same                              2 (T_0+T_1+T_2+T_4)   16
 *     input of each stage, and the last one's result            sum of T_l             8
 *     conv block: outputs of the convolutions and of the block  3 T_l a stage         24
 *     Swin block: q k v 3, attended 1, x1 1, linear1 4,
 *       result 1, log-sum-exp 1/16                              20.1 T_l a stage     160
 *                                                                                    304
 *   backward's own, at most
 *     encoder1: gradients of its two 3^3 convolutions           2 F                   96
 *     the crop as activations                                   R^3                    1
 *
 * Not kept, because one pass over memory gives it again: results of norms, of GELU, of gathering, those of
 * encoder1 to encoder10. (On a device those of tokens are: keeps_passes.) A Swin block's backward takes 11
 * T_l of its own, so encoder1 decides. It does so in a pass that keeps nothing as well: 2 F, the crop and
 * x[0..4], 105 MiB. */
#include "model/layout.h"

size_t encoder_passing_bytes(const struct model_config *config, size_t voxels, size_t activation_size)
{
    const size_t tensors = 4, rest = (size_t)1 << 20; /* features of level 0; embeddings take 2.2 (above) */
    return voxels * (tensors * (size_t)config->feature_size + 1) * activation_size + rest;
}

static size_t tensor_size(const struct token_grid *grid, int channels)
{
    return grid_rows(grid) * (size_t)channels;
}

activation *push_crops(const struct layer_run *run, const real *crops, const struct token_grid *grid)
{
    activation *inp = push_activations(run, grid_rows(grid));
    if (inp != NULL) {
        run->compute->activations_from_reals(run->compute, inp, crops, grid_rows(grid));
    }
    return inp;
}

static void keep_stage(const struct layer_run *run, const struct stage *stage, const struct token_grid *grid,
                       struct stage_activations *kept)
{
    const size_t size = tensor_size(grid, stage->conv.out_channels);
    residual_block_keep(run, &stage->conv, grid, &kept->conv);
    kept->conv_out = push_activations(run, size);
    for (int b = 0; b < 2; b++) {
        swin_block_keep(run, &stage->blocks[b], grid, &kept->blocks[b]);
        kept->block_out[b] = push_activations(run, size);
    }
    patch_merging_keep(run, &stage->merging, grid, &kept->merging);
}

static struct encoder_activations *keep_encoder(const struct layer_run *run, const struct model *model,
                                                const struct token_grid *crops,
                                                const struct token_grid *grids)
{
    const struct model_layout *layout = model->layout;
    struct encoder_activations *kept = arena_push_host(run->arena, sizeof *kept);
    if (kept == NULL) {
        return NULL;
    }
    for (int e = 0; e < encoder_count; e++) {
        const struct token_grid *grid = e == 0 ? crops : &grids[hidden_of_encoder[e]];
        residual_block_keep(run, &layout->encoders[e], grid, &kept->encoders[e]);
        if (e > 0) {
            kept->hidden[e] = keep_normed_tokens(run, grid_rows(grid), layout->encoders[e].in_channels);
        }
    }
    for (int l = 0; l < stage_count; l++) {
        keep_stage(run, &layout->stages[l], &grids[l], &kept->stages[l]);
    }
    return kept;
}

/* out = x[l + 1] from inp = x[l]. Without kept the three results in between take turns in two arrays. */
static void stage_forward(const struct layer_run *run, const struct stage *stage, activation *out,
                          const activation *inp, const struct token_grid *grid,
                          const struct stage_activations *kept)
{
    const size_t size = tensor_size(grid, stage->conv.out_channels);
    const struct arena_mark mark = arena_mark(run->arena);
    activation *conv_out = kept != NULL ? kept->conv_out : push_activations(run, size);
    activation *even_out = kept != NULL ? kept->block_out[0] : push_activations(run, size);
    activation *odd_out = kept != NULL ? kept->block_out[1] : conv_out;
    residual_block_forward(run, &stage->conv, conv_out, inp, grid, kept != NULL ? &kept->conv : NULL);
    swin_block_forward(run, &stage->blocks[0], even_out, conv_out, grid,
                       kept != NULL ? &kept->blocks[0] : NULL);
    swin_block_forward(run, &stage->blocks[1], odd_out, even_out, grid,
                       kept != NULL ? &kept->blocks[1] : NULL);
    patch_merging_forward(run, &stage->merging, out, odd_out, grid, kept != NULL ? &kept->merging : NULL);
    arena_release(run->arena, mark);
}

/* One part of the embedding, from the normed x. */
static void encode_hidden_state(const struct layer_run *run, const struct residual_block *block, real *part,
                                size_t stride, const activation *x, const struct token_grid *grid,
                                const struct residual_block_activations *kept,
                                const struct normed_tokens *kept_hidden)
{
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens hidden = hidden_norm_forward(run, x, block->in_channels, grid, kept_hidden);
    pooled_block_forward(run, block, part, stride, hidden.out, grid, kept);
    arena_release(run->arena, mark);
}

static enum voco_status embed(const struct model *model, struct compute *c, struct arena *arena,
                              const real *params, real *embedding, const real *crops,
                              const struct token_grid *crop_grid, struct encoder_activations **kept)
{
    const struct model_layout *layout = model->layout;
    const struct layer_run run = {.compute = c, .arena = arena, .params = params};
    const int feature_size = model->config.feature_size;
    const size_t stride = (size_t)model_embedding_size(&model->config);
    struct token_grid grids[stage_count + 1];
    hidden_grids(grids, crop_grid);

    const struct arena_mark mark = arena_mark(arena);
    struct encoder_activations *a = kept != NULL ? keep_encoder(&run, model, crop_grid, grids) : NULL;
    activation *x[stage_count + 1];
    for (int l = 0; l <= stage_count; l++) {
        x[l] = push_activations(&run, tensor_size(&grids[l], feature_size << l));
        if (a != NULL) {
            a->x[l] = x[l];
        }
    }
    const struct arena_mark beyond_kept = arena_mark(arena);
    const activation *inp = push_crops(&run, crops, crop_grid);
    pooled_block_forward(&run, &layout->encoders[0], embedding, stride, inp, crop_grid,
                         a != NULL ? &a->encoders[0] : NULL);
    patch_embed_forward(&run, &layout->embed, x[0], inp, crop_grid);
    arena_release(arena, beyond_kept);
    for (int l = 0; l < stage_count; l++) {
        stage_forward(&run, &layout->stages[l], x[l + 1], x[l], &grids[l], a != NULL ? &a->stages[l] : NULL);
    }
    for (int e = 1; e < encoder_count; e++) {
        const int h = hidden_of_encoder[e];
        encode_hidden_state(&run, &layout->encoders[e],
                            embedding + (size_t)embedding_column[e] * feature_size, stride, x[h], &grids[h],
                            a != NULL ? &a->encoders[e] : NULL, a != NULL ? &a->hidden[e] : NULL);
    }

    const enum voco_status status = pass_status(c, arena, "encoder forward", crop_grid->n);
    if (kept != NULL) {
        *kept = status == VOCO_OK ? a : NULL;
    }
    if (kept == NULL || status != VOCO_OK) {
        arena_release(arena, mark);
    }
    return status;
}

enum voco_status encoder_forward(const struct model *model, struct compute *c, struct arena *arena,
                                 const real *params, real *embedding, const real *crops, int n,
                                 struct encoder_activations **kept)
{
    const struct token_grid grid = token_cube(n, model->config.roi);
    return embed(model, c, arena, params, embedding, crops, &grid, kept);
}

enum voco_status encoder_box_forward(const struct model *model, struct compute *c, struct arena *arena,
                                     const real *params, real *embedding, const real *boxes, int n,
                                     const int size[3])
{
    const struct token_grid grid = {n, size[0], size[1], size[2]};
    const enum voco_status status = encoder_box_check(size);
    return status != VOCO_OK ? status : embed(model, c, arena, params, embedding, boxes, &grid, NULL);
}

/* The hidden state h, normed, from the box; NULL where the arena is used up. */
static const activation *hidden_state(const struct layer_run *run, const struct model *model, int h,
                                      const activation *inp, const struct token_grid *box,
                                      const struct token_grid *grids)
{
    const int feature_size = model->config.feature_size;
    activation *x = push_activations(run, tensor_size(&grids[0], feature_size));
    patch_embed_forward(run, &model->layout->embed, x, inp, box);
    for (int l = 0; l < h; l++) {
        activation *next = push_activations(run, tensor_size(&grids[l + 1], feature_size << (l + 1)));
        stage_forward(run, &model->layout->stages[l], next, x, &grids[l], NULL);
        x = next;
    }
    return hidden_norm_forward(run, x, feature_size << h, &grids[h], NULL).out;
}

enum voco_status encoder_box_features(const struct model *model, struct compute *c, struct arena *arena,
                                      const real *params, real *features, int level, const real *box,
                                      const int size[3])
{
    const struct layer_run run = {.compute = c, .arena = arena, .params = params};
    const struct token_grid box_grid = {1, size[0], size[1], size[2]};
    const int h = hidden_of_encoder[level];
    struct token_grid grids[stage_count + 1];
    enum voco_status status = encoder_box_check(size);
    if (status != VOCO_OK) {
        return status;
    }
    hidden_grids(grids, &box_grid);
    const struct token_grid *grid = h < 0 ? &box_grid : &grids[h];
    const struct residual_block *block = &model->layout->encoders[level];
    const size_t count = tensor_size(grid, block->out_channels);
    const struct arena_mark mark = arena_mark(arena);
    activation *out = push_activations(&run, count);
    const activation *inp = push_crops(&run, box, &box_grid);
    if (h >= 0) {
        inp = hidden_state(&run, model, h, inp, &box_grid, grids);
    }
    residual_block_forward(&run, block, out, inp, grid, NULL);
    if (!arena->exhausted) {
        c->reals_from_activations(c, features, out, count);
    }
    status = pass_status(c, arena, "encoder forward", 1);
    arena_release(arena, mark);
    return status;
}
