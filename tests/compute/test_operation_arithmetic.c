/* The arithmetic of single operations, against numbers counted by hand and against plain counting of every
 * product. */
#include "compute/operation_arithmetic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Goes through every output and tap, as the plain convolution does. */
static double count_conv3d(const struct conv3d_shape *s)
{
    const int size[3] = {s->d, s->h, s->w};
    double pairs = 1;
    for (int axis = 0; axis < 3; axis++) {
        int inside = 0;
        const int before = s->stride == 1 ? (s->kernel - 1) / 2 : 0;
        for (int out = 0; out < size[axis] / s->stride; out++) {
            for (int tap = 0; tap < s->kernel; tap++) {
                const int at = out * s->stride + tap - before;
                inside += at >= 0 && at < size[axis];
            }
        }
        pairs *= inside;
    }
    return 2 * pairs * s->n * s->in_channels * s->out_channels;
}

static void convolutions_count_taps_inside(void **state)
{
    (void)state;
    /* 1 x 2 x 3 voxels: 1, 2 + 2 and 2 + 3 + 2 taps inside along the axes, 28 in all; 2 channels to 5, 3
     * volumes. */
    const struct conv3d_shape by_hand = {3, 1, 2, 3, 2, 5, 3, 1};
    assert_true(conv3d_flops(&by_hand) == 28 * 2 * 5 * 3 * 2);
    /* 4^3 voxels make 2^3 tokens of 2^3 taps. */
    const struct conv3d_shape embedding = {1, 4, 4, 4, 1, 12, 2, 2};
    assert_true(conv3d_flops(&embedding) == 8 * 8 * 12 * 2);
    static const struct conv3d_shape shapes[] = {{1, 1, 1, 1, 1, 1, 3, 1}, {2, 5, 4, 3, 7, 2, 3, 1},
                                                 {3, 2, 7, 9, 4, 4, 1, 1}, {1, 6, 2, 8, 3, 5, 2, 2},
                                                 {1, 9, 3, 6, 2, 1, 3, 3}, {4, 48, 48, 48, 12, 12, 3, 1}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        assert_true(conv3d_flops(&shapes[k]) == count_conv3d(&shapes[k]));
    }
}

static void linears_count_rows_by_features(void **state)
{
    (void)state;
    assert_true(linear_flops(5, 3, 7) == 5 * 3 * 7 * 2);
    assert_true(linear_flops(0, 3, 7) == 0);
    assert_true(linear_flops((size_t)1 << 31, 1 << 10, 1 << 10) == 4503599627370496.0);
}

/* 8 x 3 x 7 tokens in windows of 7 x 3 x 7: the 168 real ones ask, each of the 147 of its window is asked, of
 * which 126 are padded in every other window. 2 heads of 4. */
static void attention_counts_real_queries_and_whole_windows(void **state)
{
    (void)state;
    struct attention_shape shape = {.n = 2, .d = 8, .h = 3, .w = 7, .heads = 2, .head_dim = 4};
    for (int odd = 0; odd < 2; odd++) {
        attention_window_of_axis(shape.d, odd, &shape.window[0], &shape.shift[0]);
        attention_window_of_axis(shape.h, odd, &shape.window[1], &shape.shift[1]);
        attention_window_of_axis(shape.w, odd, &shape.window[2], &shape.shift[2]);
        assert_true(attention_product_flops(&shape) == 2.0 * 168 * 147 * 8 * 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_count_taps_inside),
        cmocka_unit_test(linears_count_rows_by_features),
        cmocka_unit_test(attention_counts_real_queries_and_whole_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
