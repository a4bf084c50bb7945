/* The single steps of preparation: orientation, intensity, foreground, padding. */
#include "base/philox.h"
#include "stepwise_preparation.h"
#include "volume/foreground.h"
#include "volume/intensity.h"
#include "volume/orientation.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct random_key key = {.seed = 6, .purpose = RANDOM_TEST};

static struct volume new_volume(int nx, int ny, int nz)
{
    struct volume volume = {
        .size = {nx, ny, nz}, .spacing = {1, 2, 3}, .affine = {{1, 0, 0, 10}, {0, 2, 0, 20}, {0, 0, 3, 30}}};
    volume.data = calloc(volume_count(&volume), sizeof *volume.data);
    assert_non_null(volume.data);
    return volume;
}

static void turn(double affine[3][4], int first, int second, double angle)
{
    for (int column = 0; column < 3; column++) {
        const double a = affine[first][column];
        const double b = affine[second][column];
        affine[first][column] = cos(angle) * a - sin(angle) * b;
        affine[second][column] = sin(angle) * a + cos(angle) * b;
    }
}

/* All 48 ways the axes can lie, tilted by up to 40 degrees. */
static void each_orientation_is_found_behind_a_tilt(void **state)
{
    (void)state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const double tilts[] = {0, 0.1, -0.3, 0.7};
    for (int way = 0; way < 48 * 4; way++) {
        const int *order = orders[way % 6];
        double affine[3][4] = {{0}};
        char expected[4] = {0};
        for (int axis = 0; axis < 3; axis++) {
            const int negative = way / 6 >> axis & 1;
            affine[order[axis]][axis] = negative ? -1.0 - axis : 1.0 + axis;
            expected[axis] = (negative ? "LPI" : "RAS")[order[axis]];
        }
        turn(affine, 0, 1, tilts[way / 48]);
        turn(affine, 1, 2, 0.3 * tilts[way / 48]);
        char code[4];
        orientation_code(code, affine);
        assert_string_equal(code, expected);
    }
}

