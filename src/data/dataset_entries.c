#include "data/dataset_entries.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum voco_status no_memory(const char *name)
{
    return fail(VOCO_NO_MEMORY, "%s: the list of its volumes does not fit in memory", name);
}

/* folder/name, or the name alone where it is absolute; NULL without memory. */
static char *path_in(const char *folder, const char *name)
{
    if (name[0] == '/') {
        return strdup(name);
    }
    const size_t folder_length = strlen(folder);
    const int ends = folder_length > 0 && folder[folder_length - 1] == '/';
    char *path = NULL;
    return asprintf(&path, "%s%s%s", folder, ends ? "" : "/", name) < 0 ? NULL : path;
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
    if (dataset->count == dataset->capacity) {
        const size_t capacity = dataset->capacity == 0 ? 64 : 2 * dataset->capacity;
        struct dataset_entry *grown = reallocarray(dataset->entries, capacity, sizeof *grown);
        if (grown == NULL) {
            return no_memory(folder);
        }
        dataset->entries = grown;
        dataset->capacity = capacity;
    }
    char *copy = strndup(name, length);
    char *path = copy != NULL ? path_in(folder, copy) : NULL;
    if (path == NULL) {
        free(copy);
        return no_memory(folder);
    }
    dataset->entries[dataset->count++] = (struct dataset_entry){path, copy, split};
    return VOCO_OK;
}

void dataset_free(struct dataset *dataset)
{
    for (size_t i = 0; i < dataset->count; i++) {
        free(dataset->entries[i].path);
        free(dataset->entries[i].name);
    }
    free(dataset->entries);
    *dataset = (struct dataset){0};
}

size_t dataset_count(const struct dataset *dataset, enum dataset_split split)
{
    size_t count = 0;
    for (size_t i = 0; i < dataset->count; i++) {
        count += dataset->entries[i].split == split;
    }
    return count;
}

const char **dataset_paths(const struct dataset *dataset, enum dataset_split split)
{
    const size_t count = dataset_count(dataset, split);
    const char **paths = count > 0 ? calloc(count, sizeof *paths) : NULL;
    for (size_t i = 0, next = 0; paths != NULL && i < dataset->count; i++) {
        if (dataset->entries[i].split == split) {
            paths[next++] = dataset->entries[i].path;
        }
    }
    return paths;
}
