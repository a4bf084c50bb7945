/* The grid that a volume is resampled to, against MONAI's. */
#include "volume/resampling_plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What monai.transforms.Spacing(pixdim=spacing) of MONAI 1.6.1 makes of a volume of zeros: size and affine.
 */
static const struct {
    const char *name;
    int size[3], new_size[3];
    double affine[3][4];
    double spacing[3];
    double new_affine[3][4];
} cases[] = {
    {"plain",
     {13, 9, 7},
     {7, 5, 21},
     {{0.8, 0, 0, -11}, {0, 0.7, 0, 7}, {0, 0, 5, 3}},
     {1.5, 1.5, 1.5},
     {{1.5, 0, 0, -11}, {0, 1.5, 0, 7}, {0, 0, 1.5, 3}}},
    {"half down",
     {512, 512, 401},
     {256, 256, 201},
     {{0.75, 0, 0, -191.625}, {0, 0.75, 0, -187.3}, {0, 0, 0.75, 12.7}},
     {1.5, 1.5, 1.5},
     {{1.5, 0, 0, -191.625}, {0, 1.5, 0, -187.3}, {0, 0, 1.5, 12.7}}},
    {"half noise",
     {410, 106, 418},
     {205, 123, 487},
     {{0.75, 0, 0, 187}, {0, 1.75, 0, -299.09732258322146}, {0, 0, 1.75, -46.3161764278737}},
     {1.5, 1.5, 1.5},
     {{1.5, 0, 0, 187}, {0, 1.5, 0, -299.097322583}, {0, 0, 1.5, -46.316176428}}},
    {"near",
     {40, 41, 42},
     {40, 41, 42},
     {{1.5009, 0, 0, 0}, {0, 1.4992, 0, 0}, {0, 0, 1.5011, 0}},
     {1.5, 1.5, 1.5},
     {{1.5009, 0, 0, 0}, {0, 1.4992, 0, 0}, {0, 0, 1.5011, 0}}},
    {"unchanged",
     {30, 20, 10},
     {30, 20, 10},
     {{1.2504, 0, 0, 5}, {0, 1.2496, 0, 6}, {0, 0, 5.0005, 7}},
     {1.25, 1.25, 5},
     {{1.2504, 0, 0, 5}, {0, 1.2496, 0, 6}, {0, 0, 5.0005, 7}}},
    {"one voxel",
     {1, 6, 2},
     {1, 11, 2},
     {{4, 0, 0, 1}, {0, 2, 0, 2}, {0, 0, 1, 3}},
     {1, 1, 1},
     {{1, 0, 0, 1}, {0, 1, 0, 2}, {0, 0, 1, 3}}},
    {"exact oblique",
     {20, 30, 25},
     {14, 20, 33},
     {{0.8, -0.6, 0, 10}, {0.6, 0.8, 0, -20}, {0, 0, 2, 30}},
     {1.5, 1.5, 1.5},
     {{1.2, -0.9, 0, 10}, {0.9, 1.2, 0, -20}, {0, 0, 1.5, 30}}},
    {"rounded oblique",
     {20, 30, 25},
     {14, 21, 33},
     {{0.866, -0.5, 0, 10}, {0.501, 0.866, 0.01, -20}, {0, -0.01, 2, 30}},
     {1.5, 1.5, 1.5},
     {{1.298378874, -0.751103109, -0.007511199, 10.081865313},
      {0.751140665, 1.298313957, 0.01298343, -20.979507804},
      {0, -0.014999586, 1.499925002, 30.258733112}}},
    {"shear up",
     {20, 30, 25},
     {19, 30, 17},
     {{1, 0.2, 0.1, 10}, {0, 1, 0.3, -20}, {0, 0, 2, 30}},
     {1.5, 1.25, 3},
     {{1.5, 0, 0, 10}, {0, 1.25, 0, -20}, {0, 0, 3, 30}}},
    {"shear down",
     {20, 30, 25},
     {19, 30, 17},
     {{1, -0.2, 0.1, 10}, {0, 1, -0.3, -20}, {0, 0, 2, 30}},
     {1.5, 1.25, 3},
     {{1.5, 0, 0, 4}, {0, 1.25, 0, -27.5}, {0, 0, 3, 29.5}}},
    {"shear unchanged",
     {20, 30, 25},
     {20, 30, 25},
     {{1.5, 3e-05, 0, 10}, {0, 1.5, -2e-05, -20}, {0, 0, 1.5, 30}},
     {1.5, 1.5, 1.5},
     {{1.5, 3e-05, 0, 10}, {0, 1.5, -2e-05, -20}, {0, 0, 1.5, 30}}},
};

