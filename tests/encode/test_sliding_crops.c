/* Where crops begin that slide over a volume, and what is copied into them. */
#include "encode/sliding_crops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_starts(int size, int roi, int stride, int step, const int *expected, int count)
{
    struct sliding_crops crops;
    sliding_crops_plan(&crops, (const int[3]){size, roi, roi}, roi, stride, step);
    assert_int_equal(crops.count[0], count);
    assert_int_equal(crops.count[1], 1);
    for (int i = 0; i < count; i++) {
        assert_int_equal(sliding_crop_start(&crops, 0, i), expected[i]);
    }
}

static void the_last_crop_ends_with_the_volume(void **state)
{
    (void)state;
    expect_starts(48, 48, 24, 1, (const int[]){0}, 1);
    expect_starts(49, 48, 24, 1, (const int[]){0, 1}, 2);
    expect_starts(72, 48, 24, 1, (const int[]){0, 24}, 2);
    expect_starts(100, 48, 24, 1, (const int[]){0, 24, 48, 52}, 4);
    expect_starts(100, 48, 60, 1, (const int[]){0, 52}, 2);
    expect_starts(51, 48, 1, 1, (const int[]){0, 1, 2, 3}, 4);
    expect_starts(20, 48, 24, 1, (const int[]){0}, 1);
}

static void crops_begin_at_whole_tokens(void **state)
{
    (void)state;
    expect_starts(100, 48, 24, 8, (const int[]){0, 24, 48, 56}, 4);
    expect_starts(100, 48, 23, 8, (const int[]){0, 16, 32, 48, 56}, 5);
    expect_starts(100, 48, 24, 32, (const int[]){0, 32, 64}, 3); /* never a stride of 0 */
    expect_starts(49, 48, 48, 2, (const int[]){0, 2}, 2);
}

/* Every voxel lies in a crop, no crop begins twice, whatever the numbers. */
static void crops_cover_the_volume(void **state)
{
    (void)state;
    static const int steps[] = {1, 2, 4, 8, 32};
    for (int size = 1; size < 180; size += 7) {
        for (int stride = 1; stride <= 48; stride += 5) {
            for (int s = 0; s < 5; s++) {
                struct sliding_crops crops;
                sliding_crops_plan(&crops, (const int[3]){size, size, size}, 48, stride, steps[s]);
                int end = 0, before = -1;
                for (int i = 0; i < crops.count[2]; i++) {
                    const int start = sliding_crop_start(&crops, 2, i);
                    assert_true(start > before && start <= end && start % steps[s] == 0);
                    before = start;
                    end = start + 48;
                }
                assert_true(end >= size && (end < size + steps[s] || crops.count[2] == 1));
            }
        }
    }
}

static void z_is_the_fastest_axis(void **state)
{
    (void)state;
    struct sliding_crops crops;
    int start[3];
    sliding_crops_plan(&crops, (const int[3]){60, 72, 100}, 48, 24, 1);
    assert_int_equal(sliding_crops_total(&crops), 2 * 2 * 4);
    size_t number = 0;
    for (int x = 0; x < 2; x++) {
        for (int y = 0; y < 2; y++) {
            for (int z = 0; z < 4; z++) {
                sliding_crop_place(start, &crops, number++);
                assert_int_equal(start[0], x * 12);
                assert_int_equal(start[1], y * 24);
                assert_int_equal(start[2], z < 3 ? z * 24 : 52);
            }
        }
    }
}

static void a_box_has_the_volumes_voxels_and_zeros_outside(void **state)
{
    (void)state;
    enum { nx = 5, ny = 4, nz = 3 };
    float data[nx * ny * nz], box[4 * 3 * 5];
    for (int i = 0; i < nx * ny * nz; i++) {
        data[i] = 1.0F + (float)i;
    }
    const struct volume volume = {.size = {nx, ny, nz}, .data = data};
    static const int starts[][3] = {{0, 0, 0}, {1, 1, -1}, {3, 2, 2}, {-2, -1, 0}, {7, 0, 0}, {0, -9, 0}};
    const int extent[3] = {4, 3, 5};
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        memset(box, 0xff, sizeof box);
        copy_box(box, &volume, starts[s], extent);
        const float *value = box;
        for (int i = 0; i < extent[0]; i++) {
            for (int j = 0; j < extent[1]; j++) {
                for (int k = 0; k < extent[2]; k++) {
                    const int x = starts[s][0] + i, y = starts[s][1] + j, z = starts[s][2] + k;
                    const int inside = x >= 0 && x < nx && y >= 0 && y < ny && z >= 0 && z < nz;
                    assert_true(*value++ == (inside ? data[(z * ny + y) * nx + x] : 0.0F));
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_crop_ends_with_the_volume),
        cmocka_unit_test(crops_begin_at_whole_tokens),
        cmocka_unit_test(crops_cover_the_volume),
        cmocka_unit_test(z_is_the_fastest_axis),
        cmocka_unit_test(a_box_has_the_volumes_voxels_and_zeros_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
