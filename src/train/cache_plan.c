#include "train/cache_plan.h"

#include "base/error.h"

#include <stdlib.h>

enum voco_status cache_settings_of_recipe(struct cache_settings *settings, const struct recipe *recipe)
{
    *settings = (struct cache_settings){.levels = levels_of_bits(recipe->bits), .level = cache_default_level};
    sampling_window_size(settings->window, &recipe->sampling);
    const enum voco_status status = preset_from_name(&settings->preset, recipe->preset);
    if (recipe->window != RECIPE_WINDOW_PRESET) {
        settings->preset.window = recipe->window == RECIPE_WINDOW_RESIZE ? WINDOW_RESIZE : WINDOW_CROP;
    }
    return status;
}

enum voco_status cache_plan_make(struct cache_plan *plan, const struct dataset *dataset,
                                 const struct cache_settings *settings)
{
    *plan = (struct cache_plan){.settings = calloc((size_t)dataset->set_count + 1, sizeof *plan->settings),
                                .requests = calloc(dataset->count + 1, sizeof *plan->requests)};
    if (plan->settings == NULL || plan->requests == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for a list of %zu volumes", dataset->count);
    }
    for (int i = 0; i < dataset->set_count; i++) {
        plan->settings[i] = *settings;
        if (dataset->sets[i].has_preset) {
            plan->settings[i].preset = dataset->sets[i].preset;
        }
    }
    for (size_t i = 0; i < dataset->count; i++) {
        const struct dataset_entry *entry = &dataset->entries[i];
        const struct dataset_set *set = &dataset->sets[entry->set];
        plan->requests[i] = (struct cache_request){.source = entry->path,
                                                   .name = entry->name,
                                                   .set = set->name,
                                                   .split = dataset_split_names[entry->listed],
                                                   .repeat = set->repeat,
                                                   .settings = &plan->settings[entry->set]};
    }
    return VOCO_OK;
}

void cache_plan_free(struct cache_plan *plan)
{
    free(plan->settings);
    free(plan->requests);
    *plan = (struct cache_plan){0};
}
