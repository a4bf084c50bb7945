/* One training step: what it computes, that memory settings change no bit of it, and that a step which cannot
 * be made leaves no trace. An argument is a pattern of the tests to run. */
#include "train/plain_step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sanitizers.h"

static const struct model_config config = {3, 48, 16, PATCH_MERGING_V2};

static struct compute compute;
static struct model model;
static struct batch batch; /* V = 1, S = 1, K = 2: 3 crops */

enum { crop_count = 3, embedding_size = 24 * 3, projector = 16 };

static int open_all(void **state)
{
    (void)state;
    if (compute_open(&compute, "cpu", 1, PRECISION_FLOAT32) != VOCO_OK ||
        model_create(&model, &config) != VOCO_OK || batch_create(&batch, 1, 1, 2, config.roi) != VOCO_OK) {
        return -1;
    }
    fill_voxels(&batch);
    const float labels[] = {0.75F, 0.25F};
    memcpy(batch.labels, labels, sizeof labels);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    batch_free(&batch);
    model_free(&model);
    compute_close(&compute);
    return 0;
}

/* With seeds 6, 8 and 12, of the first twelve, rounding alone brings gradients of one pass and of several
 * 1e-4 to 1e-3 apart, by the kernels of one instruction set or another. */
static struct training_state new_state(void)
{
    struct training_state state;
    assert_int_equal(training_state_create(&state, &model.table), VOCO_OK);
    parameters_initialise(state.params, &model.table, 17);
    return state;
}

static void create_step(struct train_step *step, struct training_state *state,
                        const struct train_step_settings *settings)
{
    assert_int_equal(train_step_create(step, &model, &compute, state, settings), VOCO_OK);
}

static struct step_result run_step(struct train_step *step, double learning_rate,
                                   const struct batch_outputs *outputs)
{
    struct step_result result;
    assert_int_equal(train_step_run(step, &batch, learning_rate, &result, outputs), VOCO_OK);
    assert_int_equal(arena_mark(&step->arena).used, 0);
    return result;
}

static void assert_same_state(const struct training_state *a, const struct training_state *b)
{
    const size_t trained = model.table.trained * sizeof(float);
    assert_memory_equal(a->params, b->params, model.table.total * sizeof(float));
    assert_memory_equal(a->exp_avg, b->exp_avg, trained);
    assert_memory_equal(a->exp_avg_sq, b->exp_avg_sq, trained);
    assert_memory_equal(a->max_exp_avg_sq, b->max_exp_avg_sq, trained);
}

static double relative_distance(const float *a, const float *b, size_t count)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return sqrt(difference / size);
}

/* ---- what a step computes ---- */

/* Everything at once, written down without chunks: dropped embeddings for the student, the moved teacher. */
static void gradients_of_one_pass(float *gradients, float *params, const struct drop *drop, uint64_t number)
{
    const struct parameter_table *table = &model.table;
    struct arena arena;
    struct encoder_activations *encoder = NULL;
    struct projector_activations *student = NULL;
    static float embedding[crop_count * embedding_size], dropped[crop_count * embedding_size];
    static float dembedding[crop_count * embedding_size];
    static float z[crop_count * projector], t[crop_count * projector], dz[crop_count * projector],
        similarity[2];
    static float mask[crop_count * embedding_size];
    const size_t values = crop_count * embedding_size;
    const struct contrast_shape shape = {1, 1, 2, projector};
    double terms[contrast_terms];
    double *work = calloc(contrast_loss_work(&shape), sizeof *work);
    assert_non_null(work);
    for (size_t i = table->backbone; i < table->trained; i++) {
        float *teacher = params + i + table->teacher_distance;
        *teacher = (float)(0.9 * *teacher + 0.1 * params[i]);
    }
    compute.parameters_changed(&compute);
    memset(gradients, 0, table->trained * sizeof *gradients);
    assert_int_equal(arena_open(&arena, (size_t)1 << 32), VOCO_OK);
    assert_int_equal(
        encoder_forward(&model, &compute, &arena, params, embedding, batch.voxels, crop_count, &encoder),
        VOCO_OK);
    drop_mask(mask, drop, number, 0, crop_count, embedding_size);
    compute.apply_mask(&compute, dropped, embedding, mask, values);
    assert_int_equal(
        projector_forward(&model, &compute, &arena, params, GROUP_STUDENT, z, dropped, crop_count, &student),
        VOCO_OK);
    assert_int_equal(
        projector_forward(&model, &compute, &arena, params, GROUP_TEACHER, t, embedding, crop_count, NULL),
        VOCO_OK);
    compute.contrast_loss(&compute, terms, dz, similarity, z, t, batch.labels, work, &shape);
    free(work);
    assert_int_equal(projector_backward(&model, &compute, &arena, gradients, params, GROUP_STUDENT,
                                        dembedding, dz, dropped, crop_count, student),
                     VOCO_OK);
    compute.apply_mask(&compute, dembedding, dembedding, mask, values);
    assert_int_equal(encoder_backward(&model, &compute, &arena, gradients, params, dembedding, batch.voxels,
                                      crop_count, encoder),
                     VOCO_OK);
    arena_close(&arena);
}

