/* The cache's files: what goes in comes out, damage is noticed, stale data is not found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "base/name_hash.h"
#include "store/volume_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct preset abdomen = {
    .name = "abdomen", .spacing = {1.5, 1.5, 1.5}, .low = -175.0, .high = 250.0, .window = WINDOW_CROP};
static const int window[3] = {24, 24, 8};

/* A folder of its own for each test, with a source file and an open cache in it. */
struct place {
    char folder[64];
    char source[128];
    char cache_folder[128];
    struct volume_cache cache;
};

static void write_text(const char *path, const char *text)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_true(fputs(text, stream) >= 0);
    assert_int_equal(fclose(stream), 0);
}

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    snprintf(place->folder, sizeof place->folder, "/tmp/voco_cache_XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->source, sizeof place->source, "%s/img 0007.v2.nii.gz", place->folder);
    snprintf(place->cache_folder, sizeof place->cache_folder, "%s/a/cache", place->folder);
    write_text(place->source, "not looked into here");
    assert_int_equal(volume_cache_open(&place->cache, place->cache_folder, &abdomen, window), VOCO_OK);
    *state = place;
    return 0;
}

static void remove_files(const char *folder)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    const struct dirent *item = NULL;
    while ((item = readdir(dir)) != NULL) {
        (void)unlinkat(dirfd(dir), item->d_name, 0);
    }
    closedir(dir);
    (void)rmdir(folder);
}

static int remove_place(void **state)
{
    struct place *place = *state;
    volume_cache_close(&place->cache);
    remove_files(place->cache_folder);
    char parent[128];
    snprintf(parent, sizeof parent, "%s/a", place->folder);
    (void)rmdir(parent);
    remove_files(place->folder);
    free(place);
    return 0;
}

static struct volume random_volume(int nx, int ny, int nz)
{
    struct volume volume = {.size = {nx, ny, nz}, .spacing = {1.5, 1.25, 5.0}};
    const size_t count = (size_t)nx * (size_t)ny * (size_t)nz;
    volume.data = malloc(count * sizeof *volume.data);
    assert_non_null(volume.data);
    for (size_t i = 0; i < count; i++) {
        const struct random_key key = {.seed = 8, .step = i, .purpose = RANDOM_TEST};
        volume.data[i] = random_uniform(&key, 0);
    }
    volume.data[0] = 0.0F;
    volume.data[count - 1] = 1.0F;
    for (int row = 0; row < 3; row++) {
        for (int column = 0; column < 4; column++) {
            volume.affine[row][column] = 0.1 * row - 7.3 * column;
        }
    }
    return volume;
}

/* Stores a volume for the place's source; the entry is the caller's. */
static struct cache_entry stored_entry(struct place *place, int nx, int ny, int nz)
{
    struct cache_entry entry;
    struct volume volume = random_volume(nx, ny, nz);
    assert_int_equal(cache_entry_of(&entry, &place->cache, place->source), VOCO_OK);
    assert_int_equal(volume_cache_store(&place->cache, &entry, &volume), VOCO_OK);
    free(volume.data);
    return entry;
}

