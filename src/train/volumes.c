#include "train/volumes.h"

#include "base/error.h"
#include "base/log.h"

#include <stdlib.h>
#include <unistd.h>

static int processors(void)
{
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (count > 256 ? 256 : (int)count);
}

static enum voco_status prepare_split(struct preparation *out, const struct prepared_volumes *volumes,
                                      enum dataset_split split, const volatile sig_atomic_t *stop)
{
    const size_t count = dataset_count(&volumes->dataset, split);
    const char **paths = dataset_paths(&volumes->dataset, split);
    if (paths == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the paths of %zu volumes", count);
    }
    const enum voco_status status =
        volume_cache_prepare(out, &volumes->cache, paths, count, processors(), stop);
    free(paths);
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
    enum voco_status status = dataset_open(&volumes->dataset, data);
    if (status == VOCO_OK) {
        status = dataset_hold_out(&volumes->dataset, recipe->held_out);
    }
    if (status != VOCO_OK) {
        return status;
    }
    choose(&volumes->dataset, choice);
    struct preset preset;
    int window[3];
    status = preset_from_name(&preset, recipe->preset);
    if (status != VOCO_OK) {
        return status;
    }
    if (recipe->window != RECIPE_WINDOW_PRESET) {
        preset.window = recipe->window == RECIPE_WINDOW_RESIZE ? WINDOW_RESIZE : WINDOW_CROP;
    }
    sampling_window_size(window, &recipe->sampling);
    status = volume_cache_open(&volumes->cache, cache_folder, &preset, window);
    if (status == VOCO_OK && choice == VOLUMES_TRAINING_AND_HELD_OUT) {
        if (dataset_count(&volumes->dataset, SPLIT_TRAINING) == 0) {
            return fail(VOCO_BAD_INPUT, "%s: no volume is listed for training", data);
        }
        status = prepare_split(&volumes->training, volumes, SPLIT_TRAINING, stop);
    }
    if (status != VOCO_OK || dataset_count(&volumes->dataset, SPLIT_VALIDATION) == 0) {
        if (status == VOCO_OK && choice != VOLUMES_TRAINING_AND_HELD_OUT) {
            status = fail(VOCO_BAD_INPUT, "%s: no volume is held out; --all measures on all of them", data);
        }
        return status;
    }
    status = prepare_split(&volumes->held_out, volumes, SPLIT_VALIDATION, stop);
    if (status == VOCO_BAD_INPUT && choice == VOLUMES_TRAINING_AND_HELD_OUT) {
        log_line(LOG_WARNING, "none of the held-out volumes can be used: %s", voco_error_message());
        status = VOCO_OK;
    }
    return status;
}

void prepared_volumes_free(struct prepared_volumes *volumes)
{
    preparation_free(&volumes->training);
    preparation_free(&volumes->held_out);
    volume_cache_close(&volumes->cache);
    dataset_free(&volumes->dataset);
}

void prepared_volumes_report(const struct prepared_volumes *volumes)
{
    const struct preparation *parts[2] = {&volumes->training, &volumes->held_out};
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
