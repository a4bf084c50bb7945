/* One volume in the cache: its key, its attributes, what is accepted as whole, and what a killed writer
 * leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic_file.h"
#include "base/folder.h"
#include "store/json_fields.h"
#include "store/temporary_folder.h"
#include "store/volume_cache.h"
#include "store/zarr_metadata.h"
#include "volume/nifti.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[64];
static char source[96];
static struct cache_settings settings;
static struct cache_request request;

static void write_source(const char *path, int nx)
{
    const int size[3] = {nx, 20, 15};
    const double affine[3][4] = {{1.5, 0, 0, -7}, {0, 1.5, 0, 11}, {0, 0, 1.5, 3}};
    float *data = malloc(sizeof(float) * (size_t)nx * 20 * 15);
    assert_non_null(data);
    for (int i = 0; i < nx * 20 * 15; i++) {
        data[i] = (float)((i * 37) % 425 - 170);
    }
    assert_int_equal(nifti_write(path, size, affine, NIFTI_FLOAT32, data), VOCO_OK);
    free(data);
}

static int make_place(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/voco_store_XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(source, sizeof source, "%s/case 1.nii.gz", folder);
    write_source(source, 30);
    settings = (struct cache_settings){.window = {24, 24, 8}, .levels = 255, .level = 3};
    assert_int_equal(preset_from_name(&settings.preset, "abdomen"), VOCO_OK);
    request = (struct cache_request){.source = source,
                                     .name = "case 1",
                                     .set = "BTCV",
                                     .split = "validation",
                                     .repeat = 8,
                                     .settings = &settings};
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    return remove_folder(folder) == VOCO_OK ? 0 : -1;
}

static struct cache_entry made(void)
{
    struct cache_entry entry;
    uint64_t bytes = 0;
    int storing = 0;
    assert_int_equal(cache_entry_of(&entry, folder, &request), VOCO_OK);
    assert_int_equal(cache_entry_make(&bytes, &storing, &entry, &request, 2), VOCO_OK);
    assert_true(bytes > 0);
    return entry;
}

static int is_there(const struct cache_entry *entry)
{
    return cache_entry_is_there(entry, &request, NULL);
}

static void what_was_made_is_there_and_says_what_it_is(void **state)
{
    (void)state;
    struct cache_entry entry = made();
    assert_true(is_there(&entry));
    assert_int_equal(cached_volume_verify(entry.path), VOCO_OK);
    assert_true(is_cached_volume_name(entry.path));
    assert_non_null(strstr(entry.path, "/case_1-"));
    struct volume_attributes attributes;
    assert_int_equal(volume_attributes_read(&attributes, entry.path), VOCO_OK);
    struct volume expected;
    assert_int_equal(prepare_volume(&expected, source, &settings.preset, settings.window), VOCO_OK);
    assert_memory_equal(attributes.size, expected.size, sizeof expected.size);
    assert_memory_equal(attributes.spacing, expected.spacing, sizeof expected.spacing);
    assert_memory_equal(attributes.affine, expected.affine, sizeof expected.affine);
    assert_int_equal(attributes.key, entry.key);
    assert_string_equal(attributes.source, entry.source);
    assert_string_equal(attributes.name, "case 1");
    assert_string_equal(attributes.set, "BTCV");
    assert_string_equal(attributes.split, "validation");
    assert_int_equal(attributes.repeat, 8);
    assert_int_equal(attributes.levels, 255);
    assert_string_equal(attributes.preset.name, "abdomen");
    assert_true(attributes.preset.low == -175.0 && attributes.preset.high == 250.0);
    assert_int_equal(attributes.window[0], 0);
    volume_free(&expected);
    volume_attributes_free(&attributes);
    cache_entry_free(&entry);
}

static void resized_windows_are_a_second_array(void **state)
{
    (void)state;
    settings.preset.window = WINDOW_RESIZE;
    settings.levels = 4095;
    struct cache_entry entry = made();
    assert_true(is_there(&entry));
    char *path = cached_array_path(entry.path, WINDOW_RESIZE);
    struct shard shard;
    assert_int_equal(cached_array_open(&shard, path), VOCO_OK);
    assert_memory_equal(shard.size, settings.window, sizeof shard.size);
    assert_int_equal(shard.levels, 4095);
    shard_close(&shard);
    assert_int_equal(remove_folder(path), VOCO_OK);
    assert_false(is_there(&entry));
    free(path);
    cache_entry_free(&entry);
}

static void whatever_decides_the_voxels_changes_the_key(void **state)
{
    (void)state;
    struct cache_entry first;
    assert_int_equal(cache_entry_of(&first, folder, &request), VOCO_OK);
    const struct cache_settings kept = settings;
    for (int change = 0; change < 12; change++) {
        struct cache_entry other;
        settings = kept;
        switch (change) {
        case 0:
            settings.preset.spacing[1] = 1.25;
            break;
        case 1:
            settings.preset.low = -174;
            break;
        case 2:
            settings.preset.high = 251;
            break;
        case 3:
            settings.preset.intensity = INTENSITY_ZSCORE;
            break;
        case 4:
            settings.preset.window = WINDOW_RESIZE;
            break;
        case 5:
            settings.preset.name[0] = 'A';
            break;
        case 6:
            settings.window[2] = 9;
            break;
        case 7:
            settings.levels = 4095;
            break;
        case 8:
            settings.level = 9;
            break; /* how hard it was packed is no voxel */
        case 9:
            assert_int_equal(utimensat(AT_FDCWD, source, (const struct timespec[2]){{1, 0}, {1, 5}}, 0), 0);
            break;
        case 10:
            write_source(source, 31);
            break;
        default:
            request.split = "training";
            break;
        }
        assert_int_equal(cache_entry_of(&other, folder, &request), VOCO_OK);
        if (change == 8) {
            assert_int_equal(other.key, first.key);
        } else if (change < 11) {
            assert_int_not_equal(other.key, first.key);
        }
        cache_entry_free(&other);
    }
    cache_entry_free(&first);
}

