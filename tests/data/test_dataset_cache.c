/* A cache as DATA: its volumes as they were listed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "data/dataset.h"
#include "store/volume_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void add(const char *name, const char *set, const char *split, int repeat, enum window_kind window)
{
    const int levels = strcmp(name, "c") == 0 ? 4095 : 255;
    struct cache_settings settings = {.window = {9, 9, 3}, .levels = levels, .level = 1};
    assert_int_equal(preset_from_name(&settings.preset, "abdomen"), VOCO_OK);
    settings.preset.window = window;
    struct volume volume = {.size = {9, 9, 3}, .spacing = {1, 1, 1}};
    volume.data = calloc(volume_count(&volume), sizeof *volume.data);
    assert_non_null(volume.data);
    char path[128];
    snprintf(path, sizeof path, "%s/%s-0000000000000001.ome.zarr", folder, name);
    const struct cache_entry entry = {.key = 1, .source = path, .path = path};
    const struct cache_request request = {
        .source = path, .name = name, .set = set, .split = split, .repeat = repeat, .settings = &settings};
    const struct prepared_volume prepared = prepared_volume_of(&volume);
    uint64_t bytes = 0;
    assert_int_equal(cache_entry_store(&bytes, &entry, &request, &prepared, &prepared, 1), VOCO_OK);
    volume_free(&volume);
}

static void volumes_are_as_they_were_listed(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/voco_list_XXXXXX");
    assert_non_null(mkdtemp(folder));
    add("d", "BTCV", "validation", 8, WINDOW_CROP);
    add("c", "BTCV", "training", 8, WINDOW_CROP);
    add("b", "HNSCC", "training", 8, WINDOW_RESIZE);
    add("a", "BTCV", "training", 8, WINDOW_CROP);
    add("e", "BTCV", "training", 2, WINDOW_CROP);
    struct dataset dataset;
    assert_int_equal(dataset_open(&dataset, folder), VOCO_OK);
    assert_true(dataset.is_cache);
    assert_int_equal(dataset.count, 5);
    assert_int_equal(dataset.set_count, 3);
    assert_int_equal(dataset.levels, 4095);
    static const char *const names[] = {"a", "b", "c", "e", "d"};
    char **arrays = dataset_array_paths(&dataset);
    assert_non_null(arrays);
    for (int i = 0; i < 5; i++) {
        const struct dataset_entry *entry = &dataset.entries[i];
        const struct dataset_set *set = &dataset.sets[entry->set];
        const int is_b = strcmp(names[i], "b") == 0;
        assert_string_equal(entry->name, names[i]);
        assert_int_equal(entry->split, i == 4 ? SPLIT_VALIDATION : SPLIT_TRAINING);
        assert_int_equal(set->repeat, i == 3 ? 2 : 8);
        assert_string_equal(set->name, is_b ? "HNSCC" : "BTCV");
        assert_true(set->has_preset);
        assert_string_equal(strrchr(arrays[i], '/'), is_b ? "/window" : "/0");
        struct shard shard;
        assert_int_equal(cached_array_open(&shard, arrays[i]), VOCO_OK);
        shard_close(&shard);
        free(arrays[i]);
    }
    free(arrays);
    dataset_free(&dataset);
    char path[128];
    snprintf(path, sizeof path, "%s/c-0000000000000001.ome.zarr/zarr.json", folder);
    assert_int_equal(truncate(path, 30), 0);
    assert_int_equal(dataset_open(&dataset, folder), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "/c-0000000000000001.ome.zarr: damaged"));
    assert_int_equal(remove_folder(folder), VOCO_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(volumes_are_as_they_were_listed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
