/* AdamW with AMSGrad against its published formula (PyTorch's documentation of torch.optim.AdamW; Loshchilov
 * and Hutter 2019; Reddi et al. 2018), computed here in long double over steps in which the maximum matters.
 */
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { count = 5, steps = 8 };

static const struct adamw_settings settings = {
    .learning_rate = 1e-2, .beta1 = 0.9, .beta2 = 0.7, .epsilon = 1e-8, .weight_decay = 0.1};
static const double any_squares = 1; /* where they decide nothing */

struct optimised {
    real param[count], exp_avg[count], exp_avg_sq[count], max_exp_avg_sq[count];
};

/* Large in the first two steps, then small, so that the second moment falls below its maximum. */
static real gradient(int step, int k)
{
    const double size = step <= 2 ? 3 : 0.05;
    return (real)(size * cos(step + 2.0 * k));
}

static const struct optimised start = {.param = {1, -2, 0.5, 0, 3}};

static void run(struct optimised *t, const struct adamw_settings *chosen, int last)
{
    struct compute c;
    open_implementation(&c, "reference", 1);
    *t = start;
    for (int step = 1; step <= last; step++) {
        struct adamw_settings now = *chosen;
        real grad[count];
        for (int k = 0; k < count; k++) {
            grad[k] = gradient(step, k);
        }
        now.step = step;
        c.adamw_step(&c, t->param, t->exp_avg, t->exp_avg_sq, t->max_exp_avg_sq, grad, &any_squares, &now,
                     count);
    }
    require_no_failure(&c);
    compute_close(&c);
}

struct moments {
    long double param, m, v, largest;
};

/* One parameter after `last` steps, by the formula; without the maximum it is plain AdamW. */
static struct moments by_formula(int k, int last, int with_maximum)
{
    const long double lr = settings.learning_rate, b1 = settings.beta1, b2 = settings.beta2;
    struct moments t = {.param = start.param[k]};
    for (int step = 1; step <= last; step++) {
        const long double g = gradient(step, k);
        t.param -= lr * settings.weight_decay * t.param;
        t.m = b1 * t.m + (1 - b1) * g;
        t.v = b2 * t.v + (1 - b2) * g * g;
        t.largest = t.v > t.largest ? t.v : t.largest;
        const long double m_hat = t.m / (1 - powl(b1, step));
        const long double v_hat = (with_maximum ? t.largest : t.v) / (1 - powl(b2, step));
        t.param -= lr * m_hat / (sqrtl(v_hat) + settings.epsilon);
    }
    return t;
}

static void several_steps_agree_with_the_formula(void **state)
{
    (void)state;
    for (int last = 1; last <= steps; last++) {
        struct optimised t;
        run(&t, &settings, last);
        for (int k = 0; k < count; k++) {
            const struct moments expected = by_formula(k, last, 1);
            require_near(t.param[k], (double)expected.param, 1e-14);
            require_near(t.exp_avg[k], (double)expected.m, 1e-15);
            require_near(t.exp_avg_sq[k], (double)expected.v, 1e-14);
            require_near(t.max_exp_avg_sq[k], (double)expected.largest, 1e-14);
        }
    }
}

static void the_maximum_matters_in_these_steps(void **state)
{
    (void)state;
    struct optimised t;
    run(&t, &settings, steps);
    for (int k = 0; k < count; k++) {
        assert_true(t.max_exp_avg_sq[k] > 2 * t.exp_avg_sq[k]);
        assert_true(fabs(t.param[k] - (double)by_formula(k, steps, 0).param) > 1e-3);
    }
}

/* Epsilon comes after the corrected root: with a gradient as small as epsilon a step is lr g / (|g| + eps).
 */
static void epsilon_is_added_after_the_bias_correction(void **state)
{
    (void)state;
    struct compute c;
    open_implementation(&c, "reference", 1);
    struct adamw_settings first = settings;
    first.step = 1;
    real param = 0, m = 0, v = 0, largest = 0;
    const real grad = (real)1e-8;
    c.adamw_step(&c, &param, &m, &v, &largest, &grad, &any_squares, &first, 1);
    require_near(param, -settings.learning_rate * 0.5, 1e-12);
    compute_close(&c);
}

