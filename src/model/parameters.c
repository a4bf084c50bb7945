#include "model/parameters.h"

#include "base/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { largest_feature_size = 768, largest_roi = 512, largest_projector = 65536 };

static const char *const merging_names[] = {
    [PATCH_MERGING_LEGACY] = "legacy",
    [PATCH_MERGING_FIXED] = "fixed",
    [PATCH_MERGING_V2] = "v2",
};
enum { merging_count = sizeof merging_names / sizeof merging_names[0] };

static const char table_suffix[] = "attn.relative_position_bias_table";
static const char index_suffix[] = "attn.relative_position_index";

enum voco_status model_config_check(const struct model_config *config)
{
    const int c = config->feature_size;
    const int r = config->roi;
    if (c < 3 || c > largest_feature_size || c % 3 != 0) {
        return fail(VOCO_BAD_INPUT, "feature size must be a multiple of 3 from 3 to %d, not %d",
                    largest_feature_size, c);
    }
    if (r < 48 || r > largest_roi || r % 16 != 0) {
        return fail(VOCO_BAD_INPUT, "crop size must be a multiple of 16 from 48 to %d voxels, not %d",
                    largest_roi, r);
    }
    if (config->projector < 1 || config->projector > largest_projector) {
        return fail(VOCO_BAD_INPUT, "projector width must be from 1 to %d, not %d", largest_projector,
                    config->projector);
    }
    if ((int)config->patch_merging < 0 || (int)config->patch_merging >= merging_count) {
        return fail(VOCO_BAD_INPUT, "unknown patch merging order %d", (int)config->patch_merging);
    }
    return VOCO_OK;
}

const char *patch_merging_name(enum patch_merging order)
{
    return (int)order >= 0 && (int)order < merging_count ? merging_names[order] : "unknown";
}

enum voco_status patch_merging_from_name(enum patch_merging *order, const char *name)
{
    for (int i = 0; i < merging_count; i++) {
        if (strcmp(name, merging_names[i]) == 0) {
            *order = (enum patch_merging)i;
            return VOCO_OK;
        }
    }
    return fail(VOCO_BAD_INPUT, "no patch merging order is called \"%s\" (there are: legacy, fixed, v2)",
                name);
}

/* The table while it is being filled. `fan_in` belongs to the Linear or Conv3d whose weight came last: its
 * bias is drawn within the same bound. */
struct builder {
    struct parameter_table *table;
    int capacity;
    size_t end; /* where the next parameter starts */
    enum parameter_group group;
    int64_t fan_in;
    int out_of_memory;
};

static struct parameter *append(struct builder *b)
{
    struct parameter_table *table = b->table;
    if (table->count == b->capacity) {
        const int larger = b->capacity == 0 ? 64 : 2 * b->capacity;
        struct parameter *entries = realloc(table->entries, (size_t)larger * sizeof *entries);
        if (entries == NULL) {
            b->out_of_memory = 1;
            return NULL;
        }
        table->entries = entries;
        b->capacity = larger;
    }
    struct parameter *p = &table->entries[table->count++];
    *p = (struct parameter){0};
    return p;
}

/* name = "<prefix>.<suffix>" */
static void add(struct builder *b, const char *prefix, const char *suffix, enum parameter_init init, int rank,
                const int *shape)
{
    struct parameter *p = append(b);
    if (p == NULL) {
        return;
    }
    snprintf(p->name, sizeof p->name, "%s.%s", prefix, suffix);
    p->rank = rank;
    p->count = 1;
    for (int axis = 0; axis < rank; axis++) {
        p->shape[axis] = shape[axis];
        p->count *= (size_t)p->shape[axis];
    }
    p->group = b->group;
    p->init = init;
    if (init == INIT_UNIFORM) {
        if (rank > 1) {
            b->fan_in = (int64_t)p->count / p->shape[0];
        }
        p->bound = 1.0 / sqrt((double)b->fan_in);
    }
    p->offset = b->end;
    b->end += (p->count + parameter_alignment - 1) / parameter_alignment * parameter_alignment;
}

static void add_linear(struct builder *b, const char *prefix, const char *layer, int in_features,
                       int out_features)
{
    char suffix[32];
    snprintf(suffix, sizeof suffix, "%s.weight", layer);
    add(b, prefix, suffix, INIT_UNIFORM, 2, (const int[]){out_features, in_features});
    snprintf(suffix, sizeof suffix, "%s.bias", layer);
    add(b, prefix, suffix, INIT_UNIFORM, 1, (const int[]){out_features});
}

static void add_layer_norm(struct builder *b, const char *prefix, const char *layer, int channels)
{
    char suffix[32];
    snprintf(suffix, sizeof suffix, "%s.weight", layer);
    add(b, prefix, suffix, INIT_ONE, 1, (const int[]){channels});
    snprintf(suffix, sizeof suffix, "%s.bias", layer);
    add(b, prefix, suffix, INIT_ZERO, 1, (const int[]){channels});
}

static void add_swin_block(struct builder *b, const char *prefix, int channels, int heads)
{
    add_layer_norm(b, prefix, "norm1", channels);
    add(b, prefix, table_suffix, INIT_TRUNCATED_NORMAL, 2, (const int[]){relative_table_rows, heads});
    add_linear(b, prefix, "attn.qkv", channels, 3 * channels);
    add_linear(b, prefix, "attn.proj", channels, channels);
    add_layer_norm(b, prefix, "norm2", channels);
    add_linear(b, prefix, "mlp.linear1", channels, 4 * channels);
    add_linear(b, prefix, "mlp.linear2", 4 * channels, channels);
}

