/* What is dropped, at which rate, and that the mask is a function of seed, step and place alone. */
#include "compute/compute.h"
#include "train/drop.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { rows = 2000, width = 24 };

static struct compute compute;
static float inp[rows * width];
static float out[rows * width];

/* As a step does. */
static void drop_from(float *result, const float *from, const struct drop *drop, uint64_t step, size_t count,
                      size_t of_row)
{
    static float mask[rows * width];
    drop_mask(mask, drop, step, 0, count, of_row);
    compute.apply_mask(&compute, result, from, mask, count * of_row);
}

static int fill_input(void **state)
{
    (void)state;
    for (int e = 0; e < rows * width; e++) {
        inp[e] = 1 + (float)(e % 7);
    }
    return compute_open(&compute, "reference", 1, PRECISION_FLOAT32) == VOCO_OK ? 0 : -1;
}

static int close_reference(void **state)
{
    (void)state;
    compute_close(&compute);
    return 0;
}

static void crops_are_dropped_whole(void **state)
{
    (void)state;
    const struct drop drop = {DROP_CROP, 0.2, 5};
    drop_from(out, inp, &drop, 11, rows, width);
    int dropped = 0;
    for (int row = 0; row < rows; row++) {
        const float *y = out + (ptrdiff_t)row * width, *x = inp + (ptrdiff_t)row * width;
        dropped += y[0] == 0;
        for (int d = 0; d < width; d++) {
            assert_true(y[d] == (y[0] == 0 ? 0 : 1.25F * x[d]));
        }
    }
    /* 400 expected, standard deviation 17.9 */
    assert_in_range(dropped, 400 - 90, 400 + 90);
}

static void features_are_dropped_one_by_one(void **state)
{
    (void)state;
    const struct drop drop = {DROP_FEATURE, 0.25, 5};
    drop_from(out, inp, &drop, 11, rows, width);
    int dropped = 0, whole_rows = 0;
    for (int row = 0; row < rows; row++) {
        int of_row = 0;
        for (int d = 0; d < width; d++) {
            const int e = row * width + d;
            assert_true(out[e] == 0 || fabsf(out[e] - inp[e] / 0.75F) < 1e-5F);
            of_row += out[e] == 0;
        }
        dropped += of_row;
        whole_rows += of_row == width;
    }
    /* 12000 expected, standard deviation 95 */
    assert_in_range(dropped, 12000 - 480, 12000 + 480);
    assert_int_equal(whole_rows, 0);
}

static void none_changes_nothing(void **state)
{
    (void)state;
    const struct drop drop = {DROP_NONE, 0.9, 5};
    drop_from(out, inp, &drop, 3, rows, width);
    assert_memory_equal(out, inp, sizeof inp);
}

static void masks_differ_between_steps_and_seeds_and_repeat(void **state)
{
    (void)state;
    static float again[rows * width];
    const enum drop_mode modes[] = {DROP_CROP, DROP_FEATURE};
    for (int m = 0; m < 2; m++) {
        const struct drop drop = {modes[m], 0.2, 5}, other_seed = {modes[m], 0.2, 6};
        drop_from(out, inp, &drop, 3, rows, width);
        drop_from(again, inp, &drop, 3, rows, width);
        assert_memory_equal(out, again, sizeof out);
        drop_from(again, inp, &drop, 4, rows, width);
        assert_memory_not_equal(out, again, sizeof out);
        drop_from(again, inp, &other_seed, 3, rows, width);
        assert_memory_not_equal(out, again, sizeof out);
        /* a row's mask does not hang on how many rows there are */
        drop_from(again, inp, &drop, 3, 5, width);
        assert_memory_equal(out, again, (size_t)5 * width * sizeof *out);
        /* nor on those before it */
        float ones[2 * width], masked[2 * width];
        drop_mask(masked, &drop, 3, 3, 2, width);
        for (int e = 0; e < 2 * width; e++) {
            ones[e] = inp[3 * width + e] * masked[e];
        }
        assert_memory_equal(ones, out + (ptrdiff_t)3 * width, sizeof ones);
    }
}

/* The operation is linear and diagonal, so it is its own backward: <drop(x), g> = <x, drop(g)>. In place, and
 * over what a dropped crop may hold. */
static void backward_is_the_same_mask(void **state)
{
    (void)state;
    const enum drop_mode modes[] = {DROP_CROP, DROP_FEATURE, DROP_NONE};
    for (int m = 0; m < 3; m++) {
        static float gradient[rows * width];
        const struct drop drop = {modes[m], 0.2, 9};
        double forward = 0, backward = 0;
        drop_from(out, inp, &drop, 1, rows, width);
        for (int e = 0; e < rows * width; e++) {
            gradient[e] = sinf((float)e);
            forward += (double)out[e] * gradient[e];
        }
        drop_from(gradient, gradient, &drop, 1, rows, width);
        for (int e = 0; e < rows * width; e++) {
            backward += (double)inp[e] * gradient[e];
        }
        assert_true(fabs(forward - backward) < 1e-2);
    }
}

static void what_is_dropped_is_zero_whatever_it_was(void **state)
{
    (void)state;
    const struct drop drop = {DROP_CROP, 0.5, 9};
    float infinite[64], result[64];
    for (int row = 0; row < 64; row++) {
        infinite[row] = INFINITY;
    }
    drop_from(result, infinite, &drop, 1, 64, 1);
    int zeros = 0;
    for (int row = 0; row < 64; row++) {
        assert_false(isnan(result[row]));
        zeros += result[row] == 0;
    }
    assert_in_range(zeros, 10, 54);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crops_are_dropped_whole),
        cmocka_unit_test(features_are_dropped_one_by_one),
        cmocka_unit_test(none_changes_nothing),
        cmocka_unit_test(masks_differ_between_steps_and_seeds_and_repeat),
        cmocka_unit_test(backward_is_the_same_mask),
        cmocka_unit_test(what_is_dropped_is_zero_whatever_it_was),
    };
    return cmocka_run_group_tests(tests, fill_input, close_reference);
}
