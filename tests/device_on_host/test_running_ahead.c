/* A run does not wait for a device where it need not: while the device is held up, which the host plays, an
 * update is asked for and the next step's crops are. */
#include "device_on_host/device_on_host.h"
#include "device_on_host/queue_on_host.h"
#include "train/plain_step.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static const struct model_config config = {3, 48, 16, PATCH_MERGING_V2};

enum { steps = 4, seconds_to_hold = 20 };

/* Work that ends when it is let go, or is given up. */
struct hold {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int let_go, ended, given_up;
};

static void wait_to_be_let_go(void *argument)
{
    struct hold *hold = argument;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds_to_hold;
    pthread_mutex_lock(&hold->lock);
    while (!hold->let_go && !hold->given_up) {
        hold->given_up = pthread_cond_timedwait(&hold->changed, &hold->lock, &until) != 0;
    }
    hold->ended = 1;
    pthread_mutex_unlock(&hold->lock);
}

static void hold_up(struct hold *hold, struct compute *device)
{
    struct queue_on_host *queue = device->queue(device);
    *hold = (struct hold){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    queue->add(queue, wait_to_be_let_go, hold);
}

/* Fails where the device did not stand still until now. */
static void let_go(struct hold *hold)
{
    pthread_mutex_lock(&hold->lock);
    const int ended = hold->ended;
    hold->let_go = 1;
    pthread_cond_signal(&hold->changed);
    pthread_mutex_unlock(&hold->lock);
    assert_false(ended);
}

static void make_batch(struct batch *batch)
{
    assert_int_equal(batch_create(batch, 1, 1, 2, config.roi), VOCO_OK);
    fill_voxels(batch);
    batch->labels[0] = 0.75F;
    batch->labels[1] = 0.25F;
}

static void an_update_is_asked_for_while_the_device_stands_still(void **unused)
{
    (void)unused;
    struct compute device;
    struct model model;
    struct training_state state;
    struct train_step step;
    struct step_result result;
    struct batch batches[2];
    struct hold hold;
    assert_int_equal(open_device_on_host(&device, "cpu"), VOCO_OK);
    assert_int_equal(model_create(&model, &config), VOCO_OK);
    assert_int_equal(training_state_create(&state, &model.table), VOCO_OK);
    parameters_initialise(state.params, &model.table, 17);
    assert_int_equal(train_step_create(&step, &model, &device, &state, &plain_step), VOCO_OK);
    assert_true(train_step_runs_ahead(&step));
    make_batch(&batches[0]);
    make_batch(&batches[1]);
    for (int k = 0; k < steps; k++) {
        assert_int_equal(train_step_gradients(&step, &batches[k % 2], &result, NULL), VOCO_OK);
        hold_up(&hold, &device);
        assert_int_equal(train_step_bring(&step, &batches[(k + 1) % 2]), VOCO_OK);
        assert_int_equal(train_step_ask_update(&step, 1e-4, &result), VOCO_OK);
        let_go(&hold);
        assert_int_equal(train_step_settle(&step, &result), VOCO_OK);
        assert_false(result.skipped);
        assert_int_equal(state.optimizer_step, k + 1);
    }
    train_step_free(&step);
    batch_free(&batches[0]);
    batch_free(&batches[1]);
    training_state_free(&state);
    model_free(&model);
    compute_close(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_update_is_asked_for_while_the_device_stands_still)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