static void add_stage(struct builder *b, int stage, int channels, int heads)
{
    char prefix[64];
    for (int block = 0; block < 2; block++) {
        snprintf(prefix, sizeof prefix, "backbone.swinViT.layers%d.0.blocks.%d", stage, block);
        add_swin_block(b, prefix, channels, heads);
    }
    snprintf(prefix, sizeof prefix, "backbone.swinViT.layers%d.0.downsample", stage);
    add(b, prefix, "reduction.weight", INIT_UNIFORM, 2, (const int[]){2 * channels, 8 * channels});
    add_layer_norm(b, prefix, "norm", 8 * channels);
}

static void add_residual_block(struct builder *b, const char *prefix, int in_channels, int out_channels)
{
    add(b, prefix, "layer.conv1.conv.weight", INIT_UNIFORM, 5,
        (const int[]){out_channels, in_channels, 3, 3, 3});
    add(b, prefix, "layer.conv2.conv.weight", INIT_UNIFORM, 5,
        (const int[]){out_channels, out_channels, 3, 3, 3});
    if (in_channels != out_channels) {
        add(b, prefix, "layer.conv3.conv.weight", INIT_UNIFORM, 5,
            (const int[]){out_channels, in_channels, 1, 1, 1});
    }
}

static void add_backbone(struct builder *b, int c)
{
    b->group = GROUP_BACKBONE;
    add(b, "backbone.swinViT.patch_embed", "proj.weight", INIT_UNIFORM, 5, (const int[]){c, 1, 2, 2, 2});
    add(b, "backbone.swinViT.patch_embed", "proj.bias", INIT_UNIFORM, 1, (const int[]){c});
    for (int l = 0; l < 4; l++) {
        add_stage(b, l + 1, c << l, 3 << l);
    }
    for (int l = 0; l < 4; l++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "backbone.swinViT.layers%dc.0", l + 1);
        add_residual_block(b, prefix, c << l, c << l);
    }
    add_residual_block(b, "backbone.encoder1", 1, c);
    add_residual_block(b, "backbone.encoder2", c, c);
    add_residual_block(b, "backbone.encoder3", 2 * c, 2 * c);
    add_residual_block(b, "backbone.encoder4", 4 * c, 4 * c);
    add_residual_block(b, "backbone.encoder10", 16 * c, 16 * c);
}

static void add_projector(struct builder *b, enum parameter_group group, const char *prefix, int embedding,
                          int width)
{
    b->group = group;
    add_linear(b, prefix, "layer1.0", embedding, width);
    add_linear(b, prefix, "layer2.0", width, width);
    add_linear(b, prefix, "layer3.0", width, width);
}

enum voco_status parameter_table_create(struct parameter_table *table, const struct model_config *config)
{
    *table = (struct parameter_table){0};
    const enum voco_status status = model_config_check(config);
    if (status != VOCO_OK) {
        return status;
    }
    struct builder b = {.table = table};
    add_backbone(&b, config->feature_size);
    table->backbone = b.end;
    add_projector(&b, GROUP_STUDENT, "student", 24 * config->feature_size, config->projector);
    table->trained = b.end;
    add_projector(&b, GROUP_TEACHER, "teacher", 24 * config->feature_size, config->projector);
    table->total = b.end;
    table->teacher_distance = table->trained - table->backbone;
    if (b.out_of_memory) {
        parameter_table_free(table);
        return fail(VOCO_NO_MEMORY, "no memory for the table of parameters");
    }
    return VOCO_OK;
}

void parameter_table_free(struct parameter_table *table)
{
    free(table->entries);
    *table = (struct parameter_table){0};
}

const struct parameter *parameter_find(const struct parameter_table *table, const char *name)
{
    for (int i = 0; i < table->count; i++) {
        if (strcmp(table->entries[i].name, name) == 0) {
            return &table->entries[i];
        }
    }
    return NULL;
}

size_t parameter_elements(const struct parameter_table *table, enum parameter_group last)
{
    size_t elements = 0;
    for (int i = 0; i < table->count; i++) {
        elements += table->entries[i].group <= last ? table->entries[i].count : 0;
    }
    return elements;
}

static int ends_with(const char *text, const char *ending)
{
    const size_t length = strlen(text);
    const size_t ending_length = strlen(ending);
    return length >= ending_length && strcmp(text + length - ending_length, ending) == 0;
}

int is_relative_position_index(const char *name)
{
    return ends_with(name, index_suffix);
}

int parameter_buffer_after(char name[parameter_name_size], const struct parameter *previous)
{
    if (!ends_with(previous->name, table_suffix)) {
        return 0;
    }
    const int stem = (int)(strlen(previous->name) - strlen(table_suffix));
    snprintf(name, parameter_name_size, "%.*s%s", stem, previous->name, index_suffix);
    return 1;
}

void model_relative_position_index(int64_t *index)
{
    const int side = relative_table_window;
    for (int a = 0; a < relative_position_tokens; a++) {
        for (int b = 0; b < relative_position_tokens; b++) {
            const int d = a / (side * side) - b / (side * side) + side - 1;
            const int h = a / side % side - b / side % side + side - 1;
            const int w = a % side - b % side + side - 1;
            index[a * relative_position_tokens + b] = 169 * d + 13 * h + w;
        }
    }
}
