#include "model/model.h"

#include "base/error.h"
#include "model/layout.h"

#include <stdio.h>
#include <stdlib.h>

const int hidden_of_encoder[encoder_count] = {-1, 0, 1, 2, 4};
const int embedding_column[encoder_count] = {0, 1, 2, 4, 8};

/* The table, and whether a name was missing from it. */
struct places {
    const struct parameter_table *table;
    int missing;
};

/* The offset of "<prefix>.<suffix>". */
static size_t place(struct places *places, const char *prefix, const char *suffix)
{
    char name[parameter_name_size];
    const int length = snprintf(name, sizeof name, "%s.%s", prefix, suffix);
    const struct parameter *p = length < (int)sizeof name ? parameter_find(places->table, name) : NULL;
    if (p == NULL) {
        places->missing = 1;
        return 0;
    }
    return p->offset;
}

static struct linear place_linear(struct places *places, const char *prefix, const char *layer,
                                  int in_features, int out_features)
{
    char suffix[32];
    struct linear linear = {.in_features = in_features, .out_features = out_features};
    snprintf(suffix, sizeof suffix, "%s.weight", layer);
    linear.weight = place(places, prefix, suffix);
    snprintf(suffix, sizeof suffix, "%s.bias", layer);
    linear.bias = place(places, prefix, suffix);
    return linear;
}

static struct residual_block place_residual_block(struct places *places, const char *prefix, int in_channels,
                                                  int out_channels)
{
    struct residual_block block = {.in_channels = in_channels, .out_channels = out_channels};
    block.conv1 = place(places, prefix, "layer.conv1.conv.weight");
    block.conv2 = place(places, prefix, "layer.conv2.conv.weight");
    if (in_channels != out_channels) {
        block.conv3 = place(places, prefix, "layer.conv3.conv.weight");
    }
    return block;
}

static struct swin_block place_swin_block(struct places *places, int stage, int odd, int channels, int heads)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "backbone.swinViT.layers%d.0.blocks.%d", stage + 1, odd);
    return (struct swin_block){
        .channels = channels,
        .heads = heads,
        .odd = odd,
        .norm1_weight = place(places, prefix, "norm1.weight"),
        .norm1_bias = place(places, prefix, "norm1.bias"),
        .bias_table = place(places, prefix, "attn.relative_position_bias_table"),
        .qkv = place_linear(places, prefix, "attn.qkv", channels, 3 * channels),
        .proj = place_linear(places, prefix, "attn.proj", channels, channels),
        .norm2_weight = place(places, prefix, "norm2.weight"),
        .norm2_bias = place(places, prefix, "norm2.bias"),
        .linear1 = place_linear(places, prefix, "mlp.linear1", channels, 4 * channels),
        .linear2 = place_linear(places, prefix, "mlp.linear2", 4 * channels, channels),
    };
}

static struct stage place_stage(struct places *places, int l, int channels, int heads,
                                enum patch_merging order)
{
    char prefix[64];
    struct stage stage;
    snprintf(prefix, sizeof prefix, "backbone.swinViT.layers%dc.0", l + 1);
    stage.conv = place_residual_block(places, prefix, channels, channels);
    for (int odd = 0; odd < 2; odd++) {
        stage.blocks[odd] = place_swin_block(places, l, odd, channels, heads);
    }
    snprintf(prefix, sizeof prefix, "backbone.swinViT.layers%d.0.downsample", l + 1);
    stage.merging = (struct patch_merging_layer){
        .channels = channels,
        .order = order,
        .norm_weight = place(places, prefix, "norm.weight"),
        .norm_bias = place(places, prefix, "norm.bias"),
        .reduction = place(places, prefix, "reduction.weight"),
    };
    return stage;
}

static void place_projector(struct places *places, struct linear layers[projector_depth], const char *prefix,
                            const struct model_config *config)
{
    const int width = config->projector;
    layers[0] = place_linear(places, prefix, "layer1.0", model_embedding_size(config), width);
    layers[1] = place_linear(places, prefix, "layer2.0", width, width);
    layers[2] = place_linear(places, prefix, "layer3.0", width, width);
}

