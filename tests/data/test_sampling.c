/* Windows, crop places and position labels against counting voxels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/batch.h"
#include "data/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The share of the crop's (x, y) columns that lie in base crop k, counted one by one. */
static double counted_share(const struct sampling *sampling, const int start[2], int base)
{
    const int roi = sampling->roi;
    const int i = base / sampling->base_grid[1];
    const int j = base % sampling->base_grid[1];
    int inside = 0;
    for (int x = start[0]; x < start[0] + roi; x++) {
        for (int y = start[1]; y < start[1] + roi; y++) {
            inside += x >= i * roi && x < (i + 1) * roi && y >= j * roi && y < (j + 1) * roi;
        }
    }
    return (double)inside / (double)(roi * roi);
}

static void check_all_labels(const struct sampling *sampling)
{
    enum { most_bases = 32 };
    float label[most_bases];
    const int bases = sampling_bases(sampling);
    for (int x = 0; x <= (sampling->base_grid[0] - 1) * sampling->roi; x++) {
        for (int y = 0; y <= (sampling->base_grid[1] - 1) * sampling->roi; y++) {
            const int start[2] = {x, y};
            position_label(label, start, sampling);
            double sum = 0.0;
            int not_zero = 0;
            for (int k = 0; k < bases; k++) {
                assert_true(label[k] == (float)counted_share(sampling, start, k));
                sum += (double)label[k];
                not_zero += label[k] != 0.0F;
            }
            assert_true(fabs(sum - 1.0) < 1e-6);
            assert_in_range(not_zero, 1, 4);
        }
    }
}

static void labels_are_the_counted_overlap_at_every_place(void **state)
{
    (void)state;
    const struct sampling cases[] = {
        {4, 1, {3, 3}}, {6, 2, {3, 3}}, {5, 1, {3, 3}}, {6, 1, {2, 4}},
        {7, 1, {4, 2}}, {4, 1, {1, 3}}, {3, 1, {1, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_all_labels(&cases[i]);
    }
}

static void base_crops_are_numbered_along_y_first(void **state)
{
    (void)state;
    const struct sampling sampling = {16, 2, {3, 4}};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 4; j++) {
            int start[2];
            base_crop_start(start, &sampling, 4 * i + j);
            assert_int_equal(start[0], 16 * i);
            assert_int_equal(start[1], 16 * j);
        }
    }
}

/* Every allowed centre comes, none other, and about equally often. */
static void check_crop_centres(const struct sampling *sampling)
{
    enum { draws = 40000, most_centres = 64 };
    int seen[2][most_centres] = {{0}};
    for (int i = 0; i < draws; i++) {
        const struct random_key place = {.seed = 5, .step = (uint64_t)(i / 4), .sample = (uint32_t)(i % 4)};
        int start[2];
        random_crop_start(start, sampling, &place, i % 3);
        for (int axis = 0; axis < 2; axis++) {
            const int centre = start[axis] + sampling->roi / 2;
            assert_in_range(centre, sampling->roi / 2,
                            sampling->base_grid[axis] * sampling->roi - sampling->roi / 2 - 1);
            seen[axis][centre - sampling->roi / 2]++;
        }
    }
    for (int axis = 0; axis < 2; axis++) {
        const int centres = sampling->base_grid[axis] * sampling->roi - 2 * (sampling->roi / 2);
        const double expected = (double)draws / centres;
        double chi_square = 0.0;
        for (int c = 0; c < centres; c++) {
            assert_true(seen[axis][c] > 0);
            chi_square += (seen[axis][c] - expected) * (seen[axis][c] - expected) / expected;
        }
        /* mean centres - 1, standard deviation sqrt(2 (centres - 1)) */
        assert_true(chi_square < centres - 1 + 5.0 * sqrt(2.0 * (centres - 1)));
    }
}

static void crop_centres_are_uniform_over_the_stated_integers(void **state)
{
    (void)state;
    const struct sampling even = {6, 3, {3, 2}};
    const struct sampling odd = {5, 3, {3, 4}};
    check_crop_centres(&even);
    check_crop_centres(&odd);
}

static void a_grid_of_one_leaves_one_place(void **state)
{
    (void)state;
    for (int roi = 4; roi <= 5; roi++) {
        const struct sampling sampling = {roi, 1, {1, 3}};
        for (uint64_t step = 0; step < 50; step++) {
            const struct random_key place = {.seed = 1, .step = step};
            int start[2];
            random_crop_start(start, &sampling, &place, 0);
            assert_int_equal(start[0], 0);
            assert_in_range(start[1], 0, 2 * roi);
        }
    }
}

