/* Filling the cache from files: the good ones get in, the bad ones are listed, what is there is used again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "store/cache_preparation.h"

#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { source_count = 7, side = 20 };

/* Sources 2 and 5 are bad: one is text, one is missing. */
struct place {
    char folder[64];
    char cache_folder[80];
    char *sources[source_count];
    struct preset preset;
    struct volume_cache cache;
};

static const int window[3] = {24, 18, 6};

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
    for (int i = 0; i < source_count; i++) {
        assert_true(asprintf(&place->sources[i], "%s/v%d.nii%s", place->folder, i, i == 2 ? ".gz" : "") > 0);
        if (i == 2) {
            put_bytes(place->sources[i], "a text file\n", 12);
        } else if (i != 5) {
            put_volume(place->sources[i], i);
        }
    }
    assert_int_equal(preset_from_name(&place->preset, "abdomen"), VOCO_OK);
    place->preset.window = WINDOW_CROP;
    assert_int_equal(volume_cache_open(&place->cache, place->cache_folder, &place->preset, window), VOCO_OK);
    *state = place;
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int remove_place(void **state)
{
    struct place *place = *state;
    volume_cache_close(&place->cache);
    for (int i = 0; i < source_count; i++) {
        free(place->sources[i]);
    }
    const int result = nftw(place->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(place);
    return result;
}

static enum voco_status prepare_all(struct preparation *out, const struct place *place, int jobs)
{
    return volume_cache_prepare(out, &place->cache, (const char *const *)place->sources, source_count, jobs,
                                NULL);
}

static void assert_prepared(const struct place *place, const struct preparation *preparation, size_t reused)
{
    static const size_t good[] = {0, 1, 3, 4, 6};
    static const size_t bad[] = {2, 5};
    assert_int_equal(preparation->count, 5);
    assert_int_equal(preparation->reused, reused);
    assert_int_equal(preparation->failure_count, 2);
    for (size_t i = 0; i < 5; i++) {
        struct cached_volume volume;
        assert_int_equal(preparation->sources[i], good[i]);
        assert_int_equal(cached_volume_open(&volume, preparation->paths[i]), VOCO_OK);
        assert_int_equal(cached_volume_verify(&volume, preparation->paths[i]), VOCO_OK);
        assert_string_equal(strrchr(volume.source, '/'), strrchr(place->sources[good[i]], '/'));
        assert_true(volume.size[0] >= window[0] && volume.size[1] >= window[1] &&
                    volume.size[2] >= window[2]);
        cached_volume_close(&volume);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(preparation->failures[i].path, place->sources[bad[i]]);
        assert_non_null(strstr(preparation->failures[i].message, place->sources[bad[i]]));
    }
}

static void bad_volumes_are_skipped_and_listed(void **state)
{
    for (int jobs = 1; jobs <= 3; jobs++) {
        struct place *place = *state;
        struct preparation preparation;
        assert_int_equal(prepare_all(&preparation, place, jobs), VOCO_OK);
        assert_prepared(place, &preparation, jobs == 1 ? 0 : 5);
        preparation_free(&preparation);
    }
}

static void a_cached_volume_is_what_prepare_volume_gives(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    assert_int_equal(prepare_all(&preparation, place, 2), VOCO_OK);
    for (size_t v = 0; v < preparation.count; v++) {
        struct volume expected;
        struct cached_volume cached;
        assert_int_equal(
            prepare_volume(&expected, place->sources[preparation.sources[v]], &place->preset, window),
            VOCO_OK);
        assert_int_equal(cached_volume_open(&cached, preparation.paths[v]), VOCO_OK);
        assert_memory_equal(cached.size, expected.size, sizeof expected.size);
        assert_memory_equal(cached.affine, expected.affine, sizeof expected.affine);
        for (size_t i = 0; i < volume_count(&expected); i++) {
            assert_true(fabs(cached.voxels[i] / 65535.0 - (double)expected.data[i]) <=
                        1.0 / 131070.0 + 1e-12);
        }
        cached_volume_close(&cached);
        volume_free(&expected);
    }
    preparation_free(&preparation);
}

static void what_is_damaged_or_changed_is_prepared_again(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    assert_int_equal(prepare_all(&preparation, place, 2), VOCO_OK);
    /* One file cut short, one voxel of another changed, one source changed. */
    assert_int_equal(truncate(preparation.paths[0], 6000), 0);
    const int file = open(preparation.paths[1], O_WRONLY);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, "\377\377\377", 3, 5001), 3);
    close(file);
    put_volume(place->sources[3], 9);
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, place->sources[3], times, 0), 0);
    preparation_free(&preparation);

    assert_int_equal(prepare_all(&preparation, place, 2), VOCO_OK);
    assert_prepared(place, &preparation, 2);
    preparation_free(&preparation);
    assert_int_equal(prepare_all(&preparation, place, 2), VOCO_OK);
    assert_prepared(place, &preparation, 5);
    preparation_free(&preparation);
}