static void two_ways_to_a_source_have_one_key(void **state)
{
    (void)state;
    char link[128];
    struct cache_entry first;
    struct cache_entry second;
    snprintf(link, sizeof link, "%s/link.nii.gz", folder);
    assert_int_equal(symlink(source, link), 0);
    assert_int_equal(cache_entry_of(&first, folder, &request), VOCO_OK);
    request.source = link;
    assert_int_equal(cache_entry_of(&second, folder, &request), VOCO_OK);
    assert_int_equal(first.key, second.key);
    cache_entry_free(&first);
    cache_entry_free(&second);
    request.source = "/nowhere/at all.nii";
    assert_int_equal(cache_entry_of(&first, folder, &request), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), "/nowhere/at all.nii"));
}

static void what_the_list_says_is_kept_up_to_date(void **state)
{
    (void)state;
    struct cache_entry entry = made();
    request.split = "test";
    request.repeat = 2;
    request.name = "other/case 1";
    assert_true(is_there(&entry));
    struct volume_attributes attributes;
    assert_int_equal(volume_attributes_read(&attributes, entry.path), VOCO_OK);
    assert_string_equal(attributes.split, "test");
    assert_string_equal(attributes.name, "other/case 1");
    assert_int_equal(attributes.repeat, 2);
    volume_attributes_free(&attributes);
    cache_entry_free(&entry);
}

static void change_byte(const char *path, long at)
{
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    const int byte = fgetc(stream);
    assert_int_equal(fseek(stream, -1, SEEK_CUR), 0);
    assert_int_not_equal(fputc(byte ^ 1, stream), EOF);
    assert_int_equal(fclose(stream), 0);
}

static void a_changed_byte_in_any_file_is_noticed_and_mended(void **state)
{
    (void)state;
    static const char *const files[] = {"zarr.json", "0/zarr.json", "0/c/0/0/0"};
    for (int f = 0; f < 3; f++) {
        struct cache_entry entry = made();
        char path[512];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", entry.path, files[f]);
        assert_int_equal(stat(path, &info), 0);
        int noticed = 0;
        for (long at = 0; at < info.st_size; at += f == 2 ? 41 : 1) {
            change_byte(path, at);
            const int bad = cached_volume_verify(entry.path) == VOCO_BAD_INPUT;
            noticed += bad;
            /* In text only white space, and the OME block that voco does not read, may change without harm.
             */
            assert_true(bad || f < 2);
            assert_true(!bad || strstr(voco_error_message(), "case_1-") != NULL);
            change_byte(path, at);
        }
        assert_true(noticed > (f == 2 ? 10 : 300));
        if (f == 2) {
            change_byte(path, -1); /* the index: noticed on opening */
            assert_false(is_there(&entry));
            struct cache_entry again = made();
            assert_string_equal(entry.path, again.path);
            assert_int_equal(cached_volume_verify(entry.path), VOCO_OK);
            cache_entry_free(&again);
        }
        cache_entry_free(&entry);
    }
}

static int names_in_folder(const char *beginning)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int count = 0;
    const struct dirent *item = NULL;
    while ((item = readdir(dir)) != NULL) {
        count += strncmp(item->d_name, beginning, strlen(beginning)) == 0 && strcmp(item->d_name, ".") != 0 &&
                 strcmp(item->d_name, "..") != 0;
    }
    closedir(dir);
    return count;
}