static void windows_start_uniformly_wherever_they_fit(void **state)
{
    (void)state;
    enum { draws = 30000 };
    const struct sampling sampling = {4, 2, {3, 2}};
    const int size[3] = {12 + 4, 8, 4 + 6}; /* 5, 1 and 7 starts */
    const int starts[3] = {5, 1, 7};
    int seen[3][7] = {{0}};
    for (int i = 0; i < draws; i++) {
        const struct random_key place = {.seed = 3, .step = (uint64_t)i, .sample = 1};
        int start[3];
        random_window_start(start, size, &sampling, &place);
        for (int axis = 0; axis < 3; axis++) {
            assert_in_range(start[axis], 0, starts[axis] - 1);
            seen[axis][start[axis]]++;
        }
    }
    for (int axis = 0; axis < 3; axis++) {
        for (int s = 0; s < starts[axis]; s++) {
            const double p = 1.0 / starts[axis];
            assert_true(fabs(seen[axis][s] - draws * p) <= 5.0 * sqrt(draws * p * (1.0 - p)));
        }
    }
}

static void draws_depend_on_seed_step_sample_and_crop(void **state)
{
    (void)state;
    const struct sampling sampling = {64, 2, {3, 3}};
    const struct random_key place = {.seed = 9, .step = 4, .sample = 1};
    struct random_key others[] = {place, place, place};
    others[0].seed++;
    others[1].step++;
    others[2].sample++;
    int start[2];
    int again[2];
    random_crop_start(start, &sampling, &place, 0);
    random_crop_start(again, &sampling, &place, 0);
    assert_memory_equal(start, again, sizeof start);
    random_crop_start(again, &sampling, &place, 1);
    assert_memory_not_equal(start, again, sizeof start);
    for (size_t i = 0; i < 3; i++) {
        random_crop_start(again, &sampling, &others[i], 0);
        assert_memory_not_equal(start, again, sizeof start);
    }
}

static void impossible_samplings_are_refused(void **state)
{
    (void)state;
    const struct sampling good = {64, 2, {3, 3}};
    assert_int_equal(sampling_check(&good), VOCO_OK);
    const struct sampling bad[] = {
        {0, 2, {3, 3}},       {64, 0, {3, 3}},          {64, 2, {0, 3}},         {64, 2, {3, -1}},
        {1 << 20, 2, {3, 3}}, {1, 2, {1 << 9, 1 << 9}}, {64, INT32_MAX, {3, 3}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(sampling_check(&bad[i]), VOCO_BAD_INPUT);
    }
}

static void a_batch_holds_all_random_crops_first_then_all_bases(void **state)
{
    (void)state;
    struct batch batch;
    assert_int_equal(batch_create(&batch, 3, 2, 9, 5), VOCO_OK);
    const size_t crop = 5 * 5 * 5;
    size_t expected = 0;
    for (int i = 0; i < 3; i++) {
        for (int s = 0; s < 2; s++) {
            assert_ptr_equal(batch_random_crop(&batch, i, s), batch.voxels + expected);
            expected += crop;
        }
    }
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 9; k++) {
            assert_ptr_equal(batch_base_crop(&batch, i, k), batch.voxels + expected);
            expected += crop;
        }
    }
    /* All of it is there to be written. */
    memset(batch.voxels, 0, expected * sizeof(float));
    memset(batch.labels, 0, (size_t)3 * 2 * 9 * sizeof(float));
    batch_free(&batch);
    assert_null(batch.voxels);
}

static void batches_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct batch batch;
    assert_int_equal(batch_create(&batch, 0, 2, 9, 5), VOCO_BAD_INPUT);
    assert_int_equal(batch_create(&batch, 1, 2, 9, -5), VOCO_BAD_INPUT);
    assert_int_equal(batch_create(&batch, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX), VOCO_NO_MEMORY);
    batch_free(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_the_counted_overlap_at_every_place),
        cmocka_unit_test(base_crops_are_numbered_along_y_first),
        cmocka_unit_test(crop_centres_are_uniform_over_the_stated_integers),
        cmocka_unit_test(a_grid_of_one_leaves_one_place),
        cmocka_unit_test(windows_start_uniformly_wherever_they_fit),
        cmocka_unit_test(draws_depend_on_seed_step_sample_and_crop),
        cmocka_unit_test(impossible_samplings_are_refused),
        cmocka_unit_test(a_batch_holds_all_random_crops_first_then_all_bases),
        cmocka_unit_test(batches_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