static void a_volume_comes_back_within_half_a_quantum(void **state)
{
    struct place *place = *state;
    const int sizes[][3] = {{7, 5, 3}, {1, 1, 1}, {41, 33, 29}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const int *size = sizes[s];
        struct cache_entry entry = stored_entry(place, size[0], size[1], size[2]);
        struct volume volume = random_volume(size[0], size[1], size[2]);
        struct cached_volume cached;
        assert_int_equal(cached_volume_open(&cached, entry.path), VOCO_OK);
        assert_int_equal(cached_volume_verify(&cached, entry.path), VOCO_OK);
        assert_memory_equal(cached.size, volume.size, sizeof volume.size);
        assert_memory_equal(cached.spacing, volume.spacing, sizeof volume.spacing);
        assert_memory_equal(cached.affine, volume.affine, sizeof volume.affine);
        assert_string_equal(cached.preset, "abdomen");
        assert_string_equal(cached.source, entry.source);
        const size_t count = (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
        for (size_t i = 0; i < count; i++) {
            assert_true(fabs(cached.voxels[i] / 65535.0 - (double)volume.data[i]) <= 1.0 / 131070.0 + 1e-12);
        }
        cached_volume_close(&cached);
        cache_entry_free(&entry);
        free(volume.data);
    }
}

static void values_beyond_the_unit_interval_are_clipped(void **state)
{
    struct place *place = *state;
    float values[6] = {-0.5F, 1.5F, NAN, INFINITY, -INFINITY, 0.25F};
    const uint16_t expected[6] = {0, 65535, 0, 65535, 0, 16384};
    const struct volume volume = {.size = {6, 1, 1}, .spacing = {1.0, 1.0, 1.0}, .data = values};
    struct cache_entry entry;
    struct cached_volume cached;
    assert_int_equal(cache_entry_of(&entry, &place->cache, place->source), VOCO_OK);
    assert_int_equal(volume_cache_store(&place->cache, &entry, &volume), VOCO_OK);
    assert_int_equal(cached_volume_open(&cached, entry.path), VOCO_OK);
    assert_memory_equal(cached.voxels, expected, sizeof expected);
    cached_volume_close(&cached);
    cache_entry_free(&entry);
}

static void assert_other_key(const struct place *place, const struct volume_cache *cache, uint64_t key)
{
    struct cache_entry other;
    assert_int_equal(cache_entry_of(&other, cache, place->source), VOCO_OK);
    assert_true(other.key != key);
    assert_true(access(other.path, F_OK) != 0);
    cache_entry_free(&other);
}

static void another_preset_window_or_source_has_another_key(void **state)
{
    struct place *place = *state;
    struct cache_entry entry = stored_entry(place, 4, 4, 4);
    for (int change = 0; change < 7; change++) {
        struct volume_cache other = place->cache;
        switch (change) {
        case 0:
            other.window[1]++;
            break;
        case 1:
            other.preset.spacing[2] = 1.6;
            break;
        case 2:
            other.preset.low = -174.0;
            break;
        case 3:
            other.preset.high = 251.0;
            break;
        case 4:
            other.preset.window = WINDOW_RESIZE;
            break;
        case 5:
            other.preset.intensity = INTENSITY_ZSCORE;
            break;
        default:
            memcpy(other.preset.name, "abdomex", 8);
            break;
        }
        assert_other_key(place, &other, entry.key);
    }
    struct stat info;
    assert_int_equal(stat(place->source, &info), 0);
    write_text(place->source, "as long as before...");
    const struct timespec later[2] = {info.st_atim,
                                      {info.st_mtim.tv_sec, (info.st_mtim.tv_nsec + 1000) % 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, place->source, later, 0), 0);
    assert_other_key(place, &place->cache, entry.key);
    const struct timespec same[2] = {info.st_atim, info.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, place->source, same, 0), 0);
    struct cache_entry again;
    assert_int_equal(cache_entry_of(&again, &place->cache, place->source), VOCO_OK);
    assert_true(again.key == entry.key);
    cache_entry_free(&again);
    write_text(place->source, "longer than it was before");
    assert_int_equal(utimensat(AT_FDCWD, place->source, same, 0), 0);
    assert_other_key(place, &place->cache, entry.key);
    cache_entry_free(&entry);
}

static void two_ways_to_a_source_have_one_key(void **state)
{
    struct place *place = *state;
    struct cache_entry entry;
    struct cache_entry other;
    char detour[256];
    snprintf(detour, sizeof detour, "%s/a/../%s", place->folder, strrchr(place->source, '/') + 1);
    assert_int_equal(cache_entry_of(&entry, &place->cache, place->source), VOCO_OK);
    assert_int_equal(cache_entry_of(&other, &place->cache, detour), VOCO_OK);
    assert_true(entry.key == other.key);
    assert_string_equal(entry.path, other.path);
    cache_entry_free(&entry);
    cache_entry_free(&other);
}

static void a_missing_source_is_named(void **state)
{
    struct place *place = *state;
    struct cache_entry entry;
    assert_int_equal(cache_entry_of(&entry, &place->cache, "/nowhere/x.nii"), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), "/nowhere/x.nii"));
}

