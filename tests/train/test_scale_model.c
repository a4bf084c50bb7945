/* The model of step time: its terms by themselves, on numbers that a head can check. */
#include "train/scale_model.h"
#include "train/step_arithmetic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct recipe recipe;
static struct parameter_table table;
static struct scale_assumptions plain;

static int set_up(void **state)
{
    (void)state;
    plain = scale_assumptions_usual();
    plain.latency = 0;
    return recipe_load(&recipe, "base") == VOCO_OK && parameter_table_create(&table, &recipe.model) == VOCO_OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    parameter_table_free(&table);
    return 0;
}

static void one_gpu_computes_and_waits_for_nobody(void **state)
{
    (void)state;
    const struct scale_estimate e = scale_estimate_of(&recipe, &table, &plain, 1);
    const struct step_arithmetic arithmetic = step_arithmetic_of(&recipe.model, 22);
    assert_float_equal(e.compute / (step_arithmetic_sum(&arithmetic) / 0.35 / 989e12), 1, 1e-9);
    assert_true(e.reduction == 0 && e.exposed == 0);
    assert_float_equal(e.step, e.compute + e.optimiser, 1e-12);
    assert_float_equal(e.efficiency, 1, 1e-12);
    assert_int_equal(e.volumes, 2);
}

static void the_slowest_link_carries_the_gradient(void **state)
{
    (void)state;
    const double bytes = 4.0 * (double)table.trained;
    const struct scale_estimate node = scale_estimate_of(&recipe, &table, &plain, 8);
    const struct scale_estimate nodes = scale_estimate_of(&recipe, &table, &plain, 64);
    struct scale_assumptions flat = plain;
    flat.flat = 1;
    const double at_once = scale_estimate_of(&recipe, &table, &flat, 64).reduction;
    assert_float_equal(node.reduction / (2 * 7.0 / 8 * bytes / 450e9), 1, 1e-9);
    assert_float_equal(nodes.reduction / (2 * 7.0 / 8 * bytes / 450e9 + 2 * 7.0 / 8 * bytes / 50e9), 1, 1e-9);
    assert_float_equal(at_once / (2 * 63.0 / 64 * bytes / (50e9 / 8)), 1, 1e-9);
    assert_int_equal(nodes.nodes, 8);
}

static void messages_cost_latency(void **state)
{
    (void)state;
    struct scale_assumptions late = plain;
    late.latency = 1e-3;
    const double buckets = (double)table.trained / (1 << 22) + 1;
    const struct scale_estimate a = scale_estimate_of(&recipe, &table, &plain, 16);
    const struct scale_estimate b = scale_estimate_of(&recipe, &table, &late, 16);
    assert_float_equal(b.reduction - a.reduction, 2 * (7 + 1) * buckets * 1e-3, 1e-9);
}

static void what_fits_beside_the_backward_pass_is_hidden_but_for_the_last_bucket(void **state)
{
    (void)state;
    struct scale_assumptions slow = plain;
    slow.efficiency = 0.001;
    const struct scale_estimate hidden = scale_estimate_of(&recipe, &table, &slow, 8);
    assert_float_equal(hidden.exposed / (hidden.reduction * (1 << 22) / (double)table.trained), 1, 1e-9);
    slow.network_bytes = 1e6;
    const struct scale_estimate shown = scale_estimate_of(&recipe, &table, &slow, 16);
    assert_float_equal(shown.exposed / (shown.reduction - shown.compute * 2 / 3), 1, 1e-9);
    slow.crops_at_once = 2; /* of 22 */
    const struct scale_estimate less = scale_estimate_of(&recipe, &table, &slow, 16);
    assert_float_equal(less.exposed / (less.reduction - less.compute * 2 / 3 * 2 / 22), 1, 1e-9);
}

static void bf16_halves_the_bytes_and_shards_the_first_half_of_the_way(void **state)
{
    (void)state;
    struct recipe other = recipe;
    const double whole = scale_estimate_of(&recipe, &table, &plain, 64).reduction;
    other.reduce = RANKS_BF16;
    assert_float_equal(scale_estimate_of(&other, &table, &plain, 64).reduction / whole, 0.5, 1e-9);
    other = recipe;
    other.shard_optimizer = 1;
    assert_float_equal(scale_estimate_of(&other, &table, &plain, 64).reduction / whole, 0.5, 1e-9);
}

static void slow_data_sets_the_pace(void **state)
{
    (void)state;
    struct scale_assumptions starved = plain;
    starved.seconds_per_volume = 80;
    const struct scale_estimate e = scale_estimate_of(&recipe, &table, &starved, 8);
    assert_float_equal(e.step, 20, 1e-9);
    assert_float_equal(e.storage_bytes, 16.0 / 20 * 64 * 64 * 64 * 9 / 2, 1e-3);
}

static void sync_bn_projects_all_crops_everywhere(void **state)
{
    (void)state;
    struct recipe sync = recipe;
    sync.sync_bn = 1;
    const double more = scale_estimate_of(&sync, &table, &plain, 8).compute -
                        scale_estimate_of(&recipe, &table, &plain, 8).compute;
    const struct step_arithmetic others = step_arithmetic_of(&recipe.model, 7 * 22);
    assert_float_equal(more / (others.projectors / 0.35 / 989e12), 1, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_gpu_computes_and_waits_for_nobody),
        cmocka_unit_test(the_slowest_link_carries_the_gradient),
        cmocka_unit_test(messages_cost_latency),
        cmocka_unit_test(what_fits_beside_the_backward_pass_is_hidden_but_for_the_last_bucket),
        cmocka_unit_test(bf16_halves_the_bytes_and_shards_the_first_half_of_the_way),
        cmocka_unit_test(slow_data_sets_the_pace),
        cmocka_unit_test(sync_bn_projects_all_crops_everywhere),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
