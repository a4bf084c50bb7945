/* Replaying stored batches: what is read and written, that a training checkpoint is gone on from exactly, and
 * what is said of files that do not fit. Agreement with PyTorch is in tests/golden. */
#include "base/philox.h"
#include "formats/safetensors.h"
#include "scratch_folder.h"
#include "train/checkpoint.h"
#include "train/replay.h"
#include "train/stored_batch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { roi = 48, crop_voxels = roi * roi * roi, crops = 3, projector = 16 };

static struct model model;
static struct compute compute;
static struct recipe recipe;
static unsigned char bytes[crops * crop_voxels];
static char batch_path[scratch_path_size], weights_path[scratch_path_size], out_path[scratch_path_size];

/* V = 1, S = 1, K = 2; voxels as bytes or, the same values, as floats. Without label_shape there are no
 * labels. */
static void write_batch(const char *path, int as_bytes, const int64_t *label_shape, int64_t side)
{
    struct safetensors_writer *writer = NULL;
    const int64_t crop_shape[] = {1, 1, side, side, side}, base_shape[] = {1, 2, side, side, side};
    const enum safetensors_type type = as_bytes ? SAFETENSORS_U8 : SAFETENSORS_F32;
    static float floats[crops * crop_voxels];
    const float labels[] = {0.75F, 0.25F};
    for (int i = 0; i < crops * crop_voxels; i++) {
        floats[i] = (float)bytes[i] / 255;
    }
    assert_int_equal(safetensors_writer_open(&writer, path), VOCO_OK);
    if (label_shape != NULL) {
        (void)safetensors_writer_declare(writer, "labels", SAFETENSORS_F32, 3, label_shape);
    }
    (void)safetensors_writer_declare(writer, "crops", type, 5, crop_shape);
    (void)safetensors_writer_declare(writer, "bases", type, 5, base_shape);
    if (label_shape != NULL) {
        (void)safetensors_writer_put(writer, labels);
    }
    (void)safetensors_writer_put(writer, as_bytes ? (const void *)bytes : floats);
    (void)safetensors_writer_put(writer,
                                 as_bytes ? (const void *)(bytes + crop_voxels) : floats + crop_voxels);
    assert_int_equal(safetensors_writer_commit(writer), VOCO_OK);
}

static const int64_t good_labels[] = {1, 1, 2};

static int open_all(void **state)
{
    if (scratch_folder_make(state) != 0 || compute_open(&compute, "cpu", 1, PRECISION_FLOAT32) != VOCO_OK) {
        return -1;
    }
    recipe_default(&recipe);
    recipe.model = (struct model_config){3, roi, projector, PATCH_MERGING_FIXED};
    recipe.drop = DROP_NONE;
    recipe.crops_at_once = 2;
    recipe.clip_norm = 0.5;
    recipe.beta1 = 0.8;
    if (recipe_check(&recipe) != VOCO_OK || model_create(&model, &recipe.model) != VOCO_OK) {
        return -1;
    }
    const struct random_key key = {.seed = 5, .purpose = RANDOM_TEST};
    for (int i = 0; i < crops * crop_voxels; i++) {
        bytes[i] = (unsigned char)(random_below(&key, (uint32_t)i, 128) + (unsigned)(i / 97 % 100));
    }
    (void)scratch_path(batch_path, "batch.safetensors");
    (void)scratch_path(weights_path, "checkpoint.safetensors");
    (void)scratch_path(out_path, "out.safetensors");
    return 0;
}

static int close_all(void **state)
{
    model_free(&model);
    compute_close(&compute);
    return scratch_folder_remove(state);
}

static struct training_state new_state(void)
{
    struct training_state state;
    assert_int_equal(training_state_create(&state, &model.table), VOCO_OK);
    parameters_initialise(state.params, &model.table, 23);
    return state;
}

static void write_checkpoint(const struct training_state *state)
{
    assert_int_equal(checkpoint_save(weights_path, &model, state, &recipe), VOCO_OK);
}

static struct replay_options options_of(int steps)
{
    return (struct replay_options){.batch = batch_path,
                                   .checkpoint = weights_path,
                                   .out = out_path,
                                   .steps = steps,
                                   .learning_rate = 2e-3,
                                   .weight_decay = NAN,
                                   .threads = 1};
}

