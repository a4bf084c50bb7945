/* Batches: which volumes, where the crops lie, how they are ordered, and that a step's batch depends on
 * nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "data/cached_set.h"
#include "data/make_batch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct batch_source source_of(const struct cached_set *set, int volumes)
{
    return (struct batch_source){.paths = (const char *const *)set->paths,
                                 .count = set->count,
                                 .volumes = volumes,
                                 .sampling = {.roi = 4, .crops = 2, .base_grid = {3, 3}},
                                 .seed = 42};
}

static size_t batch_voxels(const struct batch *batch)
{
    return (size_t)batch->volumes * (size_t)(batch->crops + batch->bases) * (size_t)batch->roi *
           (size_t)batch->roi * (size_t)batch->roi;
}

/* Every voxel of an unchanged crop tells where it came from: it must be `corner` plus its own place. */
static int check_crop_place(const struct cached_set *set, const float *crop, int roi, int corner[3])
{
    const int volume = voxel_place(corner, set, crop[0]);
    for (int x = 0; x < roi; x++) {
        for (int y = 0; y < roi; y++) {
            for (int z = 0; z < roi; z++) {
                int place[3];
                assert_int_equal(voxel_place(place, set, crop[(x * roi + y) * roi + z]), volume);
                assert_int_equal(place[0], corner[0] + x);
                assert_int_equal(place[1], corner[1] + y);
                assert_int_equal(place[2], corner[2] + z);
            }
        }
    }
    return volume;
}

/* One volume of an unaugmented batch; returns which volume of the set it is. */
static int check_volume(const struct cached_set *set, const struct batch *batch, int v)
{
    int window[3];
    const int volume = check_crop_place(set, batch_base_crop(batch, v, 0), batch->roi, window);
    for (int k = 0; k < 9; k++) {
        int corner[3];
        assert_int_equal(check_crop_place(set, batch_base_crop(batch, v, k), batch->roi, corner), volume);
        assert_int_equal(corner[0], window[0] + k / 3 * batch->roi);
        assert_int_equal(corner[1], window[1] + k % 3 * batch->roi);
        assert_int_equal(corner[2], window[2]);
    }
    for (int s = 0; s < batch->crops; s++) {
        int corner[3];
        assert_int_equal(check_crop_place(set, batch_random_crop(batch, v, s), batch->roi, corner), volume);
        assert_int_equal(corner[2], window[2]);
        const float *label = batch->labels + ((size_t)v * (size_t)batch->crops + (size_t)s) * 9;
        for (int k = 0; k < 9; k++) {
            const int apart_x = abs(corner[0] - window[0] - k / 3 * batch->roi);
            const int apart_y = abs(corner[1] - window[1] - k % 3 * batch->roi);
            const int shared = apart_x < 4 && apart_y < 4 ? (4 - apart_x) * (4 - apart_y) : 0;
            assert_true(label[k] == (float)shared / 16.0F);
        }
    }
    return volume;
}

static void crops_and_labels_tell_the_same_place(void **state)
{
    (void)state;
    struct cached_set set;
    struct batch batch;
    struct batch_maker maker = {0};
    make_cached_set(&set, 5);
    const struct batch_source source = source_of(&set, 2);
    assert_int_equal(batch_source_check(&source), VOCO_OK);
    assert_int_equal(batch_source_create_batch(&batch, &source), VOCO_OK);
    int seen[5] = {0};
    for (uint64_t step = 0; step < 10; step++) {
        assert_int_equal(make_batch(&batch, &source, &maker, step), VOCO_OK);
        for (int v = 0; v < 2; v++) {
            seen[check_volume(&set, &batch, v)]++;
        }
    }
    for (int v = 0; v < 5; v++) {
        assert_int_equal(seen[v], 4); /* 20 samples are 4 epochs of 5 */
    }
    batch_maker_free(&maker);
    batch_free(&batch);
    remove_cached_set(&set);
}

