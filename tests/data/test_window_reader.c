/* Crops out of the chunks of a shard against the voxels that were written, whatever bits, borders and cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "base/philox.h"
#include "data/window_reader.h"
#include "voco/status.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { roi = 37, crop_count = 7 };
static const int size[3] = {150, 131, 70};

struct fixture {
    char folder[64];
    char path[96];
    struct volume volume;
};

static void fixture_open(struct fixture *fixture, int levels)
{
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/voco_window_XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof fixture->path, "%s/shard", fixture->folder);
    fixture->volume = (struct volume){.size = {size[0], size[1], size[2]}};
    const size_t count = volume_count(&fixture->volume);
    fixture->volume.data = malloc(count * sizeof(float));
    assert_non_null(fixture->volume.data);
    for (size_t i = 0; i < count; i++) {
        const struct random_key key = {.seed = 4, .step = i, .purpose = RANDOM_TEST};
        /* A part of the volume is empty, so that some chunks are not stored. */
        fixture->volume.data[i] =
            i % 150 < 128 ? (float)random_below(&key, 0, (uint32_t)levels + 1) / (float)levels : 0;
    }
    const struct prepared_volume prepared = prepared_volume_of(&fixture->volume);
    uint64_t bytes = 0;
    assert_int_equal(shard_write(&bytes, fixture->path, &prepared, levels, 3, 2), VOCO_OK);
}

static void fixture_close(struct fixture *fixture)
{
    volume_free(&fixture->volume);
    assert_int_equal(remove_folder(fixture->folder), VOCO_OK);
}

/* Crops at odd places, the first at one corner of the volume and the second at the other. */
static void want_crops(struct wanted_crop crops[crop_count], float *room, int levels)
{
    for (int i = 0; i < crop_count; i++) {
        const struct random_key key = {.seed = 9, .step = (uint64_t)i, .purpose = RANDOM_TEST};
        const struct crop_change change = {.shift = 0.25F};
        crops[i] = (struct wanted_crop){.out = room + (size_t)i * roi * roi * roi,
                                        .transform = crop_transform_of(&change, 1.0F / (float)levels, roi)};
        for (int axis = 0; axis < 3; axis++) {
            const int most = size[axis] - roi;
            crops[i].start[axis] =
                i == 0 ? 0 : (i == 1 ? most : (int)random_below(&key, (uint32_t)axis, (uint32_t)most + 1));
        }
    }
}

static void check_crops(const struct wanted_crop crops[crop_count], const struct volume *volume)
{
    for (int i = 0; i < crop_count; i++) {
        const int *start = crops[i].start;
        for (int x = 0; x < roi; x++) {
            for (int y = 0; y < roi; y++) {
                for (int z = 0; z < roi; z++) {
                    const size_t at = ((size_t)(start[2] + z) * (size_t)size[1] + (size_t)(start[1] + y)) *
                                          (size_t)size[0] +
                                      (size_t)(start[0] + x);
                    const float *crop = crops[i].out;
                    const float got = crop[((size_t)x * roi + (size_t)y) * roi + (size_t)z];
                    if (fabsf(got - 0.25F - volume->data[at]) > 1e-6F) {
                        fail_msg("crop %d, voxel %d %d %d: %g instead of %g", i, x, y, z, (double)got - 0.25,
                                 (double)volume->data[at]);
                    }
                }
            }
        }
    }
}

static void crops_are_the_voxels_written_at_all_bits(void **state)
{
    (void)state;
    static const int levels[] = {255, 4095, 65535};
    float *room = malloc(sizeof(float) * crop_count * roi * roi * roi);
    assert_non_null(room);
    for (int i = 0; i < 3; i++) {
        struct fixture fixture;
        struct shard shard;
        struct window_reader *reader = NULL;
        struct wanted_crop crops[crop_count];
        fixture_open(&fixture, levels[i]);
        want_crops(crops, room, levels[i]);
        assert_int_equal(shard_open(&shard, fixture.path, size, levels[i], "x"), VOCO_OK);
        assert_int_equal(window_reader_open(&reader), VOCO_OK);
        memset(room, 0xff, sizeof(float) * crop_count * roi * roi * roi);
        window_prefetch(&shard, crops, crop_count, roi);
        assert_int_equal(window_read(reader, &shard, crops, crop_count, roi, NULL, NULL), VOCO_OK);
        check_crops(crops, &fixture.volume);
        window_reader_close(reader);
        shard_close(&shard);
        fixture_close(&fixture);
    }
    free(room);
}

static int stored_number(const struct wanted_crop *crop, size_t at)
{
    return crop->form == VOXELS_8_BITS ? ((const uint8_t *)crop->out)[at] : ((const uint16_t *)crop->out)[at];
}

