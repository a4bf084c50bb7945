/* How memory is spent: everything counted by hand, and what holds for any numbers. */
#include "train/memory_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"

static const uint64_t mebi = (uint64_t)1 << 20;

/* 12 crops of 100 MiB, 160 in backward. One at a time the least is 200 + 50 + 10 + 160. */
static struct memory_demand example(uint64_t limit)
{
    return (struct memory_demand){.limit = limit * mebi,
                                  .resident = 200 * mebi,
                                  .state = 150 * mebi,
                                  .batches = 50 * mebi,
                                  .chunk_cache = 64 * mebi,
                                  .projection = 10 * mebi,
                                  .crop_kept = 100 * mebi,
                                  .crop_peak = 160 * mebi,
                                  .crops = 12,
                                  .crops_at_once = 1};
}

static struct memory_plan plan_of(const struct memory_demand *demand)
{
    struct memory_plan plan;
    memory_plan_make(&plan, demand);
    return plan;
}

static void without_bounds_everything_is_kept(void **state)
{
    (void)state;
    const struct memory_demand demand = example(100000);
    const struct memory_plan plan = plan_of(&demand);
    assert_true(plan.fits);
    assert_int_equal(plan.crops_at_once, 1);
    assert_int_equal(plan.crops_kept, 12);
    assert_int_equal(plan.chunk_cache, 64 * mebi);
    assert_int_equal(plan.activations, (160 + 11 * 100) * mebi);
    assert_int_equal(plan.expected, (200 + 50 + 64 + 10 + 160 + 1100) * mebi);
    assert_int_equal(plan.least, 420 * mebi);
}

static void the_least_is_one_crop_and_nothing_kept(void **state)
{
    (void)state;
    struct memory_demand demand = example(420);
    struct memory_plan plan = plan_of(&demand);
    assert_true(plan.fits);
    assert_int_equal(plan.crops_kept, 1);
    assert_int_equal(plan.chunk_cache, 0);
    assert_int_equal(plan.expected, demand.limit);
    demand.limit--;
    plan = plan_of(&demand);
    assert_false(plan.fits);
    assert_int_equal(plan.least, 420 * mebi);
    assert_int_equal(plan.crops_at_once, 1);
    assert_int_equal(plan.crops_kept, 1);
}

static void what_is_left_goes_to_crops_and_an_eighth_to_the_chunk_cache(void **state)
{
    (void)state;
    struct memory_demand demand = example(420 + 240);
    struct memory_plan plan = plan_of(&demand);
    assert_int_equal(plan.chunk_cache, 30 * mebi);
    assert_int_equal(plan.crops_kept, 3); /* 210 are left: two more */
    demand = example(420 + 800);
    plan = plan_of(&demand);
    assert_int_equal(plan.chunk_cache, 64 * mebi); /* it asks for no more */
    assert_int_equal(plan.crops_kept, 8);
    demand = example(420 + 1100 + 64); /* all crops fit, and so does the whole cache */
    plan = plan_of(&demand);
    assert_int_equal(plan.crops_kept, 12);
    assert_int_equal(plan.chunk_cache, 64 * mebi);
    demand.limit -= mebi;
    plan = plan_of(&demand);
    assert_int_equal(plan.crops_kept, 11);
}

static void passes_of_several_crops_are_kept_whole(void **state)
{
    (void)state;
    struct memory_demand demand = example(200 + 50 + 10 + 4 * 160 + 900);
    demand.crops_at_once = 4;
    demand.chunk_cache = 0;
    struct memory_plan plan = plan_of(&demand);
    assert_int_equal(plan.crops_at_once, 4);
    assert_int_equal(plan.crops_kept, 12);
    assert_int_equal(plan.activations, (4 * 160 + 2 * 400) * mebi);
    demand.limit -= 101 * mebi;
    plan = plan_of(&demand);
    assert_int_equal(plan.crops_kept, 8);
    /* a last pass of 1 is the one that is kept first */
    demand = example(200 + 50 + 10 + 4 * 160);
    demand.crops_at_once = 4;
    demand.crops = 13;
    plan = plan_of(&demand);
    assert_int_equal(plan.crops_kept, 1);
}

static void fewer_crops_pass_at_once_where_memory_forces_it(void **state)
{
    (void)state;
    struct memory_demand demand = example(200 + 50 + 10 + 5 * 160);
    demand.crops_at_once = 12;
    struct memory_plan plan = plan_of(&demand);
    assert_true(plan.fits);
    assert_int_equal(plan.crops_at_once, 4); /* 5 would fit, and leave a pass of 2 */
    demand.crops_at_once = 5;                /* but whoever asks for 5 gets them */
    plan = plan_of(&demand);
    assert_int_equal(plan.crops_at_once, 5);
    demand.crops_at_once = 100;
    demand.crops = 2;
    plan = plan_of(&demand);
    assert_int_equal(plan.crops_at_once, 2);
}