static void flip_byte(const char *path, off_t offset)
{
    const int file = open(path, O_RDWR);
    assert_true(file >= 0);
    unsigned char byte = 0;
    assert_int_equal(pread(file, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(file, &byte, 1, offset), 1);
    close(file);
}

static void any_changed_byte_is_noticed(void **state)
{
    struct place *place = *state;
    struct cache_entry entry = stored_entry(place, 9, 7, 5);
    struct stat info;
    assert_true(cache_entry_is_good(&entry));
    assert_int_equal(stat(entry.path, &info), 0);
    for (off_t offset = 0; offset < info.st_size; offset += offset < 300 || offset >= 4096 ? 1 : 97) {
        flip_byte(entry.path, offset);
        assert_false(cache_entry_is_good(&entry));
        flip_byte(entry.path, offset);
    }
    assert_true(cache_entry_is_good(&entry));
    cache_entry_free(&entry);
}

static void any_other_length_is_noticed_on_opening(void **state)
{
    struct place *place = *state;
    struct cache_entry entry = stored_entry(place, 9, 7, 5);
    struct stat info;
    assert_int_equal(stat(entry.path, &info), 0);
    const off_t lengths[] = {info.st_size + 1, info.st_size - 1, 4097, 4096, 4095, 200, 8, 1, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct cached_volume cached;
        assert_int_equal(truncate(entry.path, lengths[i]), 0);
        assert_int_equal(cached_volume_open(&cached, entry.path), VOCO_BAD_INPUT);
        assert_non_null(strstr(voco_error_message(), entry.path));
        assert_false(cache_entry_is_good(&entry));
    }
    cache_entry_free(&entry);
}

/* Puts `value` at `offset` of the header and makes the header's checksum right again. */
static void forge_header(const char *path, size_t offset, uint32_t value)
{
    unsigned char header[4096];
    const int file = open(path, O_RDWR);
    assert_true(file >= 0);
    assert_int_equal(pread(file, header, sizeof header, 0), sizeof header);
    memcpy(header + offset, &value, sizeof value);
    memset(header + 12, 0, 4);
    const uint32_t checksum = crc32_gzip_refl(0, header, sizeof header);
    memcpy(header + 12, &checksum, sizeof checksum);
    assert_int_equal(pwrite(file, header, sizeof header, 0), sizeof header);
    close(file);
}

static void a_header_that_lies_is_refused(void **state)
{
    struct place *place = *state;
    const struct {
        size_t offset;
        uint32_t value;
    } lies[] = {
        {8, 2},           {20, 0},    {20, 4095},       {20, 8192},    {20, 0xFFFFF000U},
        {32, 0},          {32, 10},   {32, 0xFFFFFFFF}, {32, 1 << 21}, {36, 1 << 20},
        {40, 0x7FFFFFFF}, {44, 3896}, {44, 0xFFFFFFFF}, {44, 1},
    };
    struct cache_entry entry = stored_entry(place, 9, 7, 5);
    forge_header(entry.path, 8, 1); /* nothing changed: the forger's checksum is right */
    assert_true(cache_entry_is_good(&entry));
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct cached_volume cached;
        cache_entry_free(&entry);
        entry = stored_entry(place, 9, 7, 5);
        forge_header(entry.path, lies[i].offset, lies[i].value);
        assert_int_equal(cached_volume_open(&cached, entry.path), VOCO_BAD_INPUT);
        assert_non_null(strstr(voco_error_message(), entry.path));
    }
    cache_entry_free(&entry);
}

static void a_file_of_another_source_under_this_name_is_not_taken(void **state)
{
    struct place *place = *state;
    struct cache_entry entry = stored_entry(place, 4, 4, 4);
    struct cache_entry other = entry;
    char name[] = "/another/source.nii";
    other.source = name;
    assert_false(cache_entry_is_good(&other));
    other = entry;
    other.key++;
    assert_false(cache_entry_is_good(&other));
    cache_entry_free(&entry);
}

static int count_files(const char *folder, const char *containing)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int count = 0;
    const struct dirent *item = NULL;
    while ((item = readdir(dir)) != NULL) {
        count += item->d_name[0] != '.' && strstr(item->d_name, containing) != NULL;
    }
    closedir(dir);
    return count;
}

