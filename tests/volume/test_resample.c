/* Resizing against a plain computation in double, and the places of voxels along an axis. */
#include "base/philox.h"
#include "stepwise_preparation.h"
#include "volume/axis_places.h"
#include "volume/resample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct random_key key = {.seed = 5, .purpose = RANDOM_TEST};

static struct volume new_volume(int nx, int ny, int nz, double sx, double sy, double sz)
{
    struct volume volume = {.size = {nx, ny, nz},
                            .spacing = {sx, sy, sz},
                            .affine = {{sx, 0, 0, -11}, {0, sy, 0, 7}, {0, 0, sz, 3}}};
    volume.data = malloc(volume_count(&volume) * sizeof *volume.data);
    assert_non_null(volume.data);
    for (size_t i = 0; i < volume_count(&volume); i++) {
        volume.data[i] = 2000 * random_uniform(&key, (uint32_t)i) - 1000;
    }
    return volume;
}

static double voxel_at(const float *data, const int size[3], int x, int y, int z)
{
    return data[((size_t)z * (size_t)size[1] + (size_t)y) * (size_t)size[0] + (size_t)x];
}

static void assert_sampled(const float *out, const int out_size[3], const float *inp, const int size[3],
                           const double step[3])
{
    for (int z = 0; z < out_size[2]; z++) {
        for (int y = 0; y < out_size[1]; y++) {
            for (int x = 0; x < out_size[0]; x++) {
                const double position[3] = {x * step[0], y * step[1], z * step[2]};
                const double expected = value_at(inp, size, position);
                const double got = voxel_at(out, out_size, x, y, z);
                if (fabs(got - expected) > 1e-3) {
                    fail_msg("voxel (%d, %d, %d) is %g, not %g", x, y, z, got, expected);
                }
            }
        }
    }
}

static void resizing_keeps_the_corners_and_agrees_in_between(void **state)
{
    (void)state;
    static const int cases[][2][3] = {
        {{7, 5, 6}, {13, 3, 6}}, {{1, 4, 2}, {3, 1, 5}}, {{10, 11, 12}, {4, 5, 6}}, {{3, 3, 3}, {1, 1, 1}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int *size = cases[i][0];
        const int *out_size = cases[i][1];
        struct volume source = new_volume(size[0], size[1], size[2], 1, 1, 1);
        struct volume result = new_volume(out_size[0], out_size[1], out_size[2], 1, 1, 1);
        double step[3];
        for (int axis = 0; axis < 3; axis++) {
            step[axis] = out_size[axis] > 1 ? (size[axis] - 1.0) / (out_size[axis] - 1.0) : 0;
        }
        assert_int_equal(resize_trilinear(result.data, out_size, source.data, size), VOCO_OK);
        assert_sampled(result.data, out_size, source.data, size, step);
        assert_float_equal(result.data[0], source.data[0], 0);
        if (out_size[0] > 1 && out_size[1] > 1 && out_size[2] > 1) {
            assert_float_equal(result.data[volume_count(&result) - 1], source.data[volume_count(&source) - 1],
                               1e-3);
        }
        volume_free(&result);
        volume_free(&source);
    }
}

static void assert_place(const struct axis_places *places, int i, int left, int right, double weight)
{
    assert_int_equal(places->left[i], left);
    assert_int_equal(places->right[i], right);
    assert_float_equal(places->weight[i], weight, 1e-7);
}

static void places_are_clamped_and_need_one_voxel_where_one_is_enough(void **state)
{
    (void)state;
    struct axis_places places;
    assert_int_equal(axis_places_make(&places, 6, 4, 0.75, -0.5, 0), 1);
    assert_int_equal(places.in_order, 0);
    assert_place(&places, 0, 0, 0, 0); /* -0.5 */
    assert_place(&places, 1, 0, 1, 0.25);
    assert_place(&places, 2, 1, 1, 0);
    assert_place(&places, 3, 1, 2, 0.75);
    assert_place(&places, 4, 2, 3, 0.5);
    assert_place(&places, 5, 3, 3, 0); /* 3.25 */
    axis_places_free(&places);
    assert_int_equal(axis_places_make(&places, 3, 4, 1.25, 0, 1), 1);
    assert_place(&places, 0, 3, 3, 0);
    assert_place(&places, 1, 2, 1, 0.25);
    assert_place(&places, 2, 1, 0, 0.5);
    axis_places_free(&places);
}

static void places_of_an_axis_that_stays_are_in_order(void **state)
{
    (void)state;
    struct axis_places places;
    assert_int_equal(axis_places_make(&places, 500, 500, 1 + 1e-13, -1e-12, 0), 1);
    assert_int_equal(places.in_order, 1);
    axis_places_free(&places);
    assert_int_equal(axis_places_make(&places, 500, 500, 1, 0, 1), 1);
    assert_int_equal(places.in_order, 0);
    assert_place(&places, 0, 499, 499, 0);
    axis_places_free(&places);
    assert_int_equal(axis_places_make(&places, 499, 500, 1, 0, 0), 1);
    assert_int_equal(places.in_order, 0);
    axis_places_free(&places);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resizing_keeps_the_corners_and_agrees_in_between),
        cmocka_unit_test(places_are_clamped_and_need_one_voxel_where_one_is_enough),
        cmocka_unit_test(places_of_an_axis_that_stays_are_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