static void a_batch_depends_on_seed_and_step_alone(void **state)
{
    (void)state;
    struct cached_set set;
    struct batch first;
    struct batch second;
    struct batch_maker maker = {0};
    struct batch_maker fresh = {0};
    make_cached_set(&set, 5);
    struct batch_source source = source_of(&set, 3);
    source.augmentation = augmentation_default;
    assert_int_equal(batch_source_create_batch(&first, &source), VOCO_OK);
    assert_int_equal(batch_source_create_batch(&second, &source), VOCO_OK);
    const size_t bytes = batch_voxels(&first) * sizeof(float);
    const size_t label_bytes = (size_t)3 * 2 * 9 * sizeof(float);
    assert_int_equal(make_batch(&first, &source, &maker, 1000000007), VOCO_OK);
    for (uint64_t step = 0; step < 7; step++) {
        assert_int_equal(make_batch(&second, &source, &fresh, step), VOCO_OK);
        assert_memory_not_equal(first.voxels, second.voxels, bytes);
    }
    assert_int_equal(make_batch(&second, &source, &fresh, 1000000007), VOCO_OK);
    assert_memory_equal(first.voxels, second.voxels, bytes);
    assert_memory_equal(first.labels, second.labels, label_bytes);
    source.seed++;
    assert_int_equal(make_batch(&second, &source, &fresh, 1000000007), VOCO_OK);
    assert_memory_not_equal(first.voxels, second.voxels, bytes);
    batch_maker_free(&maker);
    batch_maker_free(&fresh);
    batch_free(&first);
    batch_free(&second);
    remove_cached_set(&set);
}

/* Augmentation moves a crop's voxels about; whatever it does, random and base crops must both see it. */
static void random_and_base_crops_are_augmented_independently(void **state)
{
    (void)state;
    enum { crops = 11, steps = 200, size = 64 };
    struct cached_set set;
    struct batch plain;
    struct batch changed;
    struct batch_maker maker = {0};
    make_cached_set(&set, 1);
    const struct batch_source source = source_of(&set, 1);
    struct batch_source augmented = source;
    augmented.augmentation.flip[2] = 0.5F;
    assert_int_equal(batch_source_create_batch(&plain, &source), VOCO_OK);
    assert_int_equal(batch_source_create_batch(&changed, &source), VOCO_OK);
    int together[crops][crops] = {{0}};
    for (uint64_t step = 0; step < steps; step++) {
        int flipped[crops];
        assert_int_equal(make_batch(&plain, &source, &maker, step), VOCO_OK);
        assert_int_equal(make_batch(&changed, &augmented, &maker, step), VOCO_OK);
        assert_memory_equal(plain.labels, changed.labels, (size_t)2 * 9 * sizeof(float));
        for (int c = 0; c < crops; c++) {
            const float *a = plain.voxels + (size_t)c * size;
            const float *b = changed.voxels + (size_t)c * size;
            flipped[c] = a[0] != b[0];
            for (int i = 0; i < size; i++) {
                assert_true(b[i] == a[flipped[c] ? i / 4 * 4 + 3 - i % 4 : i]);
            }
        }
        for (int a = 0; a < crops; a++) {
            for (int b = 0; b < crops; b++) {
                together[a][b] += flipped[a] && flipped[b];
            }
        }
    }
    for (int a = 0; a < crops; a++) {
        for (int b = 0; b < crops; b++) {
            const double p = a == b ? 0.5 : 0.25;
            assert_true(fabs(together[a][b] - steps * p) < 5.0 * sqrt(steps * p * (1.0 - p)));
        }
    }
    batch_maker_free(&maker);
    batch_free(&plain);
    batch_free(&changed);
    remove_cached_set(&set);
}

