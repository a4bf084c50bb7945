/* Crops that come as they are stored are, to the bit, those that come as floats, and so are the steps on
 * them: where operations work in the host's memory, and (TEST_DEVICE) on a device that is played by the host.
 * An argument is a pattern of the tests to run. */
#include "compute/compute_arena.h"
#include "data/loader.h"
#include "data/phantom_shard.h"
#include "train/plain_step.h"
#include "train/step_crops.h"

#ifdef TEST_DEVICE
#include "device_on_host/device_on_host.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { roi = 16 };

static const struct batch_memory heap;
static struct compute compute;

static int open_compute(void **state)
{
    (void)state;
#ifdef TEST_DEVICE
    return open_device_on_host(&compute, "cpu") == VOCO_OK ? 0 : -1;
#else
    return compute_open(&compute, "cpu", 1, PRECISION_FLOAT32) == VOCO_OK ? 0 : -1;
#endif
}

static int close_compute(void **state)
{
    (void)state;
    compute_close(&compute);
    return 0;
}

/* ---- crops alone, in a step without a network ---- */

static const struct model of_small_crops = {.config.roi = roi};

static void open_step(struct train_step *step)
{
    *step = (struct train_step){.model = &of_small_crops, .compute = &compute};
    assert_int_equal(copy_queue_open(&step->copies, &compute), VOCO_OK);
    assert_int_equal(compute_arena_open(&step->arena, &compute, 4 << 20), VOCO_OK);
}

static void close_step(struct train_step *step)
{
    copy_queue_close(&step->copies);
    compute_arena_close(&step->arena, &compute);
}

/* V volumes with S = 1 and K = 2; voxels that differ with `number`. */
static struct batch new_batch(enum voxel_form form, int volumes, int number)
{
    struct batch stored, floats;
    assert_int_equal(batch_create(&floats, volumes, 1, 2, roi), VOCO_OK);
    assert_int_equal(
        batch_create_in(&stored, &heap, form == VOXELS_FLOAT ? VOXELS_8_BITS : form, volumes, 1, 2, roi),
        VOCO_OK);
    fill_both(&stored, &floats);
    for (size_t k = 0; k < batch_crop_count(&stored); k++) {
        stored.transforms[k].shift = 0.01F * (float)number;
        batch_read_crop(batch_crop(&floats, k), &stored, k);
    }
    batch_free(form == VOXELS_FLOAT ? &stored : &floats);
    return form == VOXELS_FLOAT ? floats : stored;
}

/* What the step's operations read, fetched in its turn. */
static float *taken(struct train_step *step, const struct batch *batch)
{
    const size_t bytes = crops_bytes(VOXELS_FLOAT, batch_crop_count(batch), roi);
    const real *voxels = NULL;
    float *copy = malloc(bytes);
    assert_non_null(copy);
    assert_int_equal(step_crops_take(step, batch, &voxels), VOCO_OK);
    assert_non_null(voxels);
    compute.to_host(&compute, copy, voxels, bytes);
    return copy;
}

/* Waits for the copy, and frees it. */
static void check(float *copy, const struct batch *batch)
{
    float crop[roi * roi * roi];
    compute.wait(&compute);
    assert_int_equal(compute_status(&compute), VOCO_OK);
    for (size_t k = 0; k < batch_crop_count(batch); k++) {
        batch_read_crop(crop, batch, k);
        assert_memory_equal(copy + k * roi * roi * roi, crop, sizeof crop);
    }
    free(copy);
}

static void operations_read_what_the_batch_says(void **state)
{
    (void)state;
    static const int volumes[] = {2, 1, 3, 2}; /* buffers are made, are large enough, grow */
    for (int form = VOXELS_FLOAT; form <= VOXELS_16_BITS; form++) {
        struct train_step step;
        open_step(&step);
        for (int k = 0; k < 8; k++) {
            struct batch batch = new_batch((enum voxel_form)form, volumes[k % 4], k);
            if (k >= 4) {
                assert_int_equal(train_step_bring(&step, &batch), VOCO_OK);
            }
            check(taken(&step, &batch), &batch);
            batch_free(&batch);
        }
        close_step(&step);
    }
}

/* Nobody waits in between: the next crops land while the ones before are made floats and read, on a device.
 */
static void crops_that_land_do_not_touch_those_in_use(void **state)
{
    (void)state;
    enum { turns = 24 };
    struct train_step step;
    struct batch batches[3] = {new_batch(VOXELS_8_BITS, 2, 1), new_batch(VOXELS_16_BITS, 2, 2),
                               new_batch(VOXELS_FLOAT, 2, 3)};
    open_step(&step);
    for (int k = 0; k < 3; k++) { /* the largest buffers first */
        check(taken(&step, &batches[2 - k]), &batches[2 - k]);
    }
    float *copies[turns];
    for (int k = 0; k < turns; k++) {
        copies[k] = taken(&step, &batches[k % 3]);
        assert_int_equal(train_step_bring(&step, &batches[(k + 1) % 3]), VOCO_OK);
    }
    for (int k = 0; k < turns; k++) {
        check(copies[k], &batches[k % 3]);
    }
    assert_int_equal(train_step_bring(&step, NULL), VOCO_OK);
    close_step(&step);
    for (int k = 0; k < 3; k++) {
        batch_free(&batches[k]);
    }
}

/* ---- from the loader ---- */

