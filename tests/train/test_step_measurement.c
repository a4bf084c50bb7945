/* The account of a step: its parts are the whole, and arithmetic that is made again shows. */
#include "train/step_measurement.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* 3 crops of 48^3, one through the encoder at a time. */
static struct recipe smallest(void)
{
    struct recipe recipe;
    recipe_default(&recipe);
    recipe.model = (struct model_config){3, 48, 16, PATCH_MERGING_FIXED};
    recipe.sampling.crops = 1;
    recipe.sampling.base_grid[0] = 1;
    recipe.sampling.base_grid[1] = 2;
    recipe.volumes = 1;
    recipe.crops_at_once = 1;
    assert_int_equal(recipe_check(&recipe), VOCO_OK);
    return recipe;
}

static struct step_measurement measure_within(const struct recipe *recipe, int steps,
                                              size_t activation_budget)
{
    struct step_measurement measurement;
    const struct step_measurement_settings settings = {
        .steps = steps, .threads = 1, .activation_budget = activation_budget};
    const enum voco_status status = step_measurement_take(&measurement, recipe, &settings);
    if (status != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    return measurement;
}

static struct step_measurement measure(const struct recipe *recipe, int steps)
{
    return measure_within(recipe, steps, 0);
}

static void parts_are_the_step(void **state)
{
    (void)state;
    const struct recipe recipe = smallest();
    const struct step_measurement m = measure(&recipe, 3);
    double sum = 0;
    for (int part = 0; part < step_parts; part++) {
        assert_true(m.parts[part].seconds >= 0);
        sum += m.parts[part].seconds;
    }
    assert_true(fabs(sum - m.seconds) < 1e-9);
    assert_true(m.parts[PART_REST].seconds < 0.2 * m.seconds);
    assert_int_equal(m.volumes, 1);
    assert_int_equal(m.crops, 3);
    assert_true(m.fastest <= m.seconds && m.seconds <= m.slowest);
    assert_true(m.cpu_seconds > 0.01 * m.fastest); /* not m.fastest: others may be at work */
    assert_true(m.cpu_seconds < 1.05 * (1 + recipe.loader_threads) * m.slowest);
    const struct step_arithmetic useful = step_arithmetic_of(&recipe.model, 3);
    assert_true(m.useful_flops == step_arithmetic_sum(&useful));
    assert_true(m.parts[PART_CONVOLUTION].flops == useful.convolution);
    assert_true(m.parts[PART_NORMS].flops == 0 && m.parts[PART_NORMS].bytes > 0);
    assert_true(m.peak_memory > (uint64_t)10 << 20);
}

/* Where activations of the last crop only are kept, the other two pass forward again. */
static void forward_passes_made_again_show(void **state)
{
    (void)state;
    const struct recipe recipe = smallest();
    const struct step_measurement all = measure(&recipe, 1), one = measure_within(&recipe, 1, 1);
    const struct step_arithmetic crop = step_arithmetic_of(&recipe.model, 1);
    const double first_layers = 2 * 3 * (8 * pow(24, 3) + pow(3 * 48 - 2, 3) + pow(48, 3));
    const double forward = (crop.convolution + first_layers + crop.linear + crop.attention) / 3;
    assert_true(fabs(all.repeated_flops) < 0.01 * all.useful_flops);
    assert_true(fabs(one.repeated_flops - all.repeated_flops - 2 * forward) < 0.01 * 2 * forward);
}

/* Without loader threads a step makes its own batch, and that is what it waits for. */
static void a_batch_made_in_the_step_is_data(void **state)
{
    (void)state;
    struct recipe recipe = smallest();
    recipe.loader_threads = 0;
    const struct step_measurement m = measure(&recipe, 1);
    assert_true(m.seconds_per_batch > 0);
    assert_true(m.parts[PART_DATA].seconds > 0.2 * m.seconds_per_batch);
}

static void failures_come_through(void **state)
{
    (void)state;
    struct step_measurement measurement;
    const struct step_measurement_settings settings = {.steps = 3, .threads = 1};
    struct recipe recipe = smallest();
    strcpy(recipe.compute, "abacus");
    assert_int_equal(step_measurement_take(&measurement, &recipe, &settings), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "abacus"));
    recipe = smallest();
    recipe.learning_rate = 1e30;
    assert_int_equal(step_measurement_take(&measurement, &recipe, &settings), VOCO_DIVERGED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_the_step),
        cmocka_unit_test(forward_passes_made_again_show),
        cmocka_unit_test(a_batch_made_in_the_step_is_data),
        cmocka_unit_test(failures_come_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