static void assert_replays(const struct replay_options *options, struct step_result *results)
{
    if (replay(options, results) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
}

/* ---- what is read ---- */

static void bytes_are_voxels_times_255(void **state)
{
    (void)state;
    struct batch of_bytes, of_floats;
    write_batch(batch_path, 1, good_labels, roi);
    assert_int_equal(stored_batch_read(&of_bytes, batch_path), VOCO_OK);
    write_batch(batch_path, 0, good_labels, roi);
    assert_int_equal(stored_batch_read(&of_floats, batch_path), VOCO_OK);
    assert_int_equal(of_bytes.volumes, 1);
    assert_int_equal(of_bytes.crops, 1);
    assert_int_equal(of_bytes.bases, 2);
    assert_int_equal(of_bytes.roi, roi);
    assert_memory_equal(of_bytes.voxels, of_floats.voxels, sizeof(float) * crops * crop_voxels);
    assert_true(of_bytes.labels[0] == 0.75F && of_bytes.labels[1] == 0.25F);
    assert_true(*batch_base_crop(&of_bytes, 0, 1) == (float)bytes[2 * crop_voxels] / 255);
    batch_free(&of_bytes);
    batch_free(&of_floats);
}

/* ---- what is computed ---- */

/* Three steps of a run, with a checkpoint and a replay in place of the last two: the same bits. */
static void a_training_checkpoint_is_gone_on_from_exactly(void **unused)
{
    (void)unused;
    struct training_state state = new_state();
    struct train_step_settings settings = train_step_settings_of(&recipe, crops);
    struct train_step step;
    struct batch batch;
    struct step_result result, replayed[2];
    write_batch(batch_path, 1, good_labels, roi);
    assert_int_equal(stored_batch_read(&batch, batch_path), VOCO_OK);
    assert_int_equal(train_step_create(&step, &model, &compute, &state, &settings), VOCO_OK);
    assert_int_equal(train_step_run(&step, &batch, 2e-3, &result, NULL), VOCO_OK);
    write_checkpoint(&state);
    const struct replay_options options = options_of(2);
    assert_replays(&options, replayed);
    struct safetensors out;
    assert_int_equal(safetensors_open(&out, out_path), VOCO_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(train_step_run(&step, &batch, 2e-3, &result, NULL), VOCO_OK);
        assert_true(result.loss.total == replayed[i].loss.total);
        assert_true(result.gradient_norm == replayed[i].gradient_norm);
        for (int p = 0; p < model.table.count; p++) {
            const struct parameter *parameter = &model.table.entries[p];
            const struct safetensors_tensor *tensor = NULL;
            char name[160];
            (void)snprintf(name, sizeof name, "step%d/param/%s", i, parameter->name);
            assert_int_equal(safetensors_require(&tensor, &out, name, parameter->rank, parameter->shape),
                             VOCO_OK);
            float *values = malloc(tensor->count * sizeof *values);
            assert_non_null(values);
            assert_int_equal(safetensors_read_floats(&out, tensor, values), VOCO_OK);
            assert_memory_equal(values, state.params + parameter->offset, tensor->count * sizeof *values);
            free(values);
        }
    }
    safetensors_close(&out);
    batch_free(&batch);
    train_step_free(&step);
    training_state_free(&state);
}

static void assert_loss_is_nan(void)
{
    struct safetensors out;
    float loss[4];
    assert_int_equal(safetensors_open(&out, out_path), VOCO_OK);
    assert_int_equal(safetensors_read_floats(&out, safetensors_find(&out, "step0/loss"), loss), VOCO_OK);
    assert_true(isnan(loss[0]));
    safetensors_close(&out);
}

/* A bad step can be looked into: it is written with its parameters as they were. */
static void a_step_that_is_not_finite_is_written(void **unused)
{
    (void)unused;
    struct training_state state = new_state();
    struct step_result result;
    const struct replay_options options = options_of(1);
    state.params[0] = NAN;
    write_checkpoint(&state);
    write_batch(batch_path, 1, good_labels, roi);
    assert_replays(&options, &result);
    assert_true(result.skipped);
    assert_loss_is_nan();
    training_state_free(&state);
}

/* ---- what does not fit ---- */

static void assert_refused(const struct replay_options *options, const char *file, const char *cause)
{
    struct step_result results[1];
    const int files = scratch_files();
    assert_int_not_equal(replay(options, results), VOCO_OK);
    if (strstr(voco_error_message(), file) == NULL || strstr(voco_error_message(), cause) == NULL ||
        strchr(voco_error_message(), '\n') != NULL) {
        fail_msg("\"%s\" does not say %s and %s", voco_error_message(), file, cause);
    }
    assert_int_equal(scratch_files(), files);
}

static void files_that_do_not_fit_are_named(void **unused)
{
    (void)unused;
    struct training_state state = new_state();
    scratch_empty();
    write_checkpoint(&state);
    write_batch(batch_path, 1, good_labels, roi);
    struct replay_options options = options_of(1);

    options.steps = 0;
    assert_refused(&options, "0 steps", "1 to");
    options = options_of(1);
    options.batch = "/nonexistent/batch";
    assert_refused(&options, "/nonexistent/batch", "No such file");
    options = options_of(1);
    options.batch = weights_path;
    assert_refused(&options, "checkpoint.safetensors", "no tensor \"crops\"");
    options = options_of(1);
    options.checkpoint = batch_path;
    assert_refused(&options, "batch.safetensors", "name of the encoder");
    options = options_of(1);
    options.gradients = weights_path;
    assert_refused(&options, "checkpoint.safetensors", "step0/grad/");
    options = options_of(1);
    options.out = "/nonexistent/out";
    assert_refused(&options, "/nonexistent/out", "No such file");
    options = options_of(1);
    options.compute = "abacus";
    assert_refused(&options, "abacus", "");

    const int64_t other_labels[] = {1, 2, 1};
    options = options_of(1);
    write_batch(batch_path, 1, other_labels, roi);
    assert_refused(&options, "batch.safetensors", "[1, 1, 2]");
    write_batch(batch_path, 1, NULL, roi);
    assert_refused(&options, "batch.safetensors", "labels");
    write_batch(batch_path, 1, good_labels, 32);
    assert_refused(&options, "batch.safetensors", "32");
    training_state_free(&state);
}

static void write_crops(enum safetensors_type type, int rank, const int64_t *crop_shape,
                        const int64_t *base_shape)
{
    struct safetensors_writer *writer = NULL;
    assert_int_equal(safetensors_writer_open(&writer, batch_path), VOCO_OK);
    (void)safetensors_writer_declare(writer, "crops", type, rank, crop_shape);
    (void)safetensors_writer_declare(writer, "bases", type, rank, base_shape);
    (void)safetensors_writer_put(writer, bytes);
    (void)safetensors_writer_put(writer, bytes);
    assert_int_equal(safetensors_writer_commit(writer), VOCO_OK);
}

static void batches_of_other_shapes_or_types_are_named(void **unused)
{
    (void)unused;
    struct training_state state = new_state();
    const struct replay_options options = options_of(1);
    const int64_t cube[] = {1, 1, 8, 8, 8}, flat[] = {1, 1, 8, 8, 4}, empty[] = {0, 1, 8, 8, 8},
                  two[] = {2, 1, 8, 8, 8};
    write_checkpoint(&state);
    write_crops(SAFETENSORS_I16, 5, cube, cube);
    assert_refused(&options, "batch.safetensors", "I16");
    write_crops(SAFETENSORS_U8, 5, flat, flat);
    assert_refused(&options, "batch.safetensors", "[1, 1, 8, 8, 4]");
    write_crops(SAFETENSORS_U8, 5, empty, empty);
    assert_refused(&options, "batch.safetensors", "[0, 1, 8, 8, 8]");
    write_crops(SAFETENSORS_U8, 4, cube, cube);
    assert_refused(&options, "batch.safetensors", "[1, 1, 8, 8]");
    write_crops(SAFETENSORS_U8, 5, cube, two);
    assert_refused(&options, "batch.safetensors", "do not belong together");
    training_state_free(&state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_voxels_times_255),
        cmocka_unit_test(a_training_checkpoint_is_gone_on_from_exactly),
        cmocka_unit_test(a_step_that_is_not_finite_is_written),
        cmocka_unit_test(files_that_do_not_fit_are_named),
        cmocka_unit_test(batches_of_other_shapes_or_types_are_named),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
