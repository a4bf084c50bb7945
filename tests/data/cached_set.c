#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "data/cached_set.h"
#include "store/volume_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct cache_settings settings = {
    .preset = {.name = "abdomen", .spacing = {1.5, 1.5, 1.5}, .high = 1.0},
    .window = {12, 12, 4},
    .levels = 65535,
    .level = 1};

/* The folder of the array that training reads. */
static char *store_one(struct cached_set *set, size_t v, const int least[3])
{
    int *size = set->sizes[v];
    size[0] = least[0] + (int)v;
    size[1] = least[1] + (int)(v % 3);
    size[2] = least[2] + (int)(v % 2);
    struct volume volume = {.size = {size[0], size[1], size[2]}, .spacing = {1.5, 1.5, 1.5}};
    const size_t count = volume_count(&volume);
    volume.data = malloc(count * sizeof *volume.data);
    assert_non_null(volume.data);
    for (size_t i = 0; i < count; i++) {
        volume.data[i] = (float)((double)((4096 * v + i) % 65536) / 65535.0);
    }
    char path[128];
    snprintf(path, sizeof path, "%s/v%zu-%016zx.ome.zarr", set->folder, v, v);
    const struct cache_entry entry = {.key = v, .source = path, .path = path};
    const struct cache_request request = {
        .source = path, .name = "v", .set = "", .split = "training", .repeat = 1, .settings = &settings};
    const struct prepared_volume prepared = prepared_volume_of(&volume);
    uint64_t bytes = 0;
    assert_int_equal(cache_entry_store(&bytes, &entry, &request, &prepared, NULL, 1), VOCO_OK);
    free(volume.data);
    return cached_array_path(path, WINDOW_CROP);
}

void make_cached_set(struct cached_set *set, size_t count)
{
    static const int small[3] = {13, 12, 4};
    make_cached_set_from(set, count, small);
}

void make_cached_set_from(struct cached_set *set, size_t count, const int least[3])
{
    *set = (struct cached_set){.count = count};
    snprintf(set->folder, sizeof set->folder, "/tmp/voco_data_XXXXXX");
    assert_non_null(mkdtemp(set->folder));
    for (size_t v = 0; v < count; v++) {
        set->paths[v] = store_one(set, v, least);
    }
}

void remove_cached_set(struct cached_set *set)
{
    for (size_t v = 0; v < set->count; v++) {
        free(set->paths[v]);
    }
    assert_int_equal(remove_folder(set->folder), VOCO_OK);
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
