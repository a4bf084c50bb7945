/* An evaluation on a device, which the host plays, takes no more of its memory than it needs: others may
 * compute there. */
#include "compute/compute_arena.h"
#include "compute/reals_on_device.h"
#include "data/cached_set.h"
#include "device_on_host/device_on_host.h"
#include "train/evaluate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { volumes = 3 };

static const struct model_config narrow = {3, 48, 16, PATCH_MERGING_V2};
static const struct evaluation_settings small = {.sampling = {.roi = 48, .crops = 1, .base_grid = {1, 2}},
                                                 .volumes_per_batch = 2,
                                                 .crops_at_once = 6,
                                                 .draws = 2,
                                                 .seed = 5};

static struct cached_set set;

/* On an arena that has `before`; returns what it has in the end. */
static size_t run(struct evaluation *result, const struct model_config *config,
                  const struct evaluation_settings *settings, size_t before)
{
    struct compute device;
    struct model model;
    struct arena arena;
    assert_int_equal(open_device_on_host(&device, "cpu"), VOCO_OK);
    assert_int_equal(model_create(&model, config), VOCO_OK);
    float *params = calloc(model.table.total, sizeof *params);
    assert_non_null(params);
    parameters_initialise(params, &model.table, 17);
    float *on_device = reals_on_device(&device, params, model.table.total);
    assert_int_equal(evaluation_arena_open(&arena, &device), VOCO_OK);
    assert_int_equal(compute_arena_reserve(&arena, &device, before), VOCO_OK);
    assert_int_equal(evaluate(result, &model, &device, &arena, on_device, (const char *const *)set.paths,
                              volumes, settings),
                     VOCO_OK);
    const size_t capacity = arena.capacity, peak = arena.peak;
    assert_in_range(peak, before > 0 ? 1 : capacity / 4, capacity);
    compute_arena_close(&arena, &device);
    release_reals(&device, on_device, params);
    free(params);
    model_free(&model);
    compute_close(&device);
    return capacity;
}

static void an_evaluation_takes_what_it_needs(void **state)
{
    (void)state;
    const size_t all = (size_t)1 << 60;
    struct evaluation with_all, in_need;
    assert_in_range(run(&with_all, &narrow, &small, all), 128 << 20, all);
    assert_in_range(run(&in_need, &narrow, &small, 0), 1 << 20, 64 << 20);
    assert_int_equal(in_need.positions, 2 * volumes);
    assert_true(isfinite(in_need.loss));
    assert_memory_equal(&in_need, &with_all, sizeof with_all);
}

static void crops_that_do_not_fit_together_pass_in_turns(void **state)
{
    (void)state;
    const struct model_config wide = {12, 48, 16, PATCH_MERGING_FIXED};
    struct evaluation_settings many = small;
    struct evaluation result;
    many.volumes_per_batch = 4;
    many.crops_at_once = 12; /* 255 MB, and the device gives 201 */
    many.draws = 1;
    assert_in_range(run(&result, &wide, &many, 0), 128 << 20, 255 << 20);
    assert_int_equal(result.positions, volumes);
    assert_true(isfinite(result.loss));
}

/* Larger, smaller, as large: it moves where it must. */
static void room_is_made_where_it_lacks(void **state)
{
    (void)state;
    static const size_t wanted[] = {1000, 1 << 16, 100, 1 << 16, (1 << 16) + 1};
    struct compute device;
    struct arena arena;
    assert_int_equal(open_device_on_host(&device, "cpu"), VOCO_OK);
    assert_int_equal(compute_arena_open(&arena, &device, 0), VOCO_OK);
    size_t most = 0;
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++) {
        const size_t before = arena.capacity;
        most = wanted[k] > most ? wanted[k] : most;
        assert_int_equal(compute_arena_reserve(&arena, &device, wanted[k]), VOCO_OK);
        assert_in_range(arena.capacity, most, most + 128);
        assert_int_equal(arena.capacity != before, wanted[k] + arena_alignment > before);
        assert_non_null(arena_push(&arena, wanted[k]));
        assert_non_null(arena_push_host(&arena, 1 << 20));
        arena_reset(&arena);
    }
    compute_arena_close(&arena, &device);
    compute_close(&device);
}

static int make_set(void **state)
{
    static const int least[3] = {60, 110, 50};
    (void)state;
    make_cached_set_from(&set, volumes, least);
    return 0;
}

static int remove_set(void **state)
{
    (void)state;
    remove_cached_set(&set);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_evaluation_takes_what_it_needs),
        cmocka_unit_test(crops_that_do_not_fit_together_pass_in_turns),
        cmocka_unit_test(room_is_made_where_it_lacks),
    };
    return cmocka_run_group_tests(tests, make_set, remove_set);
}
