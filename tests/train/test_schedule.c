/* The learning rate against voco.md section 4, at points that can be worked out by hand. */
#include "train/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct schedule published = {SCHEDULE_COSINE, 1e-4, 5000, 2000000};

static void assert_rate(const struct schedule *schedule, long long step, double expected)
{
    assert_true(fabs(schedule_learning_rate(schedule, step) - expected) <= 1e-12 * schedule->learning_rate);
}

static void warm_up_is_linear_from_zero(void **state)
{
    (void)state;
    assert_true(schedule_learning_rate(&published, 0) == 0);
    assert_rate(&published, 1, 2e-8);
    assert_rate(&published, 2500, 0.5e-4);
    assert_rate(&published, 4999, 0.9998e-4);
}

static void cosine_falls_from_one_to_zero(void **state)
{
    (void)state;
    assert_rate(&published, 5000, 1e-4);
    assert_rate(&published, 5000 + 1995000 / 2, 0.5e-4);
    assert_rate(&published, 5000 + 1995000 / 3, 0.75e-4);
    assert_rate(&published, 5000 + 1995000 / 3 * 2, 0.25e-4);
    assert_rate(&published, 2000000, 0);
    double before = schedule_learning_rate(&published, 5000);
    for (long long step = 15000; step <= 2000000; step += 10000) {
        const double rate = schedule_learning_rate(&published, step);
        assert_true(rate < before && rate >= 0);
        before = rate;
    }
}

static void rate_stays_zero_after_the_end(void **state)
{
    (void)state;
    assert_true(schedule_learning_rate(&published, 2000001) == 0);
    assert_true(schedule_learning_rate(&published, 4000000) == 0);
}

static void short_runs_are_possible(void **state)
{
    (void)state;
    const struct schedule without_warm_up = {SCHEDULE_COSINE, 1, 0, 2};
    assert_rate(&without_warm_up, 0, 1);
    assert_rate(&without_warm_up, 1, 0.5);
    const struct schedule only_warm_up = {SCHEDULE_COSINE, 1, 10, 5};
    assert_rate(&only_warm_up, 4, 0.4);
    assert_rate(&only_warm_up, 12, 0);
}

static void constant_is_constant(void **state)
{
    (void)state;
    const struct schedule constant = {.kind = SCHEDULE_CONSTANT, .learning_rate = 3e-4};
    for (long long step = 0; step < 100; step += 9) {
        assert_true(schedule_learning_rate(&constant, step) == 3e-4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_is_linear_from_zero),   cmocka_unit_test(cosine_falls_from_one_to_zero),
        cmocka_unit_test(rate_stays_zero_after_the_end), cmocka_unit_test(short_runs_are_possible),
        cmocka_unit_test(constant_is_constant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
