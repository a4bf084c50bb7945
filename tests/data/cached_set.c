#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/cached_set.h"
#include "store/volume_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct preset preset = {.name = "abdomen", .spacing = {1.5, 1.5, 1.5}, .high = 1.0};

static char *store_one(struct cached_set *set, const struct volume_cache *cache, size_t v)
{
    int *size = set->sizes[v];
    size[0] = 13 + (int)v;
    size[1] = 12 + (int)(v % 3);
    size[2] = 4 + (int)(v % 2);
    struct volume volume = {.size = {size[0], size[1], size[2]}, .spacing = {1.5, 1.5, 1.5}};
    const size_t count = (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
    volume.data = malloc(count * sizeof *volume.data);
    assert_non_null(volume.data);
    for (size_t i = 0; i < count; i++) {
        volume.data[i] = (float)((double)(4096 * v + i) / 65535.0);
    }
    char source[128];
    snprintf(source, sizeof source, "%s/v%zu.nii", set->folder, v);
    FILE *stream = fopen(source, "wb");
    assert_non_null(stream);
    assert_int_equal(fclose(stream), 0);
    struct cache_entry entry;
    assert_int_equal(cache_entry_of(&entry, cache, source), VOCO_OK);
    assert_int_equal(volume_cache_store(cache, &entry, &volume), VOCO_OK);
    char *path = strdup(entry.path);
    cache_entry_free(&entry);
    free(volume.data);
    assert_int_equal(unlink(source), 0);
    return path;
}

void make_cached_set(struct cached_set *set, size_t count)
{
    *set = (struct cached_set){.count = count};
    snprintf(set->folder, sizeof set->folder, "/tmp/voco_data_XXXXXX");
    assert_non_null(mkdtemp(set->folder));
    struct volume_cache cache;
    const int window[3] = {12, 12, 4};
    assert_int_equal(volume_cache_open(&cache, set->folder, &preset, window), VOCO_OK);
    for (size_t v = 0; v < count; v++) {
        set->paths[v] = store_one(set, &cache, v);
    }
    volume_cache_close(&cache);
}

void remove_cached_set(struct cached_set *set)
{
    for (size_t v = 0; v < set->count; v++) {
        (void)unlink(set->paths[v]);
        free(set->paths[v]);
    }
    assert_int_equal(rmdir(set->folder), 0);
}

int voxel_place(int place[3], const struct cached_set *set, float value)
{
    const int number = (int)((double)value * 65535.0 + 0.5);
    const int v = number / 4096;
    const int i = number % 4096;
    assert_in_range(v, 0, set->count - 1);
    place[0] = i % set->sizes[v][0];
    place[1] = i / set->sizes[v][0] % set->sizes[v][1];
    place[2] = i / set->sizes[v][0] / set->sizes[v][1];
    return v;
}