static void gradients_are_those_of_one_pass_over_everything(void **unused)
{
    (void)unused;
    const enum drop_mode modes[] = {DROP_NONE, DROP_CROP, DROP_FEATURE};
    float *expected = calloc(model.table.trained, sizeof *expected);
    assert_non_null(expected);
    for (int m = 0; m < 3; m++) {
        struct train_step_settings settings = plain_step;
        struct train_step step;
        struct step_result result;
        struct training_state state = new_state(), other = new_state();
        settings.drop = (struct drop){modes[m], 0.4, 21};
        state.step = 8;
        create_step(&step, &state, &settings);
        gradients_of_one_pass(expected, other.params, &settings.drop, 8);
        assert_int_equal(train_step_gradients(&step, &batch, &result, NULL), VOCO_OK);
        const double distance = relative_distance(step.gradients, expected, model.table.trained);
        printf("drop mode %d: gradients differ by %.2g\n", m, distance);
        assert_true(distance < 1e-4);
        assert_true(relative_distance(state.params, other.params, model.table.total) < 1e-7);
        assert_int_equal(train_step_update(&step, 0, &result), VOCO_OK);
        train_step_free(&step);
        training_state_free(&other);
        training_state_free(&state);
    }
    free(expected);
}

static void the_update_is_adamw_on_backbone_and_student_alone(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), before = new_state();
    const struct parameter_table *table = &model.table;
    struct train_step step;
    create_step(&step, &state, &plain_step);
    const struct step_result result = run_step(&step, 1e-3, NULL);
    assert_false(result.skipped);
    assert_int_equal(state.step, 1);
    assert_int_equal(state.optimizer_step, 1);
    double squares = 0;
    for (size_t i = 0; i < table->trained; i++) {
        const double g = step.gradients[i], p = before.params[i];
        /* the first step's moments are (1 - beta) g and (1 - beta) g^2: corrected, g and g^2 */
        const double expected = p * (1 - 1e-3 * 0.01) - 1e-3 * g / (fabs(g) + 1e-8);
        assert_true(fabs(state.params[i] - expected) < 1e-6);
        squares += g * g;
    }
    assert_true(fabs(result.gradient_norm - sqrt(squares)) < 1e-5 * sqrt(squares));
    for (size_t i = table->backbone; i < table->trained; i++) {
        const size_t twin = i + table->teacher_distance;
        const double expected = 0.9 * before.params[twin] + 0.1 * before.params[i];
        assert_true(fabs(state.params[twin] - expected) < 1e-7);
    }
    train_step_free(&step);
    training_state_free(&before);
    training_state_free(&state);
}

static void a_rate_of_zero_moves_only_the_teacher_and_the_moments(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), before = new_state();
    struct train_step step;
    create_step(&step, &state, &plain_step);
    (void)run_step(&step, 0, NULL);
    assert_memory_equal(state.params, before.params, model.table.trained * sizeof(float));
    assert_memory_not_equal(state.params + model.table.trained, before.params + model.table.trained,
                            (model.table.total - model.table.trained) * sizeof(float));
    assert_memory_not_equal(state.exp_avg, before.exp_avg, model.table.trained * sizeof(float));
    assert_int_equal(state.optimizer_step, 1);
    train_step_free(&step);
    training_state_free(&before);
    training_state_free(&state);
}