/* Phantoms of which the first has `levels` and the other 255. */
static void open_volumes(struct shard shards[2], const int size[3], int levels)
{
    struct preset preset;
    assert_int_equal(preset_from_name(&preset, "abdomen"), VOCO_OK);
    for (int v = 0; v < 2; v++) {
        assert_int_equal(
            phantom_shard_open(&shards[v], &preset, size, v == 0 ? levels : 255, 3, (uint32_t)v, 1), VOCO_OK);
    }
}

static struct batch_source source_of(const struct shard shards[2], int side, enum voxel_form form)
{
    return (struct batch_source){
        .shards = shards,
        .count = 2,
        .volumes = 1,
        .form = form,
        .sampling = {.roi = side, .crops = 1, .base_grid = {1, 2}},
        .augmentation = {.flip = {0.5F, 0.5F, 0.5F}, .rotate = 0.7F, .shift = 0.7F, .shift_range = 0.1F},
        .seed = 11};
}

/* The volumes take turns, so both widths come. */
static void volumes_of_several_widths_are_floats_in_the_end(void **state)
{
    (void)state;
    static const int size[3] = {20, 40, 18}, levels[] = {255, 4095, 65535};
    for (int l = 0; l < 3; l++) {
        struct shard shards[2];
        struct train_step step;
        struct loader *floats = NULL, *stored = NULL;
        open_volumes(shards, size, levels[l]);
        open_step(&step);
        const struct batch_source of_floats = source_of(shards, roi, VOXELS_FLOAT);
        const struct batch_source of_stored = source_of(shards, roi, stored_voxel_form(levels[l]));
        assert_int_equal(loader_open(&floats, &of_floats, 0, 1, 2), VOCO_OK);
        assert_int_equal(loader_open(&stored, &of_stored, 0, 1, 2), VOCO_OK);
        for (int k = 0; k < 6; k++) {
            const struct batch *expected = NULL, *batch = NULL;
            assert_int_equal(loader_next(floats, &expected), VOCO_OK);
            assert_int_equal(loader_next(stored, &batch), VOCO_OK);
            check(taken(&step, batch), expected);
        }
        loader_close(floats);
        loader_close(stored);
        close_step(&step);
        shard_close(&shards[0]);
        shard_close(&shards[1]);
    }
}

/* ---- whole steps ---- */

static const struct model_config config = {3, 48, 16, PATCH_MERGING_V2};

struct life {
    struct model model;
    struct training_state state;
    struct train_step step;
    struct step_result result;
};

/* Two steps, as in a run: each one's crops travel while the one before is computed. */
static void live(struct life *life, const struct batch_source *source)
{
    enum { steps = 2 };
    struct loader *loader = NULL;
    const struct batch *batch = NULL;
    assert_int_equal(model_create(&life->model, &config), VOCO_OK);
    assert_int_equal(training_state_create(&life->state, &life->model.table), VOCO_OK);
    parameters_initialise(life->state.params, &life->model.table, 17);
    assert_int_equal(train_step_create(&life->step, &life->model, &compute, &life->state, &plain_step),
                     VOCO_OK);
    assert_int_equal(loader_open(&loader, source, 0, 1, 2), VOCO_OK);
    assert_int_equal(loader_next(loader, &batch), VOCO_OK);
    for (int k = 0; k < steps; k++) {
        assert_int_equal(train_step_gradients(&life->step, batch, &life->result, NULL), VOCO_OK);
        assert_int_equal(loader_next(loader, &batch), VOCO_OK);
        assert_int_equal(train_step_bring(&life->step, batch), VOCO_OK);
        assert_int_equal(train_step_update(&life->step, 1e-3, &life->result), VOCO_OK);
        assert_false(life->result.skipped);
    }
    assert_int_equal(train_step_bring(&life->step, NULL), VOCO_OK);
    loader_close(loader);
    assert_int_equal(train_step_fetch_state(&life->step), VOCO_OK);
    train_step_free(&life->step);
}

static void end(struct life *life)
{
    training_state_free(&life->state);
    model_free(&life->model);
}

static void a_life_on_8_bits_is_that_on_floats(void **state)
{
    (void)state;
    static const int size[3] = {60, 110, 50};
    struct shard shards[2];
    struct life of_floats, of_stored;
    open_volumes(shards, size, 255);
    const struct batch_source floats = source_of(shards, config.roi, VOXELS_FLOAT);
    const struct batch_source stored = source_of(shards, config.roi, VOXELS_8_BITS);
    live(&of_floats, &floats);
    live(&of_stored, &stored);
    assert_true(of_stored.result.loss.total == of_floats.result.loss.total);
    assert_true(of_stored.result.gradient_norm == of_floats.result.gradient_norm);
    assert_memory_equal(of_stored.state.params, of_floats.state.params,
                        of_floats.model.table.total * sizeof(float));
    assert_memory_equal(of_stored.state.exp_avg, of_floats.state.exp_avg,
                        of_floats.model.table.trained * sizeof(float));
    end(&of_floats);
    end(&of_stored);
    shard_close(&shards[0]);
    shard_close(&shards[1]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_read_what_the_batch_says),
        cmocka_unit_test(crops_that_land_do_not_touch_those_in_use),
        cmocka_unit_test(volumes_of_several_widths_are_floats_in_the_end),
        cmocka_unit_test(a_life_on_8_bits_is_that_on_floats),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, open_compute, close_compute);
}
