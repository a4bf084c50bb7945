/* Filling the cache from files: the good ones get in, the bad ones are listed, what is there is used again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "base/log.h"
#include "store/cache_preparation.h"
#include "store/claim.h"

#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { source_count = 7, good_count = 5, side = 20 };

/* Sources 2 and 5 are bad: one is text, one is missing. */
struct place {
    char folder[64];
    char cache_folder[80];
    char *sources[source_count];
    struct cache_settings settings;
    struct cache_request requests[source_count];
    struct preparation_options options;
};

static void put_bytes(const char *path, const void *bytes, size_t length)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, length, stream), length);
    assert_int_equal(fclose(stream), 0);
}

/* A NIfTI-1 file of side^3 int16 voxels of 1.5 mm: air with a body in it whose HU depend on `number`. */
static void put_volume(const char *path, int number)
{
    enum { header = 352, voxels = side * side * side };
    static unsigned char bytes[header + 2 * voxels];
    memset(bytes, 0, sizeof bytes);
    const int32_t header_size = 348;
    const int16_t dim[8] = {3, side, side, side, 1, 1, 1, 1};
    const int16_t type[2] = {4, 16}; /* int16, bits */
    const float pixdim[8] = {1.0F, 1.5F, 1.5F, 1.5F, 1.0F, 1.0F, 1.0F, 1.0F};
    const float offset = header;
    const int16_t sform_code = 1;
    const float sform[3][4] = {{1.5F, 0, 0, -10.0F}, {0, 1.5F, 0, 20.0F}, {0, 0, 1.5F, (float)number}};
    memcpy(bytes, &header_size, sizeof header_size);
    memcpy(bytes + 40, dim, sizeof dim);
    memcpy(bytes + 70, type, sizeof type);
    memcpy(bytes + 76, pixdim, sizeof pixdim);
    memcpy(bytes + 108, &offset, sizeof offset);
    bytes[123] = 2; /* mm */
    memcpy(bytes + 254, &sform_code, sizeof sform_code);
    memcpy(bytes + 280, sform, sizeof sform);
    memcpy(bytes + 344, "n+1", 4);
    for (int i = 0; i < voxels; i++) {
        const int x = i % side;
        const int y = i / side % side;
        const int z = i / side / side;
        const int inside = x > 1 && x < 18 && y > 2 && y < 17 && z > 0 && z < 19;
        const int16_t value = (int16_t)(inside ? 10 * number + 3 * x - 2 * y + z : -1000);
        memcpy(bytes + header + 2 * (size_t)i, &value, sizeof value);
    }
    put_bytes(path, bytes, sizeof bytes);
}

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    snprintf(place->folder, sizeof place->folder, "/tmp/voco_prepare_XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->cache_folder, sizeof place->cache_folder, "%s/cache", place->folder);
    place->settings = (struct cache_settings){.window = {24, 18, 6}, .levels = 65535, .level = 1};
    assert_int_equal(preset_from_name(&place->settings.preset, "abdomen"), VOCO_OK);
    place->settings.preset.window = WINDOW_CROP;
    for (int i = 0; i < source_count; i++) {
        assert_true(asprintf(&place->sources[i], "%s/v%d.nii%s", place->folder, i, i == 2 ? ".gz" : "") > 0);
        if (i == 2) {
            put_bytes(place->sources[i], "a text file\n", 12);
        } else if (i != 5) {
            put_volume(place->sources[i], i);
        }
        place->requests[i] = (struct cache_request){.source = place->sources[i],
                                                    .name = strrchr(place->sources[i], '/') + 1,
                                                    .set = "",
                                                    .split = "training",
                                                    .repeat = 1,
                                                    .settings = &place->settings};
    }
    place->options = (struct preparation_options){.folder = place->cache_folder, .jobs = 2};
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;
    for (int i = 0; i < source_count; i++) {
        free(place->sources[i]);
    }
    const enum voco_status status = remove_folder(place->folder);
    free(place);
    return status == VOCO_OK ? 0 : -1;
}