/* A bias or a norm's weight is a parameter like others: it decays, also where its gradient is zero. */
static void a_single_parameter_without_gradient_decays(void **state)
{
    (void)state;
    struct compute c;
    open_implementation(&c, "reference", 1);
    real param = 2, m = 0, v = 0, largest = 0;
    const real grad = 0;
    for (int step = 1; step <= 3; step++) {
        struct adamw_settings now = settings;
        now.step = step;
        c.adamw_step(&c, &param, &m, &v, &largest, &grad, &any_squares, &now, 1);
    }
    require_near(param, 2 * pow(1 - 1e-3, 3), 1e-15);
    compute_close(&c);
}

/* One step from the start. */
static struct optimised after_one_step(const real grad[count], double squares, double clip_norm)
{
    struct compute c;
    struct optimised t = start;
    struct adamw_settings first = settings;
    first.step = 1;
    first.clip_norm = clip_norm;
    open_implementation(&c, "reference", 1);
    c.adamw_step(&c, t.param, t.exp_avg, t.exp_avg_sq, t.max_exp_avg_sq, grad, &squares, &first, count);
    compute_close(&c);
    return t;
}

static const real some_gradient[count] = {1, -2, 0.5, 0, 3};
static const double squares_of_all = 64; /* of a gradient that some_gradient is a part of */

/* Clipping: the moments and the step are those of the smaller gradient. */
static void the_gradient_is_scaled_before_anything_else(void **state)
{
    (void)state;
    const real eighth[count] = {0.125, -0.25, 0.0625, 0, 0.375};
    const struct optimised clipped = after_one_step(some_gradient, squares_of_all, 1);
    const struct optimised plain = after_one_step(eighth, squares_of_all, 0);
    assert_memory_equal(&clipped, &plain, sizeof plain);
}

static void a_gradient_that_is_short_enough_stays(void **state)
{
    (void)state;
    const struct optimised clipped = after_one_step(some_gradient, squares_of_all, 8);
    const struct optimised plain = after_one_step(some_gradient, squares_of_all, 0);
    assert_memory_equal(&clipped, &plain, sizeof plain);
}

/* And what was done before in the hope of an update is undone. */
static void squares_that_are_no_finite_float_leave_all_as_it_was(void **state)
{
    (void)state;
    const double refused[] = {INFINITY, NAN, 3.5e38}, most = 3.4e38;
    const real before[count] = {5, 4, 3, 2, 1};
    struct compute c;
    open_implementation(&c, "reference", 1);
    for (int i = 0; i < 3; i++) {
        const struct optimised t = after_one_step(some_gradient, refused[i], 0);
        real average[count] = {0};
        assert_memory_equal(&t, &start, sizeof t);
        c.undo_if_skipped(&c, average, before, &most, count);
        assert_true(average[0] == 0 && average[count - 1] == 0);
        c.undo_if_skipped(&c, average, before, &refused[i], count);
        assert_memory_equal(average, before, sizeof before);
    }
    compute_close(&c);
    const struct optimised t = after_one_step(some_gradient, most, 0);
    assert_true(t.param[0] != start.param[0]);
}

/* The first step of the warm-up: nothing moves but the moments. */
static void learning_rate_zero_moves_only_the_moments(void **state)
{
    (void)state;
    struct adamw_settings still = settings;
    still.learning_rate = 0;
    struct optimised t;
    run(&t, &still, 1);
    for (int k = 0; k < count; k++) {
        assert_true(t.param[k] == start.param[k]);
        require_near(t.exp_avg[k], 0.1 * gradient(1, k), 1e-15);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_steps_agree_with_the_formula),
        cmocka_unit_test(the_maximum_matters_in_these_steps),
        cmocka_unit_test(epsilon_is_added_after_the_bias_correction),
        cmocka_unit_test(a_single_parameter_without_gradient_decays),
        cmocka_unit_test(the_gradient_is_scaled_before_anything_else),
        cmocka_unit_test(a_gradient_that_is_short_enough_stays),
        cmocka_unit_test(squares_that_are_no_finite_float_leave_all_as_it_was),
        cmocka_unit_test(learning_rate_zero_moves_only_the_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
