#include "data/dataset_entries.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const dataset_split_names[] = {"training", "validation", "test", NULL};

static enum voco_status no_memory(const char *name)
{
    return fail(VOCO_NO_MEMORY, "%s: the list of its volumes does not fit in memory", name);
}

char *path_in_folder(const char *folder, const char *name)
{
    if (name[0] == '/') {
        return strdup(name);
    }
    const size_t folder_length = strlen(folder);
    const int ends = folder_length > 0 && folder[folder_length - 1] == '/';
    char *path = NULL;
    return asprintf(&path, "%s%s%s", folder, ends ? "" : "/", name) < 0 ? NULL : path;
}

enum voco_status dataset_start_set(struct dataset *dataset, const char *name)
{
    struct dataset_set *grown =
        reallocarray(dataset->sets, (size_t)dataset->set_count + 1, sizeof *dataset->sets);
    if (grown == NULL) {
        return no_memory(name);
    }
    dataset->sets = grown;
    char *copy = strdup(name);
    if (copy == NULL) {
        return no_memory(name);
    }
    dataset->sets[dataset->set_count++] = (struct dataset_set){.name = copy, .repeat = 1};
    return VOCO_OK;
}

static enum voco_status make_room(struct dataset *dataset, const char *folder)
{
    if (dataset->count < dataset->capacity) {
        return VOCO_OK;
    }
    const size_t capacity = dataset->capacity == 0 ? 64 : 2 * dataset->capacity;
    struct dataset_entry *grown = reallocarray(dataset->entries, capacity, sizeof *grown);
    if (grown == NULL) {
        return no_memory(folder);
    }
    dataset->entries = grown;
    dataset->capacity = capacity;
    return VOCO_OK;
}

enum voco_status dataset_append(struct dataset *dataset, const struct dataset_entry *entry)
{
    if (make_room(dataset, entry->name) != VOCO_OK) {
        return VOCO_NO_MEMORY;
    }
    dataset->entries[dataset->count++] = *entry;
    dataset->sets[entry->set].count++;
    return VOCO_OK;
}

enum voco_status dataset_add(struct dataset *dataset, const char *folder, const char *name, size_t length,
                             enum dataset_split split)
{
    while (length >= 2 && name[0] == '.' && name[1] == '/') {
        name += 2;
        length -= 2;
        while (length > 0 && name[0] == '/') {
            name++;
            length--;
        }
    }
    const struct dataset_set *set = &dataset->sets[dataset->set_count - 1];
    const size_t prefix = set->name[0] != '\0' ? strlen(set->name) + 1 : 0;
    char *full = malloc(prefix + length + 1);
    if (full == NULL) {
        return no_memory(folder);
    }
    if (prefix > 0) {
        memcpy(full, set->name, prefix - 1);
        full[prefix - 1] = '/';
    }
    memcpy(full + prefix, name, length);
    full[prefix + length] = '\0';
    char *path = path_in_folder(folder, full + prefix);
    if (path == NULL) {
        free(full);
        return no_memory(folder);
    }
    const struct dataset_entry entry = {
        .path = path, .name = full, .split = split, .listed = split, .set = dataset->set_count - 1};
    const enum voco_status status = dataset_append(dataset, &entry);
    if (status != VOCO_OK) {
        free(path);
        free(full);
    }
    return status;
}

void dataset_cut(struct dataset *dataset, size_t first)
{
    while (dataset->count > first) {
        dataset->count--;
        free(dataset->entries[dataset->count].path);
        free(dataset->entries[dataset->count].name);
        dataset->sets[dataset->set_count - 1].count--;
    }
}

void dataset_free(struct dataset *dataset)
{
    for (size_t i = 0; i < dataset->count; i++) {
        free(dataset->entries[i].path);
        free(dataset->entries[i].name);
    }
    for (int s = 0; s < dataset->set_count; s++) {
        free(dataset->sets[s].name);
        free(dataset->sets[s].problem);
    }
    free(dataset->entries);
    free(dataset->sets);
    *dataset = (struct dataset){0};
}

enum voco_status dataset_group_by_split(struct dataset *dataset)
{
    struct dataset_entry *room = dataset->count > 0 ? calloc(dataset->count, sizeof *room) : NULL;
    if (room == NULL) {
        return dataset->count == 0
                   ? VOCO_OK
                   : fail(VOCO_NO_MEMORY, "a list of %zu volumes does not fit in memory", dataset->count);
    }
    size_t count = 0;
    for (enum dataset_split split = SPLIT_TRAINING; split <= SPLIT_TEST; split++) {
        for (size_t i = 0; i < dataset->count; i++) {
            if (dataset->entries[i].split == split) {
                room[count++] = dataset->entries[i];
            }
        }
    }
    memcpy(dataset->entries, room, count * sizeof *room);
    free(room);
    return VOCO_OK;
}

size_t dataset_count(const struct dataset *dataset, enum dataset_split split)
{
    size_t count = 0;
    for (size_t i = 0; i < dataset->count; i++) {
        count += dataset->entries[i].split == split;
    }
    return count;
}