static void the_evaluation_takes_the_place_of_batches_and_cache(void **state)
{
    (void)state;
    struct memory_demand demand = example(0);
    demand.evaluation = 90 * mebi;
    demand.limit = (200 + 10 + 160 + 90) * mebi;
    const struct memory_plan plan = plan_of(&demand);
    assert_true(plan.fits);
    assert_int_equal(plan.least, demand.limit);
    assert_int_equal(plan.chunk_cache, 40 * mebi); /* there is room for it while the evaluation waits */
    assert_int_equal(plan.expected, demand.limit);
}

/* A number of up to `most`, the `index`-th of case `number`. */
static uint64_t draw(uint32_t number, uint32_t index, uint32_t most)
{
    const struct random_key key = {.seed = 5, .sample = number, .purpose = RANDOM_TEST};
    return random_below(&key, index, most + 1);
}

static void no_plan_exceeds_its_limit_or_wastes_a_pass(void **state)
{
    (void)state;
    int fitting = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        const struct memory_demand demand = {.limit = draw(i, 0, 4000),
                                             .resident = draw(i, 1, 1000),
                                             .batches = draw(i, 2, 200),
                                             .chunk_cache = draw(i, 3, 500),
                                             .evaluation = draw(i, 4, 300),
                                             .projection = draw(i, 5, 50),
                                             .crop_kept = draw(i, 6, 100),
                                             .crop_peak = 100 + draw(i, 7, 100),
                                             .crops = 1 + (int)draw(i, 8, 40),
                                             .crops_at_once = 1 + (int)draw(i, 9, 8)};
        const struct memory_plan plan = plan_of(&demand);
        const uint64_t pass = (uint64_t)plan.crops_at_once * demand.crop_kept;
        assert_in_range(plan.crops_at_once, 1, demand.crops);
        assert_in_range(plan.crops_kept, 1, demand.crops);
        assert_true(plan.chunk_cache <= demand.chunk_cache);
        assert_int_equal(plan.fits, plan.least <= demand.limit);
        if (plan.fits) {
            fitting++;
            assert_true(plan.expected <= demand.limit);
            assert_true(plan.crops_kept == demand.crops || demand.limit - plan.expected < pass);
        } else {
            assert_int_equal(plan.expected, plan.least);
        }
    }
    assert_in_range(fitting, 10000, 19999);
}

static void passes_are_few_and_equal(void **state)
{
    (void)state;
    static const int cases[][3] = {{11, 2, 2}, {44, 2, 2}, {22, 4, 4}, {9, 4, 3}, {11, 4, 4}, {44, 64, 44},
                                   {1, 2, 1},  {12, 5, 4}, {7, 1, 1},  {7, 0, 1}, {0, 4, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(equal_passes(cases[i][0], cases[i][1]), cases[i][2]);
    }
}

static void a_plan_is_told_in_a_line(void **state)
{
    (void)state;
    char text[memory_plan_text_size];
    struct memory_demand demand = example(660);
    struct memory_plan plan = plan_of(&demand);
    assert_string_equal(memory_plan_describe(text, &plan, &demand),
                        "660 MiB: parameters and moments 150 MiB, batches 50.0 MiB, chunk cache 30.0 MiB, 1 "
                        "crop at a time, 3 of 12 kept, the rest computed twice; 650 MiB expected");
    demand = example(4096);
    demand.crops_at_once = 2;
    plan = plan_of(&demand);
    assert_string_equal(memory_plan_describe(text, &plan, &demand),
                        "4.0 GiB: parameters and moments 150 MiB, batches 50.0 MiB, chunk cache 64.0 MiB, 2 "
                        "crops at a time, all 12 kept; 1.6 GiB expected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_bounds_everything_is_kept),
        cmocka_unit_test(the_least_is_one_crop_and_nothing_kept),
        cmocka_unit_test(what_is_left_goes_to_crops_and_an_eighth_to_the_chunk_cache),
        cmocka_unit_test(passes_of_several_crops_are_kept_whole),
        cmocka_unit_test(fewer_crops_pass_at_once_where_memory_forces_it),
        cmocka_unit_test(the_evaluation_takes_the_place_of_batches_and_cache),
        cmocka_unit_test(no_plan_exceeds_its_limit_or_wastes_a_pass),
        cmocka_unit_test(passes_are_few_and_equal),
        cmocka_unit_test(a_plan_is_told_in_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