static void the_grid_is_that_of_monai(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resampling_plan plan;
        assert_int_equal(plan_resampling(&plan, cases[i].size, cases[i].affine, cases[i].spacing), VOCO_OK);
        for (int axis = 0; axis < 3; axis++) {
            if (plan.size[axis] != cases[i].new_size[axis]) {
                fail_msg("%s: axis %d has %d voxels, not %d", cases[i].name, axis, plan.size[axis],
                         cases[i].new_size[axis]);
            }
            for (int column = 0; column < 4; column++) {
                const double got = plan.affine[axis][column];
                const double expected = cases[i].new_affine[axis][column];
                if (!(fabs(got - expected) < 1e-8)) {
                    fail_msg("%s: affine[%d][%d] is %.10g, not %.10g", cases[i].name, axis, column, got,
                             expected);
                }
            }
        }
    }
}

/* Whatever the grid, old affine and position together must give the new affine. */
static void positions_lie_where_the_affines_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resampling_plan plan;
        assert_int_equal(plan_resampling(&plan, cases[i].size, cases[i].affine, cases[i].spacing), VOCO_OK);
        for (int row = 0; row < 3; row++) {
            for (int column = 0; column < 4; column++) {
                double sum = column == 3 ? cases[i].affine[row][3] : 0;
                double length = 0;
                for (int k = 0; k < 3; k++) {
                    sum += cases[i].affine[row][k] * plan.position[k][column];
                    length += column < 3 ? plan.affine[k][column] * plan.affine[k][column] : 0;
                }
                assert_true(fabs(sum - plan.affine[row][column]) < 1e-9);
                assert_true(column == 3 || fabs(sqrt(length) - plan.spacing[column]) < 1e-9);
            }
        }
    }
}

static int is_along_axes(const char *name)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resampling_plan plan;
        if (strcmp(cases[i].name, name) == 0 &&
            plan_resampling(&plan, cases[i].size, cases[i].affine, cases[i].spacing) == VOCO_OK) {
            return plan.along_axes;
        }
    }
    fail_msg("no case %s", name);
    return -1;
}

static void only_shear_needs_the_general_way(void **state)
{
    (void)state;
    assert_int_equal(is_along_axes("plain"), 1);
    assert_int_equal(is_along_axes("exact oblique"), 1);
    assert_int_equal(is_along_axes("shear unchanged"), 1); /* copied */
    assert_int_equal(is_along_axes("rounded oblique"), 0); /* to three digits: moved by 0.01 voxels */
    assert_int_equal(is_along_axes("shear up"), 0);
}

static void what_a_wrong_spacing_asks_for_is_refused(void **state)
{
    (void)state;
    static const double affine[3][4] = {{1000, 0, 0, 0}, {0, 1000, 0, 0}, {0, 0, 1000, 0}};
    static const int size[3] = {9, 8, 7};
    static const double refused[][3] = {{0.1, 1000, 1000}, {3, 3, 3}, {0, 1, 1}, {1, -1, 1}, {1, 1, NAN}};
    struct resampling_plan plan;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(plan_resampling(&plan, size, affine, refused[i]), VOCO_BAD_INPUT);
    }
    /* 1024 x 1024 x 2000 voxels and more are no reason. */
    static const double fine[3][4] = {{0.3, 0, 0, 0}, {0, 0.3, 0, 0}, {0, 0, 0.3, 0}};
    static const int large[3] = {1024, 1024, 4000};
    assert_int_equal(plan_resampling(&plan, large, fine, (const double[]){0.3, 0.3, 0.3}), VOCO_OK);
    assert_memory_equal(plan.size, large, sizeof large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_grid_is_that_of_monai),
        cmocka_unit_test(positions_lie_where_the_affines_say),
        cmocka_unit_test(only_shear_needs_the_general_way),
        cmocka_unit_test(what_a_wrong_spacing_asks_for_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