static void clipping_scales_the_whole_gradient(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), other = new_state();
    struct train_step_settings clipped = plain_step;
    struct train_step free_step, clipped_step;
    create_step(&free_step, &state, &plain_step);
    const double norm = run_step(&free_step, 0, NULL).gradient_norm;
    clipped.clip_norm = norm / 4;
    create_step(&clipped_step, &other, &clipped);
    assert_true(fabs(run_step(&clipped_step, 0, NULL).gradient_norm - norm) < 1e-6 * norm);
    /* the first moment shows what the optimiser was given: 1 - beta1 of it */
    for (size_t i = 0; i < model.table.trained; i++) {
        assert_true(fabs(other.exp_avg[i] - 0.25 * state.exp_avg[i]) <=
                    1e-6 * fabs(state.exp_avg[i]) + 1e-12);
    }
    train_step_free(&clipped_step);
    /* a gradient below the bound stays as it is */
    training_state_free(&other);
    other = new_state();
    clipped.clip_norm = 2 * norm;
    create_step(&clipped_step, &other, &clipped);
    (void)run_step(&clipped_step, 0, NULL);
    assert_same_state(&other, &state);
    train_step_free(&clipped_step);
    train_step_free(&free_step);
    training_state_free(&other);
    training_state_free(&state);
}

static void evaluation_gives_a_steps_outputs_and_changes_nothing(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), before = new_state();
    struct train_step_settings settings = plain_step;
    static float embedding[2][crop_count * embedding_size], z[2][crop_count * projector];
    static float t[2][crop_count * projector], similarity[2][2];
    struct train_step step;
    struct step_result evaluated, trained;
    settings.teacher_decay = 1; /* the teacher stays */
    create_step(&step, &state, &settings);
    const struct batch_outputs of_evaluation = {embedding[0], z[0], t[0], similarity[0]};
    const struct batch_outputs of_step = {embedding[1], z[1], t[1], similarity[1]};
    assert_int_equal(
        evaluate_batch(&model, &compute, &step.arena, state.params, &batch, 1, &evaluated, &of_evaluation),
        VOCO_OK);
    assert_int_equal(arena_mark(&step.arena).used, 0);
    assert_same_state(&state, &before);
    trained = run_step(&step, 1e-3, &of_step);
    assert_memory_equal(embedding[0], embedding[1], sizeof embedding[0]);
    assert_memory_equal(z[0], z[1], sizeof z[0]);
    assert_memory_equal(t[0], t[1], sizeof t[0]);
    assert_memory_equal(similarity[0], similarity[1], sizeof similarity[0]);
    assert_true(evaluated.loss.total == trained.loss.total);
    assert_int_equal(evaluated.positions.positions, 1);
    assert_true(evaluated.embeddings.spread > 0 && evaluated.embeddings.effective_rank >= 1);
    train_step_free(&step);
    training_state_free(&before);
    training_state_free(&state);
}

/* Two steps with so many threads, from a new state. */
static struct training_state after_two_steps(int threads)
{
    struct compute own;
    struct training_state state = new_state();
    struct train_step step;
    struct train_step_settings settings = plain_step;
    settings.crops_at_once = 2;
    settings.drop = (struct drop){DROP_CROP, 0.2, 4};
    assert_int_equal(compute_open(&own, "cpu", threads, PRECISION_FLOAT32), VOCO_OK);
    assert_int_equal(train_step_create(&step, &model, &own, &state, &settings), VOCO_OK);
    (void)run_step(&step, 1e-3, NULL);
    (void)run_step(&step, 1e-3, NULL);
    train_step_free(&step);
    compute_close(&own);
    return state;
}

static void equal_threads_give_equal_bits(void **unused)
{
    (void)unused;
    skip_under_sanitizers();
    for (int threads = 1; threads <= 4; threads++) {
        struct training_state once = after_two_steps(threads), again = after_two_steps(threads);
        assert_same_state(&once, &again);
        training_state_free(&again);
        training_state_free(&once);
    }
}

/* ---- memory ---- */

static void keeping_activations_changes_no_bit(void **unused)
{
    (void)unused;
    struct training_state state = new_state();
    struct train_step_settings settings = plain_step;
    struct train_step step;
    size_t peaks[4];
    create_step(&step, &state, &plain_step);
    (void)run_step(&step, 1e-3, NULL);
    (void)run_step(&step, 1e-3, NULL);
    peaks[0] = step.arena.peak;
    assert_true(step.crop_kept > 0 && step.crop_peak > step.crop_kept);
    const size_t peak = step.crop_peak, kept = step.crop_kept;
    train_step_free(&step);
    /* no more than one crop's; one more; all three */
    const size_t budgets[] = {peak, peak + kept, (size_t)1 << 30};
    for (int b = 0; b < 3; b++) {
        struct training_state other = new_state();
        settings.activation_budget = budgets[b];
        create_step(&step, &other, &settings);
        (void)run_step(&step, 1e-3, NULL);
        (void)run_step(&step, 1e-3, NULL);
        assert_same_state(&state, &other);
        peaks[b + 1] = step.arena.peak;
        train_step_free(&step);
        training_state_free(&other);
    }
    const size_t expected[] = {peak, peak, peak + kept, peak + 2 * kept};
    for (int p = 0; p < 4; p++) {
        assert_in_range(peaks[p], expected[p], expected[p] + 500000);
    }
    training_state_free(&state);
}

