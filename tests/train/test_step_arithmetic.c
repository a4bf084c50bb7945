/* The useful arithmetic of a step against counts by hand: every layer of a small network written down one by
 * one. */
#include "train/step_arithmetic.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* R = 48: 24, 12, 6, 3, 2 tokens an axis. C = 3, D = 16, E = 72. */
static const struct model_config small = {3, 48, 16, PATCH_MERGING_FIXED};

static double cube(double side)
{
    return side * side * side;
}

/* Products of a 3^3 convolution with a border of zeros: 3 n - 2 taps lie inside on an axis of n voxels. */
static double conv(double side, double in, double out)
{
    return cube(3 * side - 2) * in * out;
}

/* Forward, gradient of the weights, gradient of the input. */
static double residual_block(double side, double channels)
{
    return 3 * 2 * conv(side, channels, channels);
}

static void convolutions_are_those_of_every_block(void **state)
{
    (void)state;
    const double embedding = 2 * cube(24) * 8 * 3; /* no input gradient */
    const double encoder1 =
        2 * conv(48, 1, 3) + 3 * conv(48, 3, 3) + 2 * cube(48) * 3; /* conv1, conv2, conv3 */
    const double stages =
        residual_block(24, 3) + residual_block(12, 6) + residual_block(6, 12) + residual_block(3, 24);
    const double encoder2 = residual_block(24, 3), encoder3 = residual_block(12, 6),
                 encoder4 = residual_block(6, 12);
    const double encoder10 = residual_block(2, 48);
    const double products = embedding + encoder1 + stages + encoder2 + encoder3 + encoder4 + encoder10;
    assert_true(step_arithmetic_of(&small, 1).convolution == 2 * products);
}

/* Of two Swin blocks: qkv, proj, linear1, linear2 make 3 + 1 + 4 + 4 = 12 C^2 a token. */
static double swin_linears(double tokens, double channels)
{
    return 3 * 2 * tokens * 12 * channels * channels;
}

static double merging(double tokens, double channels)
{
    return 3 * tokens * 8 * channels * 2 * channels;
}

static void linears_are_those_of_every_block(void **state)
{
    (void)state;
    const double blocks = swin_linears(cube(24), 3) + swin_linears(cube(12), 6) + swin_linears(cube(6), 12) +
                          swin_linears(cube(3), 24);
    const double mergings =
        merging(cube(12), 3) + merging(cube(6), 6) + merging(cube(3), 12) + merging(cube(2), 24);
    assert_true(step_arithmetic_of(&small, 1).linear == 2 * (blocks + mergings));
}

/* Two blocks with 2 products forward and 4 backward, each of tokens x tokens of a window x C. */
static void attention_looks_at_whole_windows(void **state)
{
    (void)state;
    const double products =
        2 * 6 *
        (cube(24) * cube(7) * 3 + cube(12) * cube(7) * 6 + cube(6) * cube(6) * 12 + cube(3) * cube(3) * 24);
    assert_true(step_arithmetic_of(&small, 1).attention == 2 * products);
}

/* 72 x 16, 16 x 16, 16 x 16: the student three times, the teacher once. */
static void projectors_are_a_student_and_a_teacher(void **state)
{
    (void)state;
    assert_true(step_arithmetic_of(&small, 5).projectors == 2.0 * 5 * 4 * (72 * 16 + 2 * 16 * 16));
}

static void crops_count_alike(void **state)
{
    (void)state;
    const struct step_arithmetic one = step_arithmetic_of(&small, 1), many = step_arithmetic_of(&small, 22);
    assert_true(many.convolution == 22 * one.convolution);
    assert_true(many.linear == 22 * one.linear);
    assert_true(many.attention == 22 * one.attention);
    assert_true(many.projectors == 22 * one.projectors);
    const double sum = many.convolution + many.linear + many.attention + many.projectors;
    assert_true(fabs(step_arithmetic_sum(&many) - sum) < 1e-9 * sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_are_those_of_every_block),
        cmocka_unit_test(linears_are_those_of_every_block),
        cmocka_unit_test(attention_looks_at_whole_windows),
        cmocka_unit_test(projectors_are_a_student_and_a_teacher),
        cmocka_unit_test(crops_count_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
