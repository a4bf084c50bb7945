#include "train/recipe.h"

#include "base/error.h"
#include "store/volume_cache.h"
#include "train/builtin_recipes.h"
#include "train/recipe_settings.h"

#include <stdlib.h>
#include <string.h>

static const size_t longest_recipe = (size_t)1 << 20; /* bytes */

void recipe_default(struct recipe *recipe)
{
    *recipe = (struct recipe){
        .model = {.feature_size = 48, .roi = 64, .projector = 1024, .patch_merging = PATCH_MERGING_FIXED},
        .sampling = {.roi = 64, .crops = 2, .base_grid = {3, 3}},
        .augmentation = augmentation_default,
        .preset = "abdomen",
        .held_out = 0.05,
        .loader_threads = 2,
        .loader_ahead = 2,
        .bits = 8,
        .chunk_cache = (uint64_t)1 << 30,
        .drop = DROP_CROP,
        .drop_rate = 0.2,
        .ema_decay = 0.9,
        .volumes = 2,
        .steps = 2000000,
        .schedule = SCHEDULE_COSINE,
        .warm_up = 5000,
        .learning_rate = 1e-4,
        .weight_decay = 0.01,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .epsilon = 1e-8,
        .clip_norm = 0.0,
        .seed = 1,
        .checkpoint_every = 1000,
        .keep = 3,
        .max_skipped = 20,
        .tensorboard = 1,
        .sync_bn = 0,
        .reduce = RANKS_FLOAT32,
        .shard_optimizer = 0,
        .compute = "cpu",
        .precision = PRECISION_FLOAT32,
        .crops_at_once = 0,
        .memory = 0,
        .evaluation_draws = 8,
        .evaluation_volumes = 2,
    };
}

const char *recipe_builtin_name(int i)
{
    return builtin_recipes[i].name;
}

static enum voco_status load_file(struct recipe *recipe, const char *path)
{
    enum voco_status status = VOCO_OK;
    char *text = malloc(longest_recipe + 1);
    FILE *stream = fopen(path, "rb");
    if (text == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    if (stream == NULL) {
        status = fail_errno("%s: cannot open the recipe", path);
        goto done;
    }
    const size_t length = fread(text, 1, longest_recipe + 1, stream);
    if (ferror(stream)) {
        status = fail_errno("%s: cannot read the recipe", path);
    } else if (length > longest_recipe) {
        status = fail(VOCO_BAD_INPUT, "%s: too long for a recipe", path);
    } else {
        status = recipe_parse_yaml(recipe, text, length, path);
    }
done:
    if (stream != NULL) {
        (void)fclose(stream);
    }
    free(text);
    return status;
}

enum voco_status recipe_load(struct recipe *recipe, const char *name_or_path)
{
    for (const struct builtin_recipe *builtin = builtin_recipes; builtin->name != NULL; builtin++) {
        if (strcmp(name_or_path, builtin->name) == 0) {
            return recipe_parse_yaml(recipe, builtin->yaml, strlen(builtin->yaml), builtin->name);
        }
    }
    const enum voco_status status = load_file(recipe, name_or_path);
    if (status == VOCO_IO && strpbrk(name_or_path, "./") == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: neither a file nor one of the recipes tiny, base, large, huge",
                    name_or_path);
    }
    return status;
}

enum voco_status recipe_check(struct recipe *recipe)
{
    char text[setting_text_size];
    char reason[setting_reason_size];
    for (int i = 0; i < recipe_setting_count; i++) {
        for (int j = 0; j < recipe_settings[i].count; j++) {
            recipe_setting_format(text, recipe, &recipe_settings[i], j);
            if (!recipe_setting_assign(recipe, &recipe_settings[i], j, text, reason)) {
                return fail(VOCO_BAD_INPUT, "%s", reason);
            }
        }
    }
    if (levels_of_bits(recipe->bits) == 0) {
        return fail(VOCO_BAD_INPUT, "data.bits: \"%d\" is not 8, 12 or 16", recipe->bits);
    }
    recipe->sampling.roi = recipe->model.roi;
    const enum voco_status status = model_config_check(&recipe->model);
    return status == VOCO_OK ? sampling_check(&recipe->sampling) : status;
}