static void millimetres(double place[3], double affine[3][4], const int voxel[3])
{
    for (int row = 0; row < 3; row++) {
        place[row] = affine[row][3];
        for (int axis = 0; axis < 3; axis++) {
            place[row] += affine[row][axis] * voxel[axis];
        }
    }
}

static void resizing_keeps_the_corners_where_they_are(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    place->cache.preset.window = WINDOW_RESIZE;
    assert_int_equal(prepare_all(&preparation, place, 1), VOCO_OK);
    const int crop[3] = {window[2], window[2], window[2]};
    struct volume whole;
    struct cached_volume resized;
    assert_int_equal(prepare_volume(&whole, place->sources[0], &place->preset, crop), VOCO_OK);
    assert_int_equal(cached_volume_open(&resized, preparation.paths[0]), VOCO_OK);
    assert_memory_equal(resized.size, window, sizeof window);
    for (int corner = 0; corner < 8; corner++) {
        int from[3];
        int to[3];
        for (int axis = 0; axis < 3; axis++) {
            const int end = corner >> axis & 1;
            from[axis] = end ? whole.size[axis] - 1 : 0;
            to[axis] = end ? window[axis] - 1 : 0;
        }
        double expected[3];
        double actual[3];
        millimetres(expected, whole.affine, from);
        millimetres(actual, resized.affine, to);
        for (int row = 0; row < 3; row++) {
            assert_true(fabs(expected[row] - actual[row]) < 1e-9);
        }
        const size_t i = ((size_t)from[2] * (size_t)whole.size[1] + (size_t)from[1]) * (size_t)whole.size[0] +
                         (size_t)from[0];
        const size_t o =
            ((size_t)to[2] * (size_t)window[1] + (size_t)to[1]) * (size_t)window[0] + (size_t)to[0];
        assert_true(fabs(resized.voxels[o] / 65535.0 - (double)whole.data[i]) < 1e-5);
    }
    for (int axis = 0; axis < 3; axis++) {
        const double length = sqrt(resized.affine[0][axis] * resized.affine[0][axis] +
                                   resized.affine[1][axis] * resized.affine[1][axis] +
                                   resized.affine[2][axis] * resized.affine[2][axis]);
        assert_true(fabs(length - resized.spacing[axis]) < 1e-9);
    }
    cached_volume_close(&resized);
    volume_free(&whole);
    preparation_free(&preparation);
}

static void none_left_is_an_error_with_the_first_cause(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    const char *bad[] = {place->sources[2], place->sources[5]};
    assert_int_equal(volume_cache_prepare(&preparation, &place->cache, bad, 2, 2, NULL), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), bad[0]));
    assert_int_equal(preparation.failure_count, 2);
    preparation_free(&preparation);
    assert_int_equal(volume_cache_prepare(&preparation, &place->cache, bad, 1, 1, NULL), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), preparation.failures[0].message);
    preparation_free(&preparation);
    assert_int_equal(volume_cache_prepare(&preparation, &place->cache, NULL, 0, 1, NULL), VOCO_BAD_INPUT);
}

static volatile sig_atomic_t stop_now;
static int progress_lines;
static char last_line[256];

static void stop_after_two(enum log_level level, const char *line, void *context)
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
    log_set_sink(stop_after_two, NULL);
    const enum voco_status status = volume_cache_prepare(
        &preparation, &place->cache, (const char *const *)place->sources, source_count, 1, &stop_now);
    assert_int_equal(status, VOCO_STOPPED);
    assert_in_range(preparation.count, 1, 4);
    const size_t done = preparation.count;
    preparation_free(&preparation);
    assert_int_equal(prepare_all(&preparation, place, 1), VOCO_OK);
    log_set_sink(NULL, NULL);
    assert_prepared(place, &preparation, done);
    assert_true(progress_lines >= 2);
    assert_non_null(strstr(last_line, "7 of 7"));
    preparation_free(&preparation);
}

static void a_cache_that_cannot_be_written_ends_the_work(void **state)
{
    struct place *place = *state;
    struct preparation preparation;
    assert_int_equal(rmdir(place->cache_folder), 0);
    assert_int_equal(prepare_all(&preparation, place, 1), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), place->cache_folder));
    assert_int_equal(preparation.count, 0);
    preparation_free(&preparation);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PLACE(bad_volumes_are_skipped_and_listed),
        WITH_PLACE(a_cached_volume_is_what_prepare_volume_gives),
        WITH_PLACE(what_is_damaged_or_changed_is_prepared_again),
        WITH_PLACE(resizing_keeps_the_corners_where_they_are),
        WITH_PLACE(none_left_is_an_error_with_the_first_cause),
        WITH_PLACE(it_stops_when_asked_and_goes_on_from_there),
        WITH_PLACE(a_cache_that_cannot_be_written_ends_the_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
