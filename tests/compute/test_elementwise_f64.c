/* GELU, average pooling, addition, moving average and sum of squares of the reference, in double. */
#include "finite_difference.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct compute compute;

static int open_reference(void **state)
{
    (void)state;
    open_implementation(&compute, "reference", 1);
    return 0;
}

static int close_reference(void **state)
{
    (void)state;
    require_no_failure(&compute);
    compute_close(&compute);
    return 0;
}

static void gelu_is_x_times_the_normal_distribution(void **state)
{
    (void)state;
    for (int k = -80; k <= 80; k++) {
        const real x = (real)k / 10;
        real y;
        compute.gelu_forward(&compute, as_activations(&y), as_activations(&x), 1);
        require_near(y, 0.5 * x * (1 + erf(x / sqrt(2))), 1e-15 * fabs(x));
    }
}

struct pointwise {
    real *inp, *out, *dout;
    size_t count;
};

static double gelu_loss(void *context)
{
    struct pointwise *t = context;
    compute.gelu_forward(&compute, as_activations(t->out), as_activations(t->inp), t->count);
    return inner_product(t->out, t->dout, t->count);
}

static void gelu_backward_is_the_derivative_and_may_write_over_dout(void **state)
{
    (void)state;
    enum { count = 105 };
    struct pointwise t = {random_tensor(1, count, 2), filled_tensor(count, 0), random_tensor(2, count, 1),
                          count};
    real *dinp = filled_tensor(count, 77), *in_place = filled_tensor(count, 0);
    memcpy(in_place, t.dout, count * sizeof *in_place);
    compute.gelu_backward(&compute, as_activations(dinp), as_activations(t.dout), as_activations(t.inp),
                          count);
    compute.gelu_backward(&compute, as_activations(in_place), as_activations(in_place), as_activations(t.inp),
                          count);
    check_gradient("gelu dinp", gelu_loss, &t, t.inp, dinp, count);
    assert_true(same_bits(in_place, dinp, count));
    free(t.inp);
    free(t.out);
    free(t.dout);
    free(dinp);
    free(in_place);
}

static void addition_may_be_in_place_on_either_side(void **state)
{
    (void)state;
    enum { count = 7 };
    real *a = random_tensor(1, count, 1), *b = random_tensor(2, count, 1), *sum = filled_tensor(count, 0);
    compute.add(&compute, as_activations(sum), as_activations(a), as_activations(b), count);
    for (int k = 0; k < count; k++) {
        assert_true(sum[k] == a[k] + b[k]);
    }
    real *left = random_tensor(1, count, 1), *right = random_tensor(2, count, 1);
    compute.add(&compute, as_activations(left), as_activations(left), as_activations(b), count);
    compute.add(&compute, as_activations(right), as_activations(a), as_activations(right), count);
    assert_true(same_bits(left, sum, count));
    assert_true(same_bits(right, sum, count));
    free(a);
    free(b);
    free(sum);
    free(left);
    free(right);
}

static void moving_average_forgets_geometrically(void **state)
{
    (void)state;
    real average[2] = {4, -2};
    const real value[2] = {1, 3};
    for (int step = 1; step <= 20; step++) {
        const real before[2] = {average[0], average[1]};
        real previous[2] = {77, 77};
        compute.moving_average(&compute, average, step % 2 == 0 ? previous : NULL, value, (real)0.9, 2);
        assert_true(step % 2 != 0 || (previous[0] == before[0] && previous[1] == before[1]));
        require_near(average[0], 1 + 3 * pow(0.9, step), 1e-14);
        require_near(average[1], 3 - 5 * pow(0.9, step), 1e-14);
    }
}

static void zero_leaves_nothing_of_what_was_there(void **state)
{
    (void)state;
    real x[3] = {1, (real)NAN, -(real)INFINITY};
    compute.zero(&compute, x, 2);
    assert_true(x[0] == 0 && x[1] == 0 && isinf(x[2]));
}

/* 1e30 + 1 - 1e30 - 1 depends on the order: 0 - 1, and not 0. */
static void parts_are_added_from_the_first_to_the_last(void **state)
{
    (void)state;
    const real parts[4][2] = {{(real)1e30, 1}, {1, 2}, {(real)-1e30, 3}, {-1, 4}};
    real sum[2] = {7, 7};
    compute.sum_in_order(&compute, sum, as_activations(&parts[0][0]), 4, 2, (real)0.5);
    require_near(sum[0], -0.5, 0);
    require_near(sum[1], 5, 0);
}

static void sum_of_squares_shows_what_is_not_finite(void **state)
{
    (void)state;
    real x[7] = {1, -2, 3, -4, 5, -6, 7};
    double sum = 7;
    compute.sum_of_squares(&compute, &sum, x, 7);
    require_near(sum, 140, 0);
    compute.sum_of_squares(&compute, &sum, x, 0);
    require_near(sum, 0, 0);
    x[3] = (real)-INFINITY;
    compute.sum_of_squares(&compute, &sum, x, 7);
    assert_true(isinf(sum));
    x[6] = (real)NAN;
    compute.sum_of_squares(&compute, &sum, x, 7);
    assert_true(isnan(sum));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gelu_is_x_times_the_normal_distribution),
        cmocka_unit_test(gelu_backward_is_the_derivative_and_may_write_over_dout),
        cmocka_unit_test(addition_may_be_in_place_on_either_side),
        cmocka_unit_test(moving_average_forgets_geometrically),
        cmocka_unit_test(zero_leaves_nothing_of_what_was_there),
        cmocka_unit_test(parts_are_added_from_the_first_to_the_last),
        cmocka_unit_test(sum_of_squares_shows_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