static void a_killed_writer_leaves_nothing_that_counts(void **state)
{
    (void)state;
    struct cache_entry entry;
    assert_int_equal(cache_entry_of(&entry, folder, &request), VOCO_OK);
    for (int i = 0; i < 12; i++) {
        const pid_t child = fork();
        if (child == 0) {
            uint64_t bytes = 0;
            int storing = 0;
            for (;;) {
                (void)cache_entry_make(&bytes, &storing, &entry, &request, 1);
            }
        }
        const struct timespec moment = {0, 3000000L + 7000000L * i};
        (void)nanosleep(&moment, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_true(!is_there(&entry) || cached_volume_verify(entry.path) == VOCO_OK);
        assert_int_equal(temporary_folders_remove_abandoned(folder), VOCO_OK);
        assert_int_equal(names_in_folder("."), 0);
    }
    cache_entry_free(&entry);
}

static void only_what_is_abandoned_is_removed(void **state)
{
    (void)state;
    char path[4][192];
    char host[65] = "";
    (void)gethostname(host, sizeof host - 1);
    for (char *c = host; *c != '\0'; c++) {
        *c = *c == '.' ? '_' : *c;
    }
    snprintf(path[0], sizeof path[0], "%s/.00112233aabbccdd.%s.%ld.0.tmp", folder, host, (long)getpid());
    snprintf(path[1], sizeof path[1], "%s/.00112233aabbccdd.elsewhere.1.0.tmp", folder);
    snprintf(path[2], sizeof path[2], "%s/.00112233aabbccdd.elsewhere.2.0.tmp", folder);
    snprintf(path[3], sizeof path[3], "%s/.somebody.else.1.0.tmp", folder);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mkdir(path[i], 0777), 0);
    }
    const struct timespec old[2] = {{time(NULL) - 7200, 0}, {time(NULL) - 7200, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path[2], old, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, path[3], old, 0), 0);
    assert_int_equal(temporary_folders_remove_abandoned(folder), VOCO_OK);
    assert_int_equal(access(path[0], F_OK), 0);
    assert_int_equal(access(path[1], F_OK), 0);
    assert_int_not_equal(access(path[2], F_OK), 0);
    assert_int_equal(access(path[3], F_OK), 0);
}

static void a_failure_to_read_and_one_to_write_are_told_apart(void **state)
{
    (void)state;
    struct cache_entry entry;
    uint64_t bytes = 0;
    int storing = 0;
    assert_int_equal(cache_entry_of(&entry, folder, &request), VOCO_OK);
    FILE *stream = fopen(source, "r+b");
    assert_non_null(stream);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(truncate(source, 200), 0);
    assert_int_equal(cache_entry_make(&bytes, &storing, &entry, &request, 1), VOCO_BAD_INPUT);
    assert_int_equal(storing, 0);
    assert_non_null(strstr(voco_error_message(), source));
    write_source(source, 30);
    free(entry.path);
    entry.path = strdup("/proc/nowhere/case-0000000000000000.ome.zarr");
    assert_int_equal(cache_entry_make(&bytes, &storing, &entry, &request, 1), VOCO_IO);
    assert_int_equal(storing, 1);
    cache_entry_free(&entry);
}

static void metadata_of_others_is_refused(void **state)
{
    (void)state;
    const int size[3] = {100, 70, 65};
    for (int levels = 0; levels < 3; levels++) {
        static const int all[] = {255, 4095, 65535};
        json_t *metadata = zarr_array_metadata(size, all[levels], 5);
        int got[3];
        int got_levels = 0;
        assert_int_equal(zarr_array_parse(got, &got_levels, metadata, "x"), VOCO_OK);
        assert_memory_equal(got, size, sizeof size);
        assert_int_equal(got_levels, all[levels]);
        const char *const members[] = {"shape",  "data_type",  "chunk_grid",
                                       "codecs", "fill_value", "zarr_format"};
        for (size_t m = 0; m < sizeof members / sizeof members[0]; m++) {
            json_t *other = json_deep_copy(metadata);
            assert_int_equal(json_object_set_new(other, members[m], json_integer(7)), 0);
            assert_int_equal(zarr_array_parse(got, &got_levels, other, "x"), VOCO_BAD_INPUT);
            json_decref(other);
        }
        /* Attributes of others are no harm once the checksum, which covers them, is gone. */
        json_t *attributes = json_object_get(metadata, "attributes");
        assert_int_equal(json_object_set_new(attributes, "note", json_string("seen")), 0);
        assert_int_equal(zarr_array_parse(got, &got_levels, metadata, "x"), VOCO_BAD_INPUT);
        assert_int_equal(json_object_del(attributes, "checksum"), 0);
        assert_int_equal(zarr_array_parse(got, &got_levels, metadata, "x"), VOCO_OK);
        json_decref(metadata);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        TEST(what_was_made_is_there_and_says_what_it_is),
        TEST(resized_windows_are_a_second_array),
        TEST(whatever_decides_the_voxels_changes_the_key),
        TEST(two_ways_to_a_source_have_one_key),
        TEST(what_the_list_says_is_kept_up_to_date),
        TEST(a_changed_byte_in_any_file_is_noticed_and_mended),
        TEST(a_killed_writer_leaves_nothing_that_counts),
        TEST(only_what_is_abandoned_is_removed),
        TEST(a_failure_to_read_and_one_to_write_are_told_apart),
        TEST(metadata_of_others_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
