/* A phantom without a file: the same voxels as drawn, at the cache's precision, and batches from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/loader.h"
#include "data/phantom.h"
#include "data/phantom_shard.h"
#include "store/volume_cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* More than one chunk along x, fewer voxels than a chunk along the others. */
static const int size[3] = {70, 33, 35};
enum { levels = 4095, seed = 11, number = 3 };

static struct preset coarse_preset(const char *name)
{
    struct preset preset;
    assert_int_equal(preset_from_name(&preset, name), VOCO_OK);
    for (int axis = 0; axis < 3; axis++) {
        preset.spacing[axis] = 6.5;
    }
    return preset;
}

static struct shard open_phantom(const char *preset_name, int threads)
{
    struct shard shard;
    const struct preset preset = coarse_preset(preset_name);
    assert_int_equal(phantom_shard_open(&shard, &preset, size, levels, seed, number, threads), VOCO_OK);
    return shard;
}

/* The volume as one array, z fastest. */
static uint16_t *read_all(const struct shard *shard)
{
    struct chunk_decoder decoder = {0};
    uint16_t *all = calloc((size_t)size[0] * size[1] * size[2], sizeof *all);
    uint16_t *chunk = malloc(chunk_bytes(levels));
    assert_non_null(all);
    assert_non_null(chunk);
    for (int cx = 0; cx < 2; cx++) {
        assert_int_equal(shard_read_chunk(chunk, shard, (size_t)cx, &decoder), VOCO_OK);
        for (int x = 0; x < chunk_side && cx * chunk_side + x < size[0]; x++) {
            for (int y = 0; y < size[1]; y++) {
                memcpy(all + ((size_t)(cx * chunk_side + x) * size[1] + y) * size[2],
                       chunk + ((size_t)x * chunk_side + y) * chunk_side, (size_t)size[2] * sizeof *all);
            }
        }
    }
    chunk_decoder_free(&decoder);
    free(chunk);
    return all;
}

static void it_holds_the_drawn_phantom(void **state)
{
    (void)state;
    const struct preset preset = coarse_preset("abdomen");
    const size_t count = (size_t)size[0] * size[1] * size[2];
    int16_t *hu = malloc(count * sizeof *hu);
    uint8_t *labels = malloc(count);
    struct phantom_subject subject;
    assert_non_null(hu);
    assert_non_null(labels);
    phantom_subject_draw(&subject, seed, number);
    phantom_rasterise(hu, labels, &subject, size, preset.spacing);
    for (int threads = 1; threads <= 3; threads++) {
        struct shard shard = open_phantom("abdomen", threads);
        uint16_t *all = read_all(&shard);
        for (size_t i = 0; i < count; i++) {
            const size_t x = i % (size_t)size[0], y = i / (size_t)size[0] % (size_t)size[1];
            const size_t z = i / (size_t)size[0] / (size_t)size[1];
            const double value = fmin(1, fmax(0, (hu[i] - preset.low) / (preset.high - preset.low)));
            const double got = all[(x * (size_t)size[1] + y) * (size_t)size[2] + z];
            assert_true(fabs(got - levels * value) <= 0.501);
        }
        free(all);
        shard_close(&shard);
    }
    free(hu);
    free(labels);
}

static void mr_intensities_fill_their_range(void **state)
{
    (void)state;
    struct shard shard = open_phantom("mr", 1);
    uint16_t *all = read_all(&shard);
    int least = levels, most = 0;
    for (size_t i = 0; i < (size_t)size[0] * size[1] * size[2]; i++) {
        least = all[i] < least ? all[i] : least;
        most = all[i] > most ? all[i] : most;
    }
    assert_int_equal(least, 0);
    assert_int_equal(most, levels);
    free(all);
    shard_close(&shard);
}

/* What a loader's threads make of it is the same as what one thread does, with and without a cache of chunks.
 */
static void batches_come_from_it(void **state)
{
    (void)state;
    struct shard shard = open_phantom("abdomen", 1);
    struct batch_source source = {.shards = &shard,
                                  .count = 1,
                                  .volumes = 2,
                                  .sampling = {.roi = 16, .crops = 2, .base_grid = {3, 2}},
                                  .augmentation = augmentation_default,
                                  .seed = 5};
    struct batch batch;
    struct batch_maker maker = {0};
    struct loader *loader = NULL;
    struct chunk_cache *chunks = NULL;
    assert_int_equal(batch_source_create_batch(&batch, &source), VOCO_OK);
    const size_t bytes = (size_t)2 * (2 + 6) * 16 * 16 * 16 * sizeof(float);
    assert_int_equal(chunk_cache_open(&chunks, 8 << 20, chunk_bytes(levels)), VOCO_OK);
    const struct batch_source without = source;
    source.chunks = chunks;
    assert_int_equal(loader_open(&loader, &source, 0, 2, 2), VOCO_OK);
    for (uint64_t step = 0; step < 6; step++) {
        const struct batch *loaded = NULL;
        assert_int_equal(loader_next(loader, &loaded), VOCO_OK);
        assert_int_equal(make_batch(&batch, &without, &maker, step), VOCO_OK);
        assert_memory_equal(loaded->voxels, batch.voxels, bytes);
        float most = 0;
        for (size_t i = 0; i < bytes / sizeof(float); i++) {
            most = batch.voxels[i] > most ? batch.voxels[i] : most;
        }
        assert_true(most > 0.5F); /* bone or contrast, not an empty place */
    }
    uint64_t found = 0, missed = 0;
    chunk_cache_count(&found, &missed, chunks);
    assert_true(found > 0);
    loader_close(loader);
    chunk_cache_close(chunks);
    batch_maker_free(&maker);
    batch_free(&batch);
    shard_close(&shard);
}

static void a_window_that_is_too_large_is_refused(void **state)
{
    (void)state;
    struct shard shard = open_phantom("abdomen", 1);
    const struct batch_source source = {.shards = &shard,
                                        .count = 1,
                                        .volumes = 1,
                                        .sampling = {.roi = 34, .crops = 1, .base_grid = {2, 1}},
                                        .seed = 5};
    struct batch batch;
    struct batch_maker maker = {0};
    assert_int_equal(batch_source_create_batch(&batch, &source), VOCO_OK);
    assert_int_equal(make_batch(&batch, &source, &maker, 0), VOCO_BAD_INPUT);
    assert_non_null(
        strstr(voco_error_message(), "phantom: a volume of 70 x 33 x 35 voxels does not hold a window"));
    batch_maker_free(&maker);
    batch_free(&batch);
    shard_close(&shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_holds_the_drawn_phantom),
        cmocka_unit_test(mr_intensities_fill_their_range),
        cmocka_unit_test(batches_come_from_it),
        cmocka_unit_test(a_window_that_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