static void storing_leaves_one_file_and_no_temporary(void **state)
{
    struct place *place = *state;
    for (int i = 0; i < 3; i++) {
        struct cache_entry entry = stored_entry(place, 5, 5, 5);
        cache_entry_free(&entry);
    }
    assert_int_equal(count_files(place->cache_folder, ""), 1);
    assert_int_equal(count_files(place->cache_folder, "img_0007_v2-"), 1);
}

static void a_killed_process_leaves_nothing_that_is_read(void **state)
{
    struct place *place = *state;
    struct cache_entry entry;
    assert_int_equal(cache_entry_of(&entry, &place->cache, place->source), VOCO_OK);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct volume volume = random_volume(64, 64, 64);
        for (;;) {
            (void)volume_cache_store(&place->cache, &entry, &volume);
        }
    }
    for (int kills = 0; kills < 50 && access(entry.path, F_OK) != 0; kills++) {
        usleep(2000);
    }
    usleep(3000);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    if (access(entry.path, F_OK) == 0) {
        assert_true(cache_entry_is_good(&entry));
    }
    cache_entry_free(&entry);
}

static void only_abandoned_temporaries_of_the_cache_are_removed(void **state)
{
    struct place *place = *state;
    const char *names[] = {"x-0123.volume.tmp.77.1", "x-0123.volume.tmp.77.2", "mine.tmp.1.1",
                           "x-0123.volume"};
    const int old[] = {1, 0, 1, 1};
    char path[256];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", place->cache_folder, names[i]);
        write_text(path, "half");
        const struct timespec times[2] = {{1000, 0}, {1000, 0}};
        assert_int_equal(old[i] ? utimensat(AT_FDCWD, path, times, 0) : 0, 0);
    }
    struct volume_cache again;
    assert_int_equal(volume_cache_open(&again, place->cache_folder, &abdomen, window), VOCO_OK);
    volume_cache_close(&again);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", place->cache_folder, names[i]);
        assert_int_equal(access(path, F_OK), i == 0 ? -1 : 0);
    }
}

static void a_cache_that_cannot_be_written_says_where(void **state)
{
    struct place *place = *state;
    struct cache_entry entry;
    struct volume volume = random_volume(4, 4, 4);
    assert_int_equal(cache_entry_of(&entry, &place->cache, place->source), VOCO_OK);
    free(entry.path);
    entry.path = strdup("/nowhere/at/all.volume");
    assert_int_equal(volume_cache_store(&place->cache, &entry, &volume), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), "/nowhere/at/all.volume"));
    struct volume_cache other;
    assert_int_equal(volume_cache_open(&other, place->source, &abdomen, window), VOCO_IO);
    volume_cache_close(&other);
    cache_entry_free(&entry);
    free(volume.data);
}

static void the_hash_is_the_documented_one(void **state)
{
    (void)state;
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add(&hash, "foobar", 6);
    assert_true(hash.state == 0x85944171F73967E8U); /* FNV-1a's published value for "foobar" */
    struct name_hash split;
    struct name_hash joined;
    name_hash_start(&split);
    name_hash_start(&joined);
    name_hash_add_text(&split, "ab");
    name_hash_add_text(&split, "c");
    name_hash_add_text(&joined, "a");
    name_hash_add_text(&joined, "bc");
    assert_true(name_hash_value(&split) != name_hash_value(&joined));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_volume_comes_back_within_half_a_quantum, make_place, remove_place),
        cmocka_unit_test_setup_teardown(values_beyond_the_unit_interval_are_clipped, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(another_preset_window_or_source_has_another_key, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(two_ways_to_a_source_have_one_key, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_missing_source_is_named, make_place, remove_place),
        cmocka_unit_test_setup_teardown(any_changed_byte_is_noticed, make_place, remove_place),
        cmocka_unit_test_setup_teardown(any_other_length_is_noticed_on_opening, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_header_that_lies_is_refused, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_file_of_another_source_under_this_name_is_not_taken, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(storing_leaves_one_file_and_no_temporary, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_killed_process_leaves_nothing_that_is_read, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(only_abandoned_temporaries_of_the_cache_are_removed, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(a_cache_that_cannot_be_written_says_where, make_place, remove_place),
        cmocka_unit_test(the_hash_is_the_documented_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
