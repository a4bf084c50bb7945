#include "train/volumes.h"

#include "base/error.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int processors(void)
{
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (count > 256 ? 256 : (int)count);
}

static const char *const split_names[] = {"training", "validation", "test"}; /* enum dataset_split */

/* How the volumes of one set are prepared: as the corpus says, else as the recipe does. */
static enum voco_status settings_of(struct cache_settings *settings, const struct dataset_set *set,
                                    const struct recipe *recipe)
{
    *settings = (struct cache_settings){.levels = levels_of_bits(recipe->bits), .level = 3};
    sampling_window_size(settings->window, &recipe->sampling);
    if (set->has_preset) {
        settings->preset = set->preset;
        return VOCO_OK;
    }
    const enum voco_status status = preset_from_name(&settings->preset, recipe->preset);
    if (recipe->window != RECIPE_WINDOW_PRESET) {
        settings->preset.window = recipe->window == RECIPE_WINDOW_RESIZE ? WINDOW_RESIZE : WINDOW_CROP;
    }
    return status;
}

/* The samples of a part: array i `repeats[i]` times. */
static enum voco_status repeat_samples(struct volume_part *part, const int *repeats)
{
    size_t count = 0;
    for (size_t i = 0; i < part->count; i++) {
        count += (size_t)repeats[i];
    }
    part->samples = calloc(count > 0 ? count : 1, sizeof *part->samples);
    if (part->samples == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for a list of %zu samples", count);
    }
    for (size_t i = 0; i < part->count; i++) {
        for (int copy = 0; copy < repeats[i]; copy++) {
            part->samples[part->sample_count++] = part->arrays[i];
        }
    }
    return VOCO_OK;
}

/* Of one split of DATA: which entries, and how each is prepared. */
struct plan {
    struct cache_settings *settings; /* one per set */
    struct cache_request *requests;  /* (count) */
    int *repeats;                    /* (count) of the requests, afterwards of the arrays */
    size_t count;
};

static void plan_free(struct plan *plan)
{
    free(plan->settings);
    free(plan->requests);
    free(plan->repeats);
}

static enum voco_status plan_split(struct plan *plan, const struct dataset *dataset, enum dataset_split split,
                                   const struct recipe *recipe)
{
    const size_t count = dataset_count(dataset, split);
    *plan = (struct plan){.settings = calloc((size_t)dataset->set_count, sizeof *plan->settings),
                          .requests = calloc(count, sizeof *plan->requests),
                          .repeats = calloc(count, sizeof *plan->repeats)};
    if (plan->settings == NULL || plan->requests == NULL || plan->repeats == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for a list of %zu volumes", count);
    }
    for (int i = 0; i < dataset->set_count; i++) {
        const enum voco_status status = settings_of(&plan->settings[i], &dataset->sets[i], recipe);
        if (status != VOCO_OK) {
            return status;
        }
    }
    for (size_t i = 0; i < dataset->count; i++) {
        const struct dataset_entry *entry = &dataset->entries[i];
        if (entry->split == split) {
            const struct dataset_set *set = &dataset->sets[entry->set];
            plan->repeats[plan->count] = set->repeat;
            plan->requests[plan->count++] = (struct cache_request){.source = entry->path,
                                                                   .name = entry->name,
                                                                   .set = set->name,
                                                                   .split = split_names[entry->listed],
                                                                   .repeat = set->repeat,
                                                                   .settings = &plan->settings[entry->set]};
        }
    }
    return VOCO_OK;
}