static void crops_at_once_change_only_rounding(void **unused)
{
    (void)unused;
    skip_under_sanitizers();
    struct training_state state = new_state();
    struct train_step one;
    create_step(&one, &state, &plain_step);
    (void)run_step(&one, 0, NULL);
    const int at_once[] = {2, 3, 64};
    for (int i = 0; i < 3; i++) {
        struct training_state other = new_state();
        struct train_step_settings settings = plain_step;
        struct train_step step;
        settings.crops_at_once = at_once[i];
        create_step(&step, &other, &settings);
        (void)run_step(&step, 0, NULL);
        assert_true(relative_distance(step.gradients, one.gradients, model.table.trained) < 1e-4);
        train_step_free(&step);
        training_state_free(&other);
    }
    train_step_free(&one);
    training_state_free(&state);
}

static void a_step_that_is_resized_goes_on_as_before(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), other = new_state();
    struct train_step step, resized;
    create_step(&step, &state, &plain_step);
    create_step(&resized, &other, &plain_step);
    for (int i = 0; i < 3; i++) {
        (void)run_step(&step, 1e-3, NULL);
        (void)run_step(&resized, 1e-3, NULL);
        /* passes of another size are measured and leave no trace */
        assert_int_equal(train_step_resize(&resized, 2, 0), VOCO_OK);
        const size_t peak = resized.crop_peak;
        assert_int_equal(train_step_resize(&resized, 1, i * step.crop_peak), VOCO_OK);
        assert_in_range(peak, resized.crop_peak - 50000, resized.crop_peak + 50000);
    }
    assert_same_state(&state, &other);
    train_step_free(&resized);
    train_step_free(&step);
    training_state_free(&other);
    training_state_free(&state);
}

static void a_step_takes_no_more_than_was_foreseen(void **unused)
{
    (void)unused;
    const size_t beside = train_step_projection_bytes(&config, 1, 1, 2);
    for (int at_once = 1; at_once <= 3; at_once += 2) {
        for (size_t passes = 1; passes <= 3; passes++) {
            struct training_state state = new_state();
            struct train_step_settings settings = plain_step;
            struct train_step step;
            settings.crops_at_once = at_once;
            create_step(&step, &state, &settings);
            const size_t activations = (size_t)at_once * (step.crop_peak + (passes - 1) * step.crop_kept);
            assert_int_equal(train_step_resize(&step, at_once, activations), VOCO_OK);
            (void)run_step(&step, 1e-3, NULL);
            assert_true(step.arena.peak <= activations + beside);
            assert_true(passes > 1 || step.arena.peak >= activations);
            train_step_free(&step);
            training_state_free(&state);
        }
    }
}

static void crops_at_once_are_the_recipes_or_follow_from_the_batch(void **unused)
{
    (void)unused;
    struct recipe recipe;
    recipe_default(&recipe);
    assert_int_equal(crops_at_once_of(&recipe, 44), 2);
    assert_int_equal(crops_at_once_of(&recipe, 11), 2);
    assert_int_equal(crops_at_once_of(&recipe, 1), 1);
    recipe.crops_at_once = 7; /* whoever asks for it gets it */
    assert_int_equal(train_step_settings_of(&recipe, 44).crops_at_once, 7);
}

/* ---- steps that cannot be made ---- */

static void a_step_that_is_not_finite_leaves_no_trace(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), other = new_state();
    struct train_step step, clean;
    create_step(&step, &state, &plain_step);
    create_step(&clean, &other, &plain_step);
    (void)run_step(&step, 1e-3, NULL);
    (void)run_step(&clean, 1e-3, NULL);
    const float values[] = {NAN, INFINITY};
    for (int v = 0; v < 2; v++) {
        const float whole = batch.voxels[1000];
        batch.voxels[1000] = values[v];
        const struct step_result result = run_step(&step, 1e-3, NULL);
        batch.voxels[1000] = whole;
        assert_true(result.skipped);
        assert_int_equal(state.step, 2 + v);
        assert_int_equal(state.optimizer_step, 1);
        assert_same_state(&state, &other);
    }
    (void)run_step(&step, 1e-3, NULL);
    (void)run_step(&clean, 1e-3, NULL);
    assert_same_state(&state, &other);
    train_step_free(&clean);
    train_step_free(&step);
    training_state_free(&other);
    training_state_free(&state);
}