/* Crop by crop the same bits; of a set of 16 bits. */
static void a_batch_as_stored_becomes_that_of_floats(void **state)
{
    (void)state;
    enum { size = 64 };
    struct cached_set set;
    struct batch floats, stored;
    struct batch_maker maker = {0};
    float crop[size];
    make_cached_set(&set, 5);
    struct batch_source source = source_of(&set, 3);
    source.augmentation =
        (struct augmentation){.flip = {0.5F, 0.5F, 0.5F}, .rotate = 0.7F, .shift = 0.5F, .shift_range = 0.1F};
    assert_int_equal(batch_source_create_batch(&floats, &source), VOCO_OK);
    const uint64_t float_bytes = batch_source_bytes(&source);
    source.form = VOXELS_16_BITS;
    assert_int_equal(batch_source_create_batch(&stored, &source), VOCO_OK);
    assert_null(stored.voxels);
    assert_true(batch_source_bytes(&source) < float_bytes);
    assert_int_equal(batch_source_crop_bytes(&source),
                     crops_bytes(VOXELS_16_BITS, batch_crop_count(&stored), 4));
    for (uint64_t step = 0; step < 5; step++) {
        assert_int_equal(make_batch(&floats, &source, &maker, step), VOCO_OK);
        assert_int_equal(make_batch(&stored, &source, &maker, step), VOCO_OK);
        assert_memory_equal(floats.labels, stored.labels, (size_t)3 * 2 * 9 * sizeof(float));
        for (size_t k = 0; k < batch_crop_count(&floats); k++) {
            batch_read_crop(crop, &stored, k);
            assert_memory_equal(crop, floats.voxels + k * size, sizeof crop);
            batch_read_crop(crop, &floats, k);
            assert_memory_equal(crop, floats.voxels + k * size, sizeof crop);
        }
    }
    batch_free(&stored);
    source.form = VOXELS_8_BITS;
    assert_int_equal(batch_source_create_batch(&stored, &source), VOCO_OK);
    assert_int_equal(make_batch(&stored, &source, &maker, 0), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "a volume of 16 bits a voxel among those that have 8"));
    batch_maker_free(&maker);
    batch_free(&floats);
    batch_free(&stored);
    remove_cached_set(&set);
}

static void evaluation_takes_the_volumes_named_whatever_their_company(void **state)
{
    (void)state;
    struct cached_set set;
    struct batch_maker maker = {0};
    struct batch pair;
    struct batch single;
    make_cached_set(&set, 4);
    struct batch_source source = source_of(&set, 2);
    source.augmentation = augmentation_default; /* must not be used */
    assert_int_equal(batch_source_create_batch(&pair, &source), VOCO_OK);
    source.volumes = 1;
    assert_int_equal(batch_source_create_batch(&single, &source), VOCO_OK);
    const size_t both[2] = {3, 1};
    const size_t crop_bytes = (size_t)64 * sizeof(float);
    assert_int_equal(make_evaluation_batch(&pair, &source, &maker, both, 0), VOCO_OK);
    for (int v = 0; v < 2; v++) {
        assert_int_equal(check_volume(&set, &pair, v), both[v]);
        assert_int_equal(make_evaluation_batch(&single, &source, &maker, &both[v], 0), VOCO_OK);
        assert_memory_equal(single.labels, pair.labels + (size_t)v * 18, 18 * sizeof(float));
        assert_memory_equal(batch_random_crop(&single, 0, 0), batch_random_crop(&pair, v, 0), 2 * crop_bytes);
        assert_memory_equal(batch_base_crop(&single, 0, 0), batch_base_crop(&pair, v, 0), 9 * crop_bytes);
    }
    assert_int_equal(make_evaluation_batch(&single, &source, &maker, &both[1], 1), VOCO_OK);
    assert_memory_not_equal(single.labels, pair.labels + 18, 18 * sizeof(float));
    batch_maker_free(&maker);
    batch_free(&pair);
    batch_free(&single);
    remove_cached_set(&set);
}

static void a_volume_too_small_or_gone_is_named(void **state)
{
    (void)state;
    struct cached_set set;
    struct batch batch;
    struct batch_maker maker = {0};
    make_cached_set(&set, 1);
    struct batch_source source = source_of(&set, 1);
    source.sampling.base_grid[1] = 4;
    assert_int_equal(batch_source_create_batch(&batch, &source), VOCO_OK);
    assert_int_equal(make_batch(&batch, &source, &maker, 0), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), set.paths[0]));
    assert_int_equal(remove_folder(set.paths[0]), VOCO_OK);
    assert_int_equal(make_batch(&batch, &source, &maker, 0), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), set.paths[0]));
    batch_maker_free(&maker);
    batch_free(&batch);
    remove_cached_set(&set);
}

