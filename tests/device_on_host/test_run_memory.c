/* A run on a device, which the host plays, takes no more of its memory than it may, also where the plan has
 * other passes than those that were measured for it. */
#include "device_on_host/device_on_host.h"
#include "train/plain_step.h"
#include "train/run_memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { bases = 5, batch_crops = 1 + bases };

static const struct model_config config = {3, 48, 16, PATCH_MERGING_V2};

struct outcome {
    struct memory_plan plan;
    double loss, square;
    size_t taken; /* of the device for activations and batches */
};

/* Plans for what `limit` says, and takes a step's gradients. */
static void run(struct outcome *outcome, const struct memory_limit *limit)
{
    struct compute device;
    struct model model;
    struct training_state state;
    struct train_step step;
    struct batch batch;
    struct step_result result;
    const size_t voxels = (size_t)config.roi * config.roi * config.roi;
    struct memory_demand demand = {
        .projection = train_step_projection_bytes(&config, 1, 1, bases),
        .travelling = batch_crops * voxels * sizeof(float),
        .crops = batch_crops,
        .crops_at_once = batch_crops,
    };
    assert_int_equal(open_device_on_host(&device, "cpu"), VOCO_OK);
    assert_int_equal(model_create(&model, &config), VOCO_OK);
    assert_int_equal(training_state_create(&state, &model.table), VOCO_OK);
    parameters_initialise(state.params, &model.table, 17);
    assert_int_equal(train_step_create(&step, &model, &device, &state, &plain_step), VOCO_OK);
    assert_int_equal(plan_run_memory(&outcome->plan, &demand, &step, limit), VOCO_OK);
    outcome->taken = step.arena.capacity;

    assert_int_equal(batch_create(&batch, 1, 1, bases, config.roi), VOCO_OK);
    fill_voxels(&batch);
    for (int base = 0; base < bases; base++) {
        batch.labels[base] = 0.1F * (float)(base + 1);
    }
    assert_int_equal(train_step_gradients(&step, &batch, &result, NULL), VOCO_OK);
    assert_true(step.arena.peak <= step.arena.capacity);
    outcome->loss = result.loss.total;
    assert_int_equal(train_step_update(&step, 1e-4, &result), VOCO_OK);
    outcome->square = result.gradient_norm;

    batch_free(&batch);
    train_step_free(&step);
    training_state_free(&state);
    model_free(&model);
    compute_close(&device);
}

static void a_limit_is_kept_to(void **unused)
{
    (void)unused;
    struct outcome all;
    run(&all, &(struct memory_limit){0});
    assert_int_equal(all.plan.crops_kept, batch_crops);
    for (int tenths = 5; tenths < 10; tenths += 2) {
        struct outcome few;
        const struct memory_limit limit = {all.plan.expected * (uint64_t)tenths / 10, 1};
        run(&few, &limit);
        assert_true(few.plan.fits);
        assert_true(few.plan.expected <= limit.bytes);
        assert_in_range(few.plan.crops_at_once, 1, batch_crops - 1);
        assert_in_range(few.taken, few.plan.activations, all.taken - 1);
        assert_in_range(few.taken, 1, limit.bytes);
        assert_float_equal(few.loss, all.loss, 1e-5);
        assert_float_equal(few.square, all.square, 1e-4 * all.square);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_limit_is_kept_to)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
