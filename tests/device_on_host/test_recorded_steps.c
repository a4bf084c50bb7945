/* Steps whose passes a device records and replays (train/step_recording.h), beside the same steps asked for
 * operation by operation: the same bits, whatever happens between them. */
#include "device_on_host/device_on_host.h"
#include "gpu/step_scenario.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sanitizers.h"

static const struct model_config config = {3, 48, 16, PATCH_MERGING_V2};

static struct compute device;

static int open_device(void **state)
{
    (void)state;
    return open_device_on_host(&device, "cpu") == VOCO_OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    compute_close(&device);
    return 0;
}

/* Returns of how many steps the passes, which are three, were replayed. What is expected is settled step by
 * step. */
static int replayed_steps(const struct step_scenario *scenario)
{
    struct step_scenario alone = *scenario;
    struct scenario_outcome expected, found;
    alone.before = NULL;
    alone.ahead = 0;
    run_scenario(&found, &device, scenario, 1);
    run_scenario(&expected, &device, &alone, 0);
    const int replays = found.replays;
    assert_int_equal(expected.replays, 0);
    assert_true(same_outcome(&found, &expected, scenario->steps));
    free_outcome(&found);
    free_outcome(&expected);
    assert_int_equal(replays % 3, 0);
    return replays / 3;
}

/* A step that is skipped and an evaluation change nothing. */
static void steps_are_recorded_after_the_first(void **unused)
{
    (void)unused;
    const struct step_scenario scenario = {
        .config = config, .drop = DROP_FEATURE, .steps = 7, .broken = 4, .evaluate_before = 5};
    assert_int_equal(replayed_steps(&scenario), 6);
    assert_int_equal(device_recordings(&device)->made, 3);
}

static void other_places_are_recorded_anew(void **unused)
{
    (void)unused;
    skip_under_sanitizers();
    const struct step_scenario scenario = {.config = config,
                                           .drop = DROP_CROP,
                                           .steps = 13,
                                           .resize_before = 4,
                                           .larger_from = 7,
                                           .larger_till = 10};
    /* 1 to 3; 5 and 6; 8 and 9, which are larger; 11 and 12 */
    assert_int_equal(replayed_steps(&scenario), 3 + 2 + 2 + 2);
}

/* Whatever becomes of an update that the device decides on, and whatever comes between: an evaluation waits
 * for nothing either. */
static void updates_may_be_settled_later(void **unused)
{
    (void)unused;
    skip_under_sanitizers();
    for (int from = 1; from < 4; from += 2) { /* while the passes are recorded, and after */
        const struct step_scenario scenario = {.config = config,
                                               .drop = DROP_FEATURE,
                                               .steps = 9,
                                               .broken = from + 3,
                                               .overflows = from,
                                               .evaluate_before = from + 1,
                                               .ahead = 1};
        assert_int_equal(replayed_steps(&scenario), 8);
    }
}

static void move_memory(void *context, int step)
{
    (void)context;
    device_recordings(&device)->moved += step == 4;
}

static void moved_memory_is_recorded_anew(void **unused)
{
    (void)unused;
    const struct step_scenario scenario = {
        .config = config, .drop = DROP_NONE, .steps = 7, .before = move_memory};
    assert_int_equal(replayed_steps(&scenario), 3 + 2);
}

static void listen(enum log_level level, const char *line, void *context)
{
    (void)level;
    *(int *)context += strstr(line, "each operation of a step is asked for by itself") != NULL;
}

static void where_recording_fails_steps_go_on_without(void **unused)
{
    (void)unused;
    const struct step_scenario scenario = {.config = config, .drop = DROP_CROP, .steps = 4};
    struct recordings_on_host *recordings = device_recordings(&device);
    struct scenario_outcome expected, found;
    int lines = 0;
    log_set_sink(listen, &lines);
    run_scenario(&expected, &device, &scenario, 0);
    for (int most = 0; most < 3; most++) { /* forward fails, projectors do, backward does */
        recordings->most = recordings->made + most;
        run_scenario(&found, &device, &scenario, 1);
        assert_true(same_outcome(&found, &expected, scenario.steps));
        assert_int_equal(found.replays, most);
        assert_int_equal(lines, most + 1);
        free_outcome(&found);
    }
    free_outcome(&expected);
    log_set_sink(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(steps_are_recorded_after_the_first, open_device, close_device),
        cmocka_unit_test_setup_teardown(other_places_are_recorded_anew, open_device, close_device),
        cmocka_unit_test_setup_teardown(updates_may_be_settled_later, open_device, close_device),
        cmocka_unit_test_setup_teardown(moved_memory_is_recorded_anew, open_device, close_device),
        cmocka_unit_test_setup_teardown(where_recording_fails_steps_go_on_without, open_device, close_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