static void sources_without_a_batch_are_refused(void **state)
{
    (void)state;
    const struct cached_set set = {.count = 1};
    const struct batch_source good = source_of(&set, 1);
    assert_int_equal(batch_source_check(&good), VOCO_OK);
    struct batch_source bad[3] = {good, good, good};
    bad[0].count = 0;
    bad[1].volumes = 0;
    bad[2].sampling.crops = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(batch_source_check(&bad[i]), VOCO_BAD_INPUT);
    }
}

static void every_epoch_is_a_permutation_and_another_one(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 3, 7, 64, 1000};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        const uint32_t n = counts[c];
        struct batch_maker maker = {0};
        uint32_t *previous = calloc(n, sizeof *previous);
        assert_non_null(previous);
        int changed = 0;
        for (uint64_t epoch = 0; epoch < 8; epoch++) {
            unsigned char *seen = calloc(n, 1);
            assert_non_null(seen);
            for (uint32_t i = 0; i < n; i++) {
                uint32_t volume = 0;
                assert_int_equal(shuffled_volume(&volume, &maker.order, 6, epoch * n + i, n), VOCO_OK);
                assert_in_range(volume, 0, n - 1);
                assert_false(seen[volume]);
                seen[volume] = 1;
                changed += previous[i] != volume;
                previous[i] = volume;
            }
            free(seen);
        }
        assert_true(n == 1 || changed > 0);
        free(previous);
        batch_maker_free(&maker);
    }
}

static void what_order_was_drawn_before_does_not_matter(void **state)
{
    (void)state;
    struct batch_maker used = {0};
    for (uint64_t i = 0; i < 200; i++) {
        const uint64_t seed = i % 2;
        const uint64_t sample = i * 37 % 300;
        const uint32_t count = i % 5 == 0 ? 90 : 100;
        struct batch_maker fresh = {0};
        uint32_t expected = 0;
        uint32_t volume = 0;
        assert_int_equal(shuffled_volume(&expected, &fresh.order, seed, sample, count), VOCO_OK);
        assert_int_equal(shuffled_volume(&volume, &used.order, seed, sample, count), VOCO_OK);
        assert_int_equal(volume, expected);
        batch_maker_free(&fresh);
    }
    batch_maker_free(&used);
}

static void every_permutation_is_equally_likely(void **state)
{
    (void)state;
    enum { epochs = 24000 };
    int seen[256] = {0};
    struct batch_maker maker = {0};
    for (uint64_t epoch = 0; epoch < epochs; epoch++) {
        uint32_t code = 0;
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t volume = 0;
            assert_int_equal(shuffled_volume(&volume, &maker.order, 1, epoch * 4 + i, 4), VOCO_OK);
            code = code * 4 + volume;
        }
        seen[code]++;
    }
    int permutations = 0;
    double chi_square = 0.0;
    for (int code = 0; code < 256; code++) {
        permutations += seen[code] > 0;
        chi_square += seen[code] > 0 ? (seen[code] - 1000.0) * (seen[code] - 1000.0) / 1000.0 : 0.0;
    }
    assert_int_equal(permutations, 24);
    assert_true(chi_square < 23.0 + 5.0 * sqrt(46.0));
    batch_maker_free(&maker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crops_and_labels_tell_the_same_place),
        cmocka_unit_test(a_batch_depends_on_seed_and_step_alone),
        cmocka_unit_test(random_and_base_crops_are_augmented_independently),
        cmocka_unit_test(a_batch_as_stored_becomes_that_of_floats),
        cmocka_unit_test(evaluation_takes_the_volumes_named_whatever_their_company),
        cmocka_unit_test(a_volume_too_small_or_gone_is_named),
        cmocka_unit_test(sources_without_a_batch_are_refused),
        cmocka_unit_test(every_epoch_is_a_permutation_and_another_one),
        cmocka_unit_test(what_order_was_drawn_before_does_not_matter),
        cmocka_unit_test(every_permutation_is_equally_likely),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