static void crops_can_be_had_as_they_are_stored(void **state)
{
    (void)state;
    static const struct {
        int levels;
        enum voxel_form form;
    } cases[] = {
        {255, VOXELS_8_BITS}, {255, VOXELS_16_BITS}, {4095, VOXELS_16_BITS}, {65535, VOXELS_16_BITS}};
    enum { voxels = roi * roi * roi };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int levels = cases[i].levels;
        struct fixture fixture;
        struct shard shard;
        struct window_reader *reader = NULL;
        struct wanted_crop floats[crop_count], stored[crop_count];
        float *room = malloc(2 * sizeof(float) * crop_count * voxels);
        assert_non_null(room);
        fixture_open(&fixture, levels);
        want_crops(floats, room, levels);
        want_crops(stored, room + (size_t)crop_count * voxels, levels);
        for (int k = 0; k < crop_count; k++) {
            stored[k].form = cases[i].form;
        }
        assert_int_equal(shard_open(&shard, fixture.path, size, levels, "x"), VOCO_OK);
        assert_int_equal(window_reader_open(&reader), VOCO_OK);
        assert_int_equal(window_read(reader, &shard, floats, crop_count, roi, NULL, NULL), VOCO_OK);
        assert_int_equal(window_read(reader, &shard, stored, crop_count, roi, NULL, NULL), VOCO_OK);
        for (int k = 0; k < crop_count; k++) {
            const float *crop = floats[k].out;
            for (size_t at = 0; at < voxels; at++) {
                assert_int_equal(stored_number(&stored[k], at),
                                 (int)lrintf((crop[at] - 0.25F) * (float)levels));
            }
        }
        window_reader_close(reader);
        shard_close(&shard);
        fixture_close(&fixture);
        free(room);
    }
}

struct reading {
    const struct fixture *fixture;
    const struct shard *shard;
    struct chunk_cache *chunks;
    enum voco_status status;
};

static void *read_often(void *context)
{
    struct reading *reading = context;
    float *room = malloc(sizeof(float) * crop_count * roi * roi * roi);
    struct window_reader *reader = NULL;
    struct wanted_crop crops[crop_count];
    assert_non_null(room);
    want_crops(crops, room, 255);
    reading->status = window_reader_open(&reader);
    for (int i = 0; reading->status == VOCO_OK && i < 8; i++) {
        reading->status =
            window_read(reader, reading->shard, crops, crop_count, roi, reading->chunks, reading->fixture);
    }
    check_crops(crops, &reading->fixture->volume);
    window_reader_close(reader);
    free(room);
    return NULL;
}

static void threads_share_a_cache_of_any_size(void **state)
{
    (void)state;
    struct fixture fixture;
    struct shard shard;
    fixture_open(&fixture, 255);
    assert_int_equal(shard_open(&shard, fixture.path, size, 255, "x"), VOCO_OK);
    static const uint64_t budgets[] = {0, 1, 3, 1000};
    for (int i = 0; i < 4; i++) {
        struct chunk_cache *chunks = NULL;
        struct reading readings[3];
        pthread_t threads[3];
        assert_int_equal(chunk_cache_open(&chunks, budgets[i] * chunk_voxels, chunk_voxels), VOCO_OK);
        for (int t = 0; t < 3; t++) {
            readings[t] = (struct reading){&fixture, &shard, chunks, VOCO_OK};
            assert_int_equal(pthread_create(&threads[t], NULL, read_often, &readings[t]), 0);
        }
        for (int t = 0; t < 3; t++) {
            pthread_join(threads[t], NULL);
            assert_int_equal(readings[t].status, VOCO_OK);
        }
        uint64_t found = 0;
        uint64_t missed = 0;
        chunk_cache_count(&found, &missed, chunks);
        assert_true(budgets[i] > 0 || found == 0);
        assert_true(budgets[i] < 1000 || missed <= 3 * shard_chunk_count(size));
        chunk_cache_close(chunks);
    }
    shard_close(&shard);
    fixture_close(&fixture);
}

static void a_changed_byte_of_a_chunk_that_is_read_is_an_error_and_of_another_is_not(void **state)
{
    (void)state;
    static const struct crop_change unchanged;
    struct fixture fixture;
    fixture_open(&fixture, 255);
    float *room = malloc(sizeof(float) * roi * roi * roi);
    assert_non_null(room);
    for (int touched = 0; touched < 2; touched++) {
        struct shard shard;
        struct window_reader *reader = NULL;
        assert_int_equal(shard_open(&shard, fixture.path, size, 255, "the volume"), VOCO_OK);
        const struct shard_chunk chunk = shard.chunks[touched ? 0 : 1];
        FILE *stream = fopen(fixture.path, "r+b");
        assert_non_null(stream);
        assert_int_equal(fseek(stream, (long)(chunk.offset + chunk.bytes / 2), SEEK_SET), 0);
        const int byte = fgetc(stream);
        assert_int_equal(fseek(stream, -1, SEEK_CUR), 0);
        assert_int_not_equal(fputc(byte ^ 4, stream), EOF);
        assert_int_equal(fclose(stream), 0);
        const struct wanted_crop crop = {.out = room, .transform = crop_transform_of(&unchanged, 1, roi)};
        assert_int_equal(window_reader_open(&reader), VOCO_OK);
        const enum voco_status status = window_read(reader, &shard, &crop, 1, roi, NULL, NULL);
        assert_int_equal(status, touched ? VOCO_BAD_INPUT : VOCO_OK);
        assert_true(!touched ||
                    strstr(voco_error_message(), "the volume: damaged: the checksum of chunk 0") != NULL);
        window_reader_close(reader);
        shard_close(&shard);
    }
    free(room);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crops_are_the_voxels_written_at_all_bits),
        cmocka_unit_test(crops_can_be_had_as_they_are_stored),
        cmocka_unit_test(threads_share_a_cache_of_any_size),
        cmocka_unit_test(a_changed_byte_of_a_chunk_that_is_read_is_an_error_and_of_another_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