/* nibabel 5's answers (nibabel.aff2axcodes) on affines where the largest element alone would not decide. */
static void disputed_axes_go_to_the_strongest(void **state)
{
    (void)state;
    static const struct {
        double affine[3][4];
        const char *code;
    } cases[] = {
        {{{0.6, 0.9, 0, 0}, {0.5, 0.3, 0.2, 0}, {0.1, 0, 1, 0}}, "ARS"},
        {{{0.8, 0.75, 0, 0}, {0.1, 0.7, 0.6, 0}, {0.5, 0, 0.9, 0}}, "RAS"},
        {{{-0.7, -0.1, 0.8, 0}, {1.5, -1.3, 1.5, 0}, {1.3, 0.8, 0.3, 0}},
         "ASR"}, /* SPR if the first chose first */
        {{{-1.4, 0.5, 1, 0}, {-0.2, -1.1, 0.9, 0}, {-1.3, -0.7, 0.6, 0}}, "IRA"}, /* IPR */
        {{{-3, 2.9, 0.1, 0}, {0.4, 3, -0.2, 0}, {0.3, -0.1, -5, 0}}, "LAI"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char code[4];
        orientation_code(code, cases[i].affine);
        assert_string_equal(code, cases[i].code);
    }
}

static void windows_are_linear_and_clipped(void **state)
{
    (void)state;
    float values[] = {-1000, -175, -174, 37.5f, 250, 3000};
    const float expected[] = {0, 0, 1.0f / 425, 0.5f, 1, 1};
    scale_window(values, 6, -175, 250);
    for (int i = 0; i < 6; i++) {
        assert_float_equal(values[i], expected[i], 1e-7);
    }
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a;
    const float y = *(const float *)b;
    return (x > y) - (x < y);
}

static void percentiles_are_those_of_the_sorted_values(void **state)
{
    (void)state;
    enum { count = 1001 };
    float values[count];
    float sorted[count];
    for (int i = 0; i < count; i++) {
        values[i] = floorf(random_normal(&key, (uint32_t)i) * 50) * 1e3f; /* negative ones and ties too */
    }
    for (int threshold = -1; threshold <= 0; threshold++) {
        const double above = threshold < 0 ? -INFINITY : 0;
        int kept = 0;
        for (int i = 0; i < count; i++) {
            if (values[i] > above) {
                sorted[kept++] = values[i];
            }
        }
        qsort(sorted, (size_t)kept, sizeof *sorted, by_value);
        static const double percents[] = {0, 0.5, 2, 33.3, 50, 98, 99.5, 100};
        for (int p = 0; p < 8; p++) {
            const double rank = percents[p] / 100 * (kept - 1);
            const int low = (int)rank;
            const int high = low + 1 < kept ? low + 1 : low;
            const double expected = sorted[low] + (rank - low) * ((double)sorted[high] - sorted[low]);
            assert_float_equal(percentile_above(values, count, above, percents[p]), expected, 1e-2);
        }
    }
}

/* Air with noise to 20, dark tissue at 150, bright at 1000 with a few outliers. */
static void mr_scaling_clears_the_air_and_keeps_dark_tissue(void **state)
{
    (void)state;
    enum { count = 10000 };
    static float values[count];
    for (int i = 0; i < count; i++) {
        const float noise = 20 * random_uniform(&key, (uint32_t)i);
        values[i] = i < 6000 ? noise : i < 7000 ? 150 + noise : 1000 + 5 * noise;
    }
    values[9999] = 50000;
    assert_int_equal(scale_mr(values, count), VOCO_OK);
    for (int i = 0; i < count; i++) {
        assert_in_range((int)(1e6f * values[i]), 0, 1000000);
        if (i < 6000) {
            assert_float_equal(values[i], 0, 0);
        }
        if (i >= 7000) {
            assert_true(values[i] > 0.85f);
        }
    }
    int dark = 0;
    for (int i = 6000; i < 7000; i++) {
        dark += values[i] > 0 && values[i] < 0.05f;
    }
    assert_true(dark > 950);
    assert_float_equal(values[9999], 1, 0);
}

static void mr_scaling_refuses_a_mask_and_finds_a_speck(void **state)
{
    (void)state;
    float mask[100] = {0};
    mask[7] = mask[8] = 3;
    assert_int_equal(scale_mr(mask, 100), VOCO_BAD_INPUT);
    float speck[1000] = {0};
    speck[7] = 3;
    speck[8] = 5;
    speck[9] = 4;
    assert_int_equal(scale_mr(speck, 1000), VOCO_OK); /* 2nd and 98th percentile are both 0 */
    assert_float_equal(speck[8], 1, 0);
    assert_float_equal(speck[9], 0.5, 1e-3);
    float same[5] = {2, 2, 2, 2, 2};
    assert_int_equal(scale_mr(same, 5), VOCO_BAD_INPUT);
}

static void the_foreground_is_found_and_cropped(void **state)
{
    (void)state;
    struct volume volume = new_volume(7, 6, 5);
    int first[3];
    int end[3];
    assert_int_equal(foreground_bounds(first, end, &volume), 0);
    assert_int_equal(end[0], 0);
    volume.data[(1 * 6 + 2) * 7 + 5] = 0.5f;
    volume.data[(3 * 6 + 4) * 7 + 3] = 0.25f;
    volume.data[(2 * 6 + 5) * 7 + 6] = -1; /* not above 0 */
    assert_int_equal(foreground_bounds(first, end, &volume), 1);
    assert_memory_equal(first, ((const int[]){3, 2, 1}), sizeof first);
    assert_memory_equal(end, ((const int[]){6, 5, 4}), sizeof end);
    crop_to_bounds(&volume, first, end);
    assert_memory_equal(volume.size, ((const int[]){3, 3, 3}), sizeof volume.size);
    float sum = 0;
    for (int i = 0; i < 27; i++) {
        sum += volume.data[i];
    }
    assert_float_equal(volume.data[2], 0.5, 0);
    assert_float_equal(volume.data[(2 * 3 + 2) * 3], 0.25, 0);
    assert_float_equal(sum, 0.75, 0);
    assert_float_equal(volume.affine[0][3], 13, 0);
    assert_float_equal(volume.affine[1][3], 24, 0);
    assert_float_equal(volume.affine[2][3], 33, 0);
    volume_free(&volume);
}

static void padding_puts_the_odd_voxel_behind(void **state)
{
    (void)state;
    struct volume volume = new_volume(3, 2, 4);
    for (size_t i = 0; i < volume_count(&volume); i++) {
        volume.data[i] = 1 + (float)i;
    }
    pad_to_at_least(&volume, (const int[]){6, 4, 2});
    assert_memory_equal(volume.size, ((const int[]){6, 4, 4}), sizeof volume.size);
    for (int z = 0; z < 4; z++) {
        for (int y = 0; y < 4; y++) {
            for (int x = 0; x < 6; x++) {
                const int inside = x >= 1 && x < 4 && y >= 1 && y < 3;
                const float expected = inside ? (float)(1 + (x - 1) + 3 * (y - 1) + 6 * z) : 0;
                assert_float_equal(volume.data[(z * 4 + y) * 6 + x], expected, 0);
            }
        }
    }
    assert_float_equal(volume.affine[0][3], 9, 0);
    assert_float_equal(volume.affine[1][3], 18, 0);
    assert_float_equal(volume.affine[2][3], 30, 0);
    volume_free(&volume);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_orientation_is_found_behind_a_tilt),
        cmocka_unit_test(disputed_axes_go_to_the_strongest),
        cmocka_unit_test(windows_are_linear_and_clipped),
        cmocka_unit_test(percentiles_are_those_of_the_sorted_values),
        cmocka_unit_test(mr_scaling_clears_the_air_and_keeps_dark_tissue),
        cmocka_unit_test(mr_scaling_refuses_a_mask_and_finds_a_speck),
        cmocka_unit_test(the_foreground_is_found_and_cropped),
        cmocka_unit_test(padding_puts_the_odd_voxel_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
