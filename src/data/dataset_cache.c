#include "data/dataset_cache.h"

#include "base/error.h"
#include "data/dataset_entries.h"
#include "store/volume_cache.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static int is_volume(const struct dirent *item)
{
    return item->d_name[0] != '.' && is_cached_volume_name(item->d_name);
}

/* By bytes, whatever the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int folder_is_cache(const char *folder)
{
    DIR *dir = opendir(folder);
    int found = 0;
    const struct dirent *item = NULL;
    while (dir != NULL && !found && (item = readdir(dir)) != NULL) {
        found = is_volume(item);
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}

static int same_preset(const struct preset *a, const struct preset *b)
{
    for (int axis = 0; axis < 3; axis++) {
        if (a->spacing[axis] != b->spacing[axis]) {
            return 0;
        }
    }
    return strcmp(a->name, b->name) == 0 && a->low == b->low && a->high == b->high &&
           a->intensity == b->intensity && a->window == b->window;
}

/* The set that the volume belongs to, made where there is none; below 0 without memory. */
static int set_of(struct dataset *dataset, const struct volume_attributes *attributes)
{
    for (int i = 0; i < dataset->set_count; i++) {
        const struct dataset_set *set = &dataset->sets[i];
        if (strcmp(set->name, attributes->set) == 0 && set->repeat == attributes->repeat &&
            same_preset(&set->preset, &attributes->preset)) {
            return i;
        }
    }
    if (dataset_start_set(dataset, attributes->set) != VOCO_OK) {
        return -1;
    }
    struct dataset_set *set = &dataset->sets[dataset->set_count - 1];
    set->has_preset = 1;
    set->preset = attributes->preset;
    set->repeat = attributes->repeat;
    return dataset->set_count - 1;
}

/* Training, where the name is none of the three. */
static enum dataset_split split_of(const char *name)
{
    enum dataset_split split = SPLIT_TEST;
    while (split > SPLIT_TRAINING && strcmp(name, dataset_split_names[split]) != 0) {
        split--;
    }
    return split;
}

static enum voco_status add_volume(struct dataset *dataset, const char *folder, const char *item)
{
    char *path = path_in_folder(folder, item);
    if (path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    }
    struct volume_attributes attributes;
    enum voco_status status = volume_attributes_read(&attributes, path);
    if (status == VOCO_OK) {
        const int set = set_of(dataset, &attributes);
        const enum dataset_split split = split_of(attributes.split);
        const struct dataset_entry entry = {
            .path = path, .name = attributes.name, .split = split, .listed = split, .set = set};
        dataset->levels = attributes.levels > dataset->levels ? attributes.levels : dataset->levels;
        status = set < 0 ? VOCO_NO_MEMORY : dataset_append(dataset, &entry);
        if (status == VOCO_OK) { /* they belong to the list now */
            path = NULL;
            attributes.name = NULL;
        }
        volume_attributes_free(&attributes);
    }
    free(path);
    return status;
}

enum voco_status dataset_add_cache(struct dataset *dataset, const char *folder)
{
    struct dirent **items = NULL;
    const int count = scandir(folder, &items, is_volume, by_name);
    if (count < 0) {
        return fail_errno("%s: cannot read the folder", folder);
    }
    enum voco_status status = VOCO_OK;
    dataset->is_cache = 1;
    for (int i = 0; i < count; i++) {
        if (status == VOCO_OK) {
            status = add_volume(dataset, folder, items[i]->d_name);
        }
        free(items[i]);
    }
    free(items);
    return status == VOCO_OK ? dataset_group_by_split(dataset) : status;
}

char **dataset_array_paths(const struct dataset *dataset)
{
    char **paths = calloc(dataset->count + 1, sizeof *paths);
    for (size_t i = 0; paths != NULL && i < dataset->count; i++) {
        const struct dataset_entry *entry = &dataset->entries[i];
        paths[i] = cached_array_path(entry->path, dataset->sets[entry->set].preset.window);
        if (paths[i] == NULL) {
            while (i-- > 0) {
                free(paths[i]);
            }
            free(paths);
            return NULL;
        }
    }
    return paths;
}
