#include "train/volumes.h"

#include "base/error.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "base/processors.h"
#include "train/cache_plan.h"

#include <stdlib.h>

/* The first entry of a split, which lie together. */
static size_t first_of(const struct dataset *dataset, enum dataset_split split)
{
    size_t first = 0;
    while (first < dataset->count && dataset->entries[first].split != split) {
        first++;
    }
    return first;
}

/* The samples of a part: array i as often as entry first + entries[i] (NULL: first + i) is repeated. */
static enum voco_status repeat_samples(struct volume_part *part, const struct dataset *dataset, size_t first,
                                       const size_t *entries)
{
    for (int filling = 0; filling < 2; filling++) {
        size_t count = 0;
        for (size_t i = 0; i < part->count; i++) {
            const struct dataset_entry *entry = &dataset->entries[first + (entries != NULL ? entries[i] : i)];
            for (int copy = 0; copy < dataset->sets[entry->set].repeat; copy++, count++) {
                if (filling) {
                    part->samples[count] = part->arrays[i];
                }
            }
        }
        if (!filling) {
            part->samples = calloc(count > 0 ? count : 1, sizeof *part->samples);
        }
        if (part->samples == NULL) {
            return fail(VOCO_NO_MEMORY, "no memory for a list of %zu samples", count);
        }
        part->sample_count = count;
    }
    return VOCO_OK;
}

/* 0 leaves it to the preparation, which knows nothing of other processes. */
static uint64_t free_share(const struct preparation_team *team)
{
    return team->processes > 1 ? memory_available() / 2 / (uint64_t)team->processes : 0;
}

/* Brings the volumes of one split into the cache. */
static enum voco_status prepare_split(struct volume_part *part, const struct dataset *dataset,
                                      enum dataset_split split, const char *folder,
                                      const struct recipe *recipe, const struct preparation_team *team,
                                      const volatile sig_atomic_t *stop)
{
    const size_t first = first_of(dataset, split);
    const uint64_t taken = memory_resident();
    const struct preparation_options options = {.folder = folder,
                                                .jobs = team->threads,
                                                .memory = recipe->memory == 0      ? free_share(team)
                                                          : recipe->memory > taken ? recipe->memory - taken
                                                                                   : 1,
                                                .stop = stop};
    struct preparation *preparation = &part->preparation;
    struct cache_settings settings;
    struct cache_plan plan = {0};
    enum voco_status status = cache_settings_of_recipe(&settings, recipe);
    if (status == VOCO_OK) {
        status = cache_plan_make(&plan, dataset, &settings);
    }
    if (status == VOCO_OK) {
        status =
            volume_cache_prepare(preparation, plan.requests + first, dataset_count(dataset, split), &options);
        part->arrays = preparation->paths;
        part->count = preparation->count;
        preparation->paths = NULL;
    }
    if (status == VOCO_OK) {
        status = repeat_samples(part, dataset, first, preparation->requests);
    }
    cache_plan_free(&plan);
    return status;
}

/* The volumes of one split of a cache. */
static enum voco_status take_split(struct volume_part *part, const struct dataset *dataset,
                                   enum dataset_split split)
{
    const size_t first = first_of(dataset, split);
    const size_t end = first + dataset_count(dataset, split);
    char **arrays = dataset_array_paths(dataset);
    part->arrays = calloc(end - first + 1, sizeof *part->arrays);
    if (arrays == NULL || part->arrays == NULL) {
        free(arrays);
        return fail(VOCO_NO_MEMORY, "no memory for a list of %zu volumes", dataset->count);
    }
    for (size_t i = 0; i < dataset->count; i++) {
        if (i >= first && i < end) {
            part->arrays[part->count++] = arrays[i];
        } else {
            free(arrays[i]);
        }
    }
    free(arrays);
    return repeat_samples(part, dataset, first, NULL);
}

static void choose(struct dataset *dataset, enum volume_choice choice)
{
    for (size_t i = 0; i < dataset->count && choice == VOLUMES_ALL; i++) {
        dataset->entries[i].split = SPLIT_VALIDATION;
    }
}

enum voco_status prepared_volumes_open(struct prepared_volumes *volumes, const char *data,
                                       const char *cache_folder, const struct recipe *recipe,
                                       enum volume_choice choice, const volatile sig_atomic_t *stop)
{
    const struct preparation_team alone = {.threads = processor_count(), .processes = 1};
    return prepared_volumes_open_among(volumes, data, cache_folder, recipe, choice, &alone, stop);
}

enum voco_status prepared_volumes_open_among(struct prepared_volumes *volumes, const char *data,
                                             const char *cache_folder, const struct recipe *recipe,
                                             enum volume_choice choice, const struct preparation_team *team,
                                             const volatile sig_atomic_t *stop)
{
    *volumes = (struct prepared_volumes){0};
    struct dataset *dataset = &volumes->dataset;
    enum voco_status status = dataset_open(dataset, data);
    volumes->levels = dataset->is_cache ? dataset->levels : levels_of_bits(recipe->bits);
    if (status == VOCO_OK) {
        status = dataset_hold_out(dataset, recipe->held_out);
    }
    if (status != VOCO_OK) {
        return status;
    }
    choose(dataset, choice);
    if (choice == VOLUMES_TRAINING_AND_HELD_OUT) {
        if (dataset_count(dataset, SPLIT_TRAINING) == 0) {
            return fail(VOCO_BAD_INPUT, "%s: no volume is listed for training", data);
        }
        status = dataset->is_cache ? take_split(&volumes->training, dataset, SPLIT_TRAINING)
                                   : prepare_split(&volumes->training, dataset, SPLIT_TRAINING, cache_folder,
                                                   recipe, team, stop);
    }
    if (status != VOCO_OK || dataset_count(dataset, SPLIT_VALIDATION) == 0) {
        if (status == VOCO_OK && choice != VOLUMES_TRAINING_AND_HELD_OUT) {
            status = fail(VOCO_BAD_INPUT, "%s: no volume is held out; --all measures on all of them", data);
        }
        return status;
    }
    status = dataset->is_cache ? take_split(&volumes->held_out, dataset, SPLIT_VALIDATION)
                               : prepare_split(&volumes->held_out, dataset, SPLIT_VALIDATION, cache_folder,
                                               recipe, team, stop);
    if (status == VOCO_BAD_INPUT && choice == VOLUMES_TRAINING_AND_HELD_OUT) {
        log_line(LOG_WARNING, "none of the held-out volumes can be used: %s", voco_error_message());
        status = VOCO_OK;
    }
    return status;
}

static void part_free(struct volume_part *part)
{
    for (size_t i = 0; part->arrays != NULL && i < part->count; i++) {
        free(part->arrays[i]);
    }
    free(part->arrays);
    free(part->samples);
    preparation_free(&part->preparation);
}

void prepared_volumes_free(struct prepared_volumes *volumes)
{
    part_free(&volumes->training);
    part_free(&volumes->held_out);
    dataset_free(&volumes->dataset);
}

void prepared_volumes_report(const struct prepared_volumes *volumes)
{
    const struct volume_part *parts[2] = {&volumes->training, &volumes->held_out};
    const size_t bad = parts[0]->preparation.failure_count + parts[1]->preparation.failure_count;
    if (bad == 0) {
        return;
    }
    log_line(LOG_WARNING, "%zu of %zu volumes were left out:", bad, bad + parts[0]->count + parts[1]->count);
    for (int part = 0; part < 2; part++) {
        for (size_t i = 0; i < parts[part]->preparation.failure_count; i++) {
            log_line(LOG_WARNING, "  %s", parts[part]->preparation.failures[i].message);
        }
    }
}