static void place_layers(struct places *places, struct model_layout *layout,
                         const struct model_config *config)
{
    const int c = config->feature_size;
    layout->embed = (struct patch_embed){
        .channels = c,
        .weight = place(places, "backbone.swinViT.patch_embed", "proj.weight"),
        .bias = place(places, "backbone.swinViT.patch_embed", "proj.bias"),
    };
    for (int l = 0; l < stage_count; l++) {
        layout->stages[l] = place_stage(places, l, c << l, 3 << l, config->patch_merging);
    }
    layout->encoders[0] = place_residual_block(places, "backbone.encoder1", 1, c);
    layout->encoders[1] = place_residual_block(places, "backbone.encoder2", c, c);
    layout->encoders[2] = place_residual_block(places, "backbone.encoder3", 2 * c, 2 * c);
    layout->encoders[3] = place_residual_block(places, "backbone.encoder4", 4 * c, 4 * c);
    layout->encoders[4] = place_residual_block(places, "backbone.encoder10", 16 * c, 16 * c);
    place_projector(places, layout->projectors[0], "student", config);
    place_projector(places, layout->projectors[1], "teacher", config);
}

enum voco_status model_create(struct model *model, const struct model_config *config)
{
    *model = (struct model){.config = *config};
    enum voco_status status = parameter_table_create(&model->table, config);
    if (status != VOCO_OK) {
        return status;
    }
    model->layout = calloc(1, sizeof *model->layout);
    if (model->layout == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for the model's layout");
        goto fail;
    }
    struct places places = {.table = &model->table};
    place_layers(&places, model->layout, config);
    if (places.missing) {
        status = fail(VOCO_BAD_INPUT, "a layer's parameter is missing from the table");
        goto fail;
    }
    return VOCO_OK;
fail:
    model_free(model);
    return status;
}

void model_free(struct model *model)
{
    free(model->layout);
    parameter_table_free(&model->table);
    *model = (struct model){0};
}

int model_embedding_size(const struct model_config *config)
{
    return 24 * config->feature_size;
}

struct encoder_level encoder_level_of(const struct model_config *config, int level)
{
    static const char *const names[encoder_count] = {"encoder1", "encoder2", "encoder3", "encoder4",
                                                     "encoder10"};
    const int h = hidden_of_encoder[level];
    return (struct encoder_level){.name = names[level],
                                  .channels = config->feature_size << (h > 0 ? h : 0),
                                  .column = embedding_column[level] * config->feature_size,
                                  .stride = h < 0 ? 1 : 2 << h};
}

enum voco_status encoder_box_check(const int size[3])
{
    double voxels = 1;
    for (int axis = 0; axis < 3; axis++) {
        if (size[axis] < 48 || size[axis] % 16 != 0) {
            return fail(VOCO_BAD_INPUT,
                        "%d x %d x %d voxels: the encoder takes axes that are multiples of 16, from 48 on",
                        size[0], size[1], size[2]);
        }
        voxels *= size[axis];
    }
    return voxels <= encoder_most_voxels
               ? VOCO_OK
               : fail(VOCO_BAD_INPUT, "%d x %d x %d voxels: the encoder takes up to %d at once", size[0],
                      size[1], size[2], encoder_most_voxels);
}

void hidden_grids(struct token_grid grids[stage_count + 1], const struct token_grid *crops)
{
    grids[0] = (struct token_grid){crops->n, crops->d / 2, crops->h / 2, crops->w / 2};
    for (int l = 0; l < stage_count; l++) {
        grids[l + 1] = merged_grid(&grids[l]);
    }
}

enum voco_status pass_status(struct compute *c, const struct arena *arena, const char *pass, int n)
{
    const enum voco_status status = compute_status(c);
    if (status != VOCO_OK) {
        return add_context(status, "%s", pass);
    }
    if (arena->exhausted) {
        return fail(VOCO_NO_MEMORY, "%s: %zu MiB of activations do not hold %d crops", pass,
                    arena->capacity >> 20, n);
    }
    return VOCO_OK;
}