/* How many files of the cache's folder the pattern matches. */
static size_t count_files(const struct place *place, const char *pattern)
{
    char path[160];
    glob_t found;
    snprintf(path, sizeof path, "%s/%s", place->cache_folder, pattern);
    const size_t count = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static enum voco_status prepare_all(struct preparation *out, const struct place *place)
{
    return volume_cache_prepare(out, place->requests, source_count, &place->options);
}

static void assert_prepared(const struct place *place, const struct preparation *preparation, size_t reused)
{
    static const size_t good[] = {0, 1, 3, 4, 6};
    static const size_t bad[] = {2, 5};
    assert_int_equal(preparation->count, good_count);
    assert_int_equal(preparation->reused, reused);
    assert_int_equal(preparation->made, good_count - reused);
    assert_int_equal(preparation->failure_count, 2);
    uint64_t cache_bytes = 0;
    for (size_t i = 0; i < good_count; i++) {
        struct shard shard;
        assert_int_equal(preparation->requests[i], good[i]);
        assert_int_equal(cached_array_open(&shard, preparation->paths[i]), VOCO_OK);
        assert_int_equal(shard_verify(&shard), VOCO_OK);
        assert_int_equal(preparation->results[i].cache_bytes, shard.bytes);
        cache_bytes += shard.bytes;
        shard_close(&shard);
    }
    assert_int_equal(preparation->cache_bytes, cache_bytes);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(preparation->failures[i].request, bad[i]);
        assert_string_equal(preparation->failures[i].path, place->sources[bad[i]]);
        assert_non_null(strstr(preparation->failures[i].message, place->sources[bad[i]]));
    }
    assert_int_equal(count_files(place, ".*.tmp"), 0);
    assert_int_equal(count_files(place, ".*.claim"), 0);
}

/* Every process of the group has the same list; what each has made is counted. First, because a process that
 * has run OpenMP threads cannot fork. */
static void processes_on_one_folder_make_each_volume_once(void **state)
{
    struct place *place = *state;
    enum { processes = 3 };
    pid_t children[processes];
    for (int i = 0; i < processes; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            struct preparation preparation;
            const enum voco_status status = prepare_all(&preparation, place);
            const int whole = status == VOCO_OK && preparation.count == good_count;
            _exit(whole ? (int)preparation.made : 99);
        }
    }
    int made = 0;
    for (int i = 0; i < processes; i++) {
        int result = 0;
        assert_int_equal(waitpid(children[i], &result, 0), children[i]);
        assert_true(WIFEXITED(result));
        assert_in_range(WEXITSTATUS(result), 0, good_count);
        made += WEXITSTATUS(result);
    }
    assert_int_equal(made, good_count);
    struct preparation preparation;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, good_count);
    preparation_free(&preparation);
}

/* A child is killed while it holds claims and writes. */
static void what_a_killed_process_left_is_removed_and_done(void **state)
{
    struct place *place = *state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct claims *claims = NULL;
        int taken = 0;
        char path[256];
        struct preparation preparation;
        volatile sig_atomic_t stop = 1;
        place->options.stop = &stop;
        (void)prepare_all(&preparation, place); /* makes the folder and stops */
        struct cache_entry entry;
        if (claims_open(&claims, place->cache_folder) != VOCO_OK ||
            cache_entry_of(&entry, place->cache_folder, &place->requests[0]) != VOCO_OK ||
            claim_take(claims, entry.key, &taken, NULL) != VOCO_OK || !taken) {
            _exit(1);
        }
        char host[65];
        (void)gethostname(host, sizeof host);
        snprintf(path, sizeof path, "%s/.%016llx.%s.%ld.7.tmp", place->cache_folder,
                 (unsigned long long)entry.key, host, (long)getpid());
        (void)mkdir(path, 0777);
        (void)raise(SIGKILL);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFSIGNALED(result));
    assert_int_equal(count_files(place, ".*.claim"), 1);
    assert_int_equal(count_files(place, ".*.tmp"), 1);
    struct preparation preparation;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, 0);
    preparation_free(&preparation);
}