static void a_gradient_that_is_not_finite_is_skipped(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), before = new_state();
    struct train_step step;
    create_step(&step, &state, &plain_step);
    const float values[] = {NAN, -INFINITY, 3e19F};
    for (int v = 0; v < 3; v++) {
        struct step_result result;
        assert_int_equal(train_step_gradients(&step, &batch, &result, NULL), VOCO_OK);
        assert_true(isfinite(result.loss.total));
        step.gradients[model.table.trained / 2] = values[v];
        assert_int_equal(train_step_update(&step, 1e-3, &result), VOCO_OK);
        assert_true(result.skipped);
        assert_same_state(&state, &before);
    }
    assert_int_equal(state.step, 3);
    assert_int_equal(state.optimizer_step, 0);
    train_step_free(&step);
    training_state_free(&before);
    training_state_free(&state);
}

static void a_batch_of_another_size_is_refused(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), before = new_state();
    struct batch other = batch;
    struct train_step step;
    struct step_result result;
    create_step(&step, &state, &plain_step);
    other.roi = 64;
    assert_int_equal(train_step_run(&step, &other, 1e-3, &result, NULL), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "64"));
    assert_same_state(&state, &before);
    assert_int_equal(state.step, 0);
    train_step_free(&step);
    training_state_free(&before);
    training_state_free(&state);
}

/* The values of another state, in the arrays that a step knows. */
static void begin_again(struct training_state *state, const struct training_state *other)
{
    memcpy(state->params, other->params, model.table.total * sizeof(real));
    memcpy(state->exp_avg, other->exp_avg, state->moments * sizeof(real));
    memcpy(state->exp_avg_sq, other->exp_avg_sq, state->moments * sizeof(real));
    memcpy(state->max_exp_avg_sq, other->max_exp_avg_sq, state->moments * sizeof(real));
    state->step = other->step;
    state->optimizer_step = other->optimizer_step;
}

/* An arena that ends at every possible place of a step. */
static void a_step_without_memory_leaves_no_trace(void **unused)
{
    (void)unused;
    struct training_state state = new_state(), before = new_state();
    struct train_step step;
    create_step(&step, &state, &plain_step);
    (void)run_step(&step, 0, NULL);
    const size_t needed = step.arena.peak;
    begin_again(&state, &before);
    const size_t whole = step.arena.capacity;
    for (int part = 0; part < 5; part++) {
        struct step_result result;
        step.arena.capacity = needed / 5 * (size_t)part + 64;
        assert_int_equal(train_step_run(&step, &batch, 1e-3, &result, NULL), VOCO_NO_MEMORY);
        assert_same_state(&state, &before);
        assert_int_equal(state.step, 0);
    }
    step.arena.capacity = whole;
    (void)run_step(&step, 1e-3, NULL);
    assert_int_equal(state.step, 1);
    train_step_free(&step);
    training_state_free(&before);
    training_state_free(&state);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_one_pass_over_everything),
        cmocka_unit_test(the_update_is_adamw_on_backbone_and_student_alone),
        cmocka_unit_test(a_rate_of_zero_moves_only_the_teacher_and_the_moments),
        cmocka_unit_test(clipping_scales_the_whole_gradient),
        cmocka_unit_test(evaluation_gives_a_steps_outputs_and_changes_nothing),
        cmocka_unit_test(equal_threads_give_equal_bits),
        cmocka_unit_test(keeping_activations_changes_no_bit),
        cmocka_unit_test(crops_at_once_change_only_rounding),
        cmocka_unit_test(a_step_that_is_resized_goes_on_as_before),
        cmocka_unit_test(a_step_takes_no_more_than_was_foreseen),
        cmocka_unit_test(crops_at_once_are_the_recipes_or_follow_from_the_batch),
        cmocka_unit_test(a_step_that_is_not_finite_leaves_no_trace),
        cmocka_unit_test(a_gradient_that_is_not_finite_is_skipped),
        cmocka_unit_test(a_batch_of_another_size_is_refused),
        cmocka_unit_test(a_step_without_memory_leaves_no_trace),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    return cmocka_run_group_tests(tests, open_all, close_all);
}
