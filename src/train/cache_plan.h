/* How the volumes of DATA come into the cache: as the corpus says, else as the recipe does. `voco cache` and
 * a run ask here, so that a run finds what was cached for it. */
#ifndef TRAIN_CACHE_PLAN_H
#define TRAIN_CACHE_PLAN_H

#include "data/dataset.h"
#include "store/volume_cache.h"
#include "train/recipe.h"

/* What the recipe says of a volume whose list does not say it. */
enum voco_status cache_settings_of_recipe(struct cache_settings *settings, const struct recipe *recipe);

struct cache_plan {
    struct cache_settings *settings; /* (sets of the dataset) */
    struct cache_request *requests;  /* (entries of the dataset), in their order */
};

/* A request for each entry; what it points to lies in the dataset and the plan. Fails with VOCO_NO_MEMORY
 * only. Free with cache_plan_free, also after a failure. */
enum voco_status cache_plan_make(struct cache_plan *plan, const struct dataset *dataset,
                                 const struct cache_settings *settings);
void cache_plan_free(struct cache_plan *plan);

#endif