static void bad_volumes_are_skipped_and_listed(void **state)
{
    struct place *place = *state;
    for (int jobs = 1; jobs <= 8; jobs += 7) {
        struct preparation preparation;
        place->options.jobs = jobs;
        assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
        assert_prepared(place, &preparation, jobs == 1 ? 0 : good_count);
        assert_int_equal(preparation.source_bytes, good_count * (352 + 2 * side * side * side));
        preparation_free(&preparation);
    }
}

static void a_bad_source_is_read_once_until_it_changes_or_is_to_be_tried_again(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_false(preparation.failures[0].remembered);
    char *message = strdup(preparation.failures[0].message);
    preparation_free(&preparation);
    assert_int_equal(count_files(place, ".*.skipped"), 1); /* a file that is not there may come back */

    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_true(preparation.failures[0].remembered);
    assert_string_equal(preparation.failures[0].message, message);
    assert_false(preparation.failures[1].remembered);
    preparation_free(&preparation);
    free(message);

    place->options.retry = 1;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_false(preparation.failures[0].remembered);
    preparation_free(&preparation);
    place->options.retry = 0;

    put_volume(place->sources[2], 2);
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_int_equal(preparation.count, good_count + 1);
    assert_int_equal(preparation.made, 1);
    preparation_free(&preparation);
}

static void a_source_that_is_listed_twice_is_prepared_once(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    struct cache_settings eight = place->settings;
    eight.levels = 255;
    place->requests[3] = place->requests[1];
    place->requests[4] = place->requests[1];
    place->requests[4].settings = &eight;    /* not the same: other bits */
    place->requests[6] = place->requests[2]; /* the bad one */
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    static const size_t ready[] = {0, 1, 3, 4};
    static const size_t bad[] = {2, 5, 6};
    assert_int_equal(preparation.count, 4);
    assert_int_equal(preparation.made, 3);
    assert_int_equal(preparation.reused, 0);
    assert_memory_equal(preparation.requests, ready, sizeof ready);
    assert_int_equal(preparation.results[2].origin, VOLUME_REPEATED);
    assert_string_equal(preparation.paths[1], preparation.paths[2]);
    assert_string_not_equal(preparation.paths[1], preparation.paths[3]);
    assert_int_equal(preparation.failure_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(preparation.failures[i].request, bad[i]);
    }
    assert_int_equal(count_files(place, "*.ome.zarr"), 3);
    preparation_free(&preparation);
}

static void another_preset_bits_or_source_is_another_volume(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    preparation_free(&preparation);
    place->settings.levels = 255;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, 0);
    preparation_free(&preparation);
    place->settings.preset.high += 1.0;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, 0);
    preparation_free(&preparation);
    place->settings.level = 5; /* changes no voxel */
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, place->sources[3], times, 0), 0);
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, good_count - 1);
    preparation_free(&preparation);
    assert_int_equal(count_files(place, "*.ome.zarr"), 3 * good_count + 1);
}

/* One shard is cut, which its index tells; in another a byte is changed, which only reading tells. */
static void what_is_damaged_is_prepared_again(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    char path[2][320];
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/c/0/0/0", preparation.paths[i]);
    }
    preparation_free(&preparation);
    struct stat info;
    assert_int_equal(stat(path[0], &info), 0);
    assert_int_equal(truncate(path[0], info.st_size - 100), 0);
    const int file = open(path[1], O_RDWR);
    char byte = 0;
    assert_int_equal(pread(file, &byte, 1, 200), 1);
    byte ^= 1;
    assert_int_equal(pwrite(file, &byte, 1, 200), 1);
    close(file);

    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_int_equal(preparation.made, 1);
    preparation_free(&preparation);
    place->options.verify = 1;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, good_count - 1);
    preparation_free(&preparation);
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, good_count);
    preparation_free(&preparation);
}

