/* Resampling and resizing against a plain computation in double, and on what they must give exactly. */
#include "base/philox.h"
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

/* Trilinear interpolation at a position in voxels, the border repeated beyond it. */
static double value_at(const float *data, const int size[3], const double position[3])
{
    double sum = 0;
    for (int corner = 0; corner < 8; corner++) {
        double weight = 1;
        int at[3];
        for (int axis = 0; axis < 3; axis++) {
            const double inside = fmin(fmax(position[axis], 0), size[axis] - 1);
            const int low = (int)floor(inside);
            const int up = corner >> axis & 1;
            weight *= up ? inside - low : 1 - (inside - low);
            at[axis] = low + up < size[axis] ? low + up : size[axis] - 1;
        }
        sum += weight * voxel_at(data, size, at[0], at[1], at[2]);
    }
    return sum;
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

static void check_spacing(const int size[3], const double spacing[3], const double target[3])
{
    struct volume source = new_volume(size[0], size[1], size[2], spacing[0], spacing[1], spacing[2]);
    struct volume volume = new_volume(size[0], size[1], size[2], spacing[0], spacing[1], spacing[2]);
    assert_int_equal(resample_to_spacing(&volume, target), VOCO_OK);
    double step[3];
    for (int axis = 0; axis < 3; axis++) {
        step[axis] = target[axis] / spacing[axis];
        assert_int_equal(volume.size[axis],
                         (int)nearbyint((size[axis] - 1) * spacing[axis] / target[axis]) + 1);
        assert_float_equal(volume.spacing[axis], target[axis], 0);
        assert_float_equal(volume.affine[axis][axis], target[axis], 1e-6);
        assert_float_equal(volume.affine[axis][3], source.affine[axis][3], 0);
    }
    assert_sampled(volume.data, volume.size, source.data, source.size, step);
    volume_free(&volume);
    volume_free(&source);
}

static void resampling_agrees_with_trilinear_interpolation_in_double(void **state)
{
    (void)state;
    check_spacing((const int[]){13, 9, 7}, (const double[]){0.8, 0.7, 5}, (const double[]){1.5, 1.5, 1.5});
    check_spacing((const int[]){8, 11, 5}, (const double[]){3, 1.5, 0.5}, (const double[]){1.25, 1.25, 5});
    check_spacing((const int[]){1, 6, 2}, (const double[]){4, 2, 1}, (const double[]){1, 1, 1});
    check_spacing((const int[]){2, 2, 2}, (const double[]){0.1, 0.1, 0.1}, (const double[]){9, 9, 9});
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

static void a_linear_ramp_stays_one(void **state)
{
    (void)state;
    /* Steps that are sums of powers of two, so that floats hold the ramp exactly. */
    struct volume volume = new_volume(9, 8, 7, 3, 2.5, 2);
    float *voxel = volume.data;
    for (int z = 0; z < 7; z++) {
        for (int y = 0; y < 8; y++) {
            for (int x = 0; x < 9; x++) {
                *voxel++ = (float)(16 * x - 32 * y + 64 * z + 5);
            }
        }
    }
    assert_int_equal(resample_to_spacing(&volume, (const double[]){1.5, 1.25, 0.5}), VOCO_OK);
    const float *got = volume.data;
    assert_int_equal(volume.size[0], 17);
    assert_int_equal(volume.size[1], 15);
    assert_int_equal(volume.size[2], 25);
    for (int z = 0; z < 25; z++) {
        for (int y = 0; y < 15; y++) {
            for (int x = 0; x < 17; x++) {
                assert_float_equal(*got++, 8 * x - 16 * y + 16 * z + 5, 0);
            }
        }
    }
    volume_free(&volume);
}

static void halves_are_rounded_to_the_even_number(void **state)
{
    (void)state;
    static const int sizes[][2] = {{6, 3}, {8, 5}, {10, 5}, {7, 4}}; /* 2.5 -> 2, 3.5 -> 4, 4.5 -> 4, 3 */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct volume volume = new_volume(sizes[i][0], 1, 1, 1, 1, 1);
        assert_int_equal(resample_to_spacing(&volume, (const double[]){2, 2, 2}), VOCO_OK);
        assert_int_equal(volume.size[0], sizes[i][1]);
        volume_free(&volume);
    }
}

static void a_volume_at_the_spacing_is_not_touched(void **state)
{
    (void)state;
    struct volume volume = new_volume(9, 8, 7, 1.5, 1.50000001, 1.5);
    struct volume same = new_volume(9, 8, 7, 1.5, 1.5, 1.5);
    assert_int_equal(resample_to_spacing(&volume, (const double[]){1.5, 1.5, 1.5}), VOCO_OK);
    assert_memory_equal(volume.data, same.data, volume_count(&same) * sizeof(float));
    volume_free(&same);
    volume_free(&volume);
}

static void what_a_wrong_spacing_asks_for_is_refused(void **state)
{
    (void)state;
    struct volume volume = new_volume(9, 8, 7, 1000, 1000, 1000);
    float *data = volume.data;
    static const double refused[][3] = {{0.1, 1000, 1000}, {1, 1, 1}, {0, 1, 1}, {1, -1, 1}, {1, 1, NAN}};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(resample_to_spacing(&volume, refused[i]), VOCO_BAD_INPUT);
        assert_ptr_equal(volume.data, data);
        assert_int_equal(volume.size[0], 9);
    }
    volume_free(&volume);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resampling_agrees_with_trilinear_interpolation_in_double),
        cmocka_unit_test(resizing_keeps_the_corners_and_agrees_in_between),
        cmocka_unit_test(a_linear_ramp_stays_one),
        cmocka_unit_test(halves_are_rounded_to_the_even_number),
        cmocka_unit_test(a_volume_at_the_spacing_is_not_touched),
        cmocka_unit_test(what_a_wrong_spacing_asks_for_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