static enum voco_status prepare_split(struct volume_part *part, const struct dataset *dataset,
                                      enum dataset_split split, const char *folder,
                                      const struct recipe *recipe, const volatile sig_atomic_t *stop)
{
    struct plan plan;
    enum voco_status status = plan_split(&plan, dataset, split, recipe);
    if (status == VOCO_OK) {
        const struct preparation_options options = {.folder = folder, .jobs = processors(), .stop = stop};
        status = volume_cache_prepare(&part->preparation, plan.requests, plan.count, &options);
        part->arrays = part->preparation.paths;
        part->count = part->preparation.count;
        part->failures = part->preparation.failures;
        part->failure_count = part->preparation.failure_count;
        for (size_t i = 0; i < part->count; i++) { /* a later request than its array, never an earlier one */
            plan.repeats[i] = plan.repeats[part->preparation.requests[i]];
        }
    }
    if (status == VOCO_OK) {
        status = repeat_samples(part, plan.repeats);
    }
    plan_free(&plan);
    return status;
}

/* The volumes of one split of a cache. */
static enum voco_status take_split(struct volume_part *part, const struct dataset *dataset,
                                   enum dataset_split split)
{
    const size_t count = dataset_count(dataset, split);
    int *repeats = calloc(count > 0 ? count : 1, sizeof *repeats);
    char **arrays = dataset_array_paths(dataset);
    part->arrays = calloc(count > 0 ? count : 1, sizeof *part->arrays);
    enum voco_status status = VOCO_OK;
    if (repeats == NULL || arrays == NULL || part->arrays == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for a list of %zu volumes", dataset->count);
        goto done;
    }
    for (size_t i = 0; i < dataset->count; i++) {
        if (dataset->entries[i].split == split) {
            repeats[part->count] = dataset->sets[dataset->entries[i].set].repeat;
            part->arrays[part->count++] = arrays[i];
            arrays[i] = NULL;
        }
    }
    status = repeat_samples(part, repeats);
done:
    for (size_t i = 0; arrays != NULL && i < dataset->count; i++) {
        free(arrays[i]);
    }
    free(arrays);
    free(repeats);
    return status;
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
    *volumes = (struct prepared_volumes){0};
    struct dataset *dataset = &volumes->dataset;
    enum voco_status status = dataset_open(dataset, data);
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
        status = dataset->is_cache
                     ? take_split(&volumes->training, dataset, SPLIT_TRAINING)
                     : prepare_split(&volumes->training, dataset, SPLIT_TRAINING, cache_folder, recipe, stop);
    }
    if (status != VOCO_OK || dataset_count(dataset, SPLIT_VALIDATION) == 0) {
        if (status == VOCO_OK && choice != VOLUMES_TRAINING_AND_HELD_OUT) {
            status = fail(VOCO_BAD_INPUT, "%s: no volume is held out; --all measures on all of them", data);
        }
        return status;
    }
    status = dataset->is_cache
                 ? take_split(&volumes->held_out, dataset, SPLIT_VALIDATION)
                 : prepare_split(&volumes->held_out, dataset, SPLIT_VALIDATION, cache_folder, recipe, stop);
    if (status == VOCO_BAD_INPUT && choice == VOLUMES_TRAINING_AND_HELD_OUT) {
        log_line(LOG_WARNING, "none of the held-out volumes can be used: %s", voco_error_message());
        status = VOCO_OK;
    }
    return status;
}

static void part_free(struct volume_part *part)
{
    for (size_t i = 0; part->arrays != part->preparation.paths && i < part->count; i++) {
        free(part->arrays[i]);
    }
    if (part->arrays != part->preparation.paths) {
        free(part->arrays);
    }
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
    const size_t bad = parts[0]->failure_count + parts[1]->failure_count;
    if (bad == 0) {
        return;
    }
    log_line(LOG_WARNING, "%zu of %zu volumes were left out:", bad, bad + parts[0]->count + parts[1]->count);
    for (int part = 0; part < 2; part++) {
        for (size_t i = 0; i < parts[part]->failure_count; i++) {
            log_line(LOG_WARNING, "  %s", parts[part]->failures[i].message);
        }
    }
}

enum voco_status recipe_chunk_cache_open(struct chunk_cache **chunks, const struct recipe *recipe)
{
    return chunk_cache_open(chunks, recipe->chunk_cache, chunk_bytes(levels_of_bits(recipe->bits)));
}