static void none_left_is_an_error_with_the_first_cause(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    const struct cache_request bad[] = {place->requests[2], place->requests[5]};
    assert_int_equal(volume_cache_prepare(&preparation, bad, 2, &place->options), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), bad[0].source));
    assert_int_equal(preparation.failure_count, 2);
    preparation_free(&preparation);
    assert_int_equal(volume_cache_prepare(&preparation, bad, 1, &place->options), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), preparation.failures[0].message);
    preparation_free(&preparation);
    assert_int_equal(volume_cache_prepare(&preparation, NULL, 0, &place->options), VOCO_BAD_INPUT);
}

static volatile sig_atomic_t stop_now;
static int progress_lines;
static char last_line[256];

static void stop_after_the_first(enum log_level level, const char *line, void *context)
{
    (void)context;
    if (level == LOG_PROGRESS) {
        progress_lines++;
        snprintf(last_line, sizeof last_line, "%s", line);
        stop_now = 1;
    }
}

static void it_stops_when_asked_and_goes_on_from_there(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    stop_now = 0;
    progress_lines = 0;
    log_set_sink(stop_after_the_first, NULL);
    place->options.jobs = 1;
    place->options.stop = &stop_now;
    assert_int_equal(prepare_all(&preparation, place), VOCO_STOPPED);
    assert_in_range(preparation.count, 1, 4);
    const size_t done = preparation.count;
    preparation_free(&preparation);
    place->options.stop = NULL;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    log_set_sink(NULL, NULL);
    assert_prepared(place, &preparation, done);
    assert_true(progress_lines >= 2);
    assert_non_null(strstr(last_line, "6 of 6")); /* the file that is not there is none to prepare */
    preparation_free(&preparation);
}

static void volumes_go_one_by_one_where_memory_is_short(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    place->options.memory = 1;
    place->options.jobs = 4;
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, 0);
    preparation_free(&preparation);
}

static void a_cache_that_cannot_be_written_ends_the_work(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    place->options.folder = place->sources[0]; /* no folder */
    assert_int_equal(prepare_all(&preparation, place), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), place->sources[0]));
    assert_int_equal(preparation.count, 0);
    preparation_free(&preparation);
}

static void a_full_disk_ends_the_work_and_leaves_nothing_half_written(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {1000, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const enum voco_status status = prepare_all(&preparation, place);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, VOCO_IO);
    assert_non_null(strstr(voco_error_message(), place->cache_folder));
    assert_int_equal(preparation.count, 0);
    preparation_free(&preparation);
    assert_int_equal(count_files(place, "*"), 0);
    assert_int_equal(count_files(place, ".*.tmp") + count_files(place, ".*.claim"), 0);
    assert_int_equal(prepare_all(&preparation, place), VOCO_OK);
    assert_prepared(place, &preparation, 0);
    preparation_free(&preparation);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PLACE(processes_on_one_folder_make_each_volume_once),
        WITH_PLACE(what_a_killed_process_left_is_removed_and_done),
        WITH_PLACE(bad_volumes_are_skipped_and_listed),
        WITH_PLACE(a_bad_source_is_read_once_until_it_changes_or_is_to_be_tried_again),
        WITH_PLACE(a_source_that_is_listed_twice_is_prepared_once),
        WITH_PLACE(another_preset_bits_or_source_is_another_volume),
        WITH_PLACE(what_is_damaged_is_prepared_again),
        WITH_PLACE(none_left_is_an_error_with_the_first_cause),
        WITH_PLACE(it_stops_when_asked_and_goes_on_from_there),
        WITH_PLACE(volumes_go_one_by_one_where_memory_is_short),
        WITH_PLACE(a_cache_that_cannot_be_written_ends_the_work),
        WITH_PLACE(a_full_disk_ends_the_work_and_leaves_nothing_half_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
