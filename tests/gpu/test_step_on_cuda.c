/* Training steps on this machine's GPU: gradient, moments and loss against the reference's, the same bits
 * whatever activations are kept, when computed again, and whether crops come as floats or as they are stored;
 * in bf16 the loss. Skipped, with 77, where there is no GPU. */
#include "train/plain_step.h"

#include "base/error.h"
#include "encoder_pass.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { steps = 3 };

static const struct model_config config = {6, 48, 16, PATCH_MERGING_FIXED};
static const float labels[] = {0.75F, 0.25F, 0.5F, 0.5F, 0.1F, 0.9F, 1, 0};

/* What three steps leave. */
struct outcome {
    double loss[steps], gradient_norm[steps];
    float *gradients; /* of the first one */
    struct training_state state;
    struct parameter_table table;
};

/* V = 2, S = 2, K = 2: 8 crops. */
static struct batch new_batch(enum voxel_form form)
{
    static const struct batch_memory heap;
    struct batch batch;
    require_ok(batch_create_in(&batch, &heap, form, 2, 2, 2, config.roi));
    memcpy(batch.labels, labels, sizeof labels);
    return batch;
}

static void take_steps(struct outcome *out, struct compute *c, const struct batch *batch, int crops_at_once,
                       size_t activation_budget)
{
    struct train_step_settings settings = plain_step;
    struct model model;
    struct train_step step;
    struct step_result result;
    settings.crops_at_once = crops_at_once;
    settings.activation_budget = activation_budget;
    require_ok(model_create(&model, &config));
    require_ok(training_state_create(&out->state, &model.table));
    parameters_initialise(out->state.params, &model.table, 17);
    out->gradients = calloc(model.table.trained, sizeof *out->gradients);
    assert_non_null(out->gradients);
    require_ok(train_step_create(&step, &model, c, &out->state, &settings));
    for (int k = 0; k < steps; k++) {
        require_ok(train_step_gradients(&step, batch, &result, NULL));
        const real *gradients = train_step_host_gradients(&step);
        assert_non_null(gradients);
        if (k == 0) {
            memcpy(out->gradients, gradients, model.table.trained * sizeof *gradients);
        }
        require_ok(train_step_update(&step, 1e-4, &result));
        assert_true(!result.skipped);
        out->loss[k] = result.loss.total;
        out->gradient_norm[k] = result.gradient_norm;
    }
    require_ok(train_step_fetch_state(&step));
    train_step_free(&step);
    out->table = model.table;
    model.table = (struct parameter_table){0};
    model_free(&model);
}

static void free_outcome(struct outcome *out)
{
    free(out->gradients);
    training_state_free(&out->state);
    parameter_table_free(&out->table);
}

static int same_bits(const char *when, const struct outcome *a, const struct outcome *b)
{
    const size_t trained = a->table.trained * sizeof(float);
    const int same = memcmp(a->state.params, b->state.params, a->table.total * sizeof(float)) == 0 &&
                     memcmp(a->state.exp_avg, b->state.exp_avg, trained) == 0 &&
                     memcmp(a->state.max_exp_avg_sq, b->state.max_exp_avg_sq, trained) == 0 &&
                     memcmp(a->gradients, b->gradients, trained) == 0;
    if (!same) {
        printf("    other bits when %s    WRONG\n", when);
    }
    return same;
}

struct limits {
    int losses; /* of so many steps */
    double loss, gradient, moments;
};

static int is_near(const char *what, const struct outcome *found, const struct outcome *expected,
                   const struct limits *limits)
{
    double loss = 0;
    for (int k = 0; k < limits->losses; k++) {
        loss = fmax(loss, fabs(found->loss[k] / expected->loss[k] - 1));
        loss = isnan(found->loss[k]) ? INFINITY : loss;
    }
    const double gradient = relative_distance(found->gradients, expected->gradients, found->table.trained);
    const double moments =
        relative_distance(found->state.exp_avg, expected->state.exp_avg, found->table.trained);
    const double params = relative_distance(found->state.params, expected->state.params, found->table.total);
    const int near = loss <= limits->loss && gradient <= limits->gradient && moments <= limits->moments;
    printf("    steps %s: losses %.1e apart, first gradient %.1e, moments %.1e, parameters %.1e%s\n", what,
           loss, gradient, moments, params, near ? "" : "    WRONG");
    fflush(stdout);
    return near;
}

/* Rounding counts for much here: few rows for BatchNorm, and AdamW's first steps take the sign of each
 * gradient. The cpu implementation is as far from the reference. */
int main(void)
{
    static const struct limits exact = {steps, 1e-3, 1e-2, 8e-2}, rounded = {1, 0.3, 1.2, 1.5},
                               less_rounded = {1, 0.1, 0.6, 0.8};
    struct compute float32, bf16, tf32, reference;
    struct outcome expected, found, again;
    const enum voco_status status = compute_open(&float32, "cuda", 0, PRECISION_FLOAT32);
    if (status == VOCO_UNSUPPORTED) {
        printf("skipped: no device: %s\n", voco_error_message());
        return 77;
    }
    require_ok(status);
    require_ok(compute_open(&bf16, "cuda", 0, PRECISION_BF16));
    require_ok(compute_open(&tf32, "cuda", 0, PRECISION_TF32));
    require_ok(compute_open(&reference, "reference", 1, PRECISION_FLOAT32));
    struct batch batch = new_batch(VOXELS_FLOAT), floats = new_batch(VOXELS_FLOAT);
    struct batch stored = new_batch(VOXELS_8_BITS);
    fill_voxels(&batch);
    fill_both(&stored, &floats);
    take_steps(&expected, &reference, &batch, 8, 1);
    int wrong = 0;
    struct {
        struct compute *compute;
        const char *name;
        const struct limits *limits;
    } of[] = {
        {&float32, "in float32", &exact}, {&bf16, "in bf16", &rounded}, {&tf32, "in TF32", &less_rounded}};
    for (size_t k = 0; k < sizeof of / sizeof of[0]; k++) {
        struct compute *c = of[k].compute;
        take_steps(&found, c, &floats, 8, 1);
        take_steps(&again, c, &stored, 8, 1);
        wrong += !same_bits("crops come as they are stored", &found, &again);
        free_outcome(&found);
        free_outcome(&again);
        take_steps(&found, c, &batch, 2, 1);
        take_steps(&again, c, &batch, 2, (size_t)1 << 30);
        wrong += !same_bits("activations are kept", &found, &again);
        wrong += !is_near(of[k].name, &found, &expected, of[k].limits);
        free_outcome(&found);
        free_outcome(&again);
    }
    take_steps(&found, &float32, &batch, 8, (size_t)1 << 30);
    wrong += !is_near("in float32, all crops at once", &found, &expected, &exact);
    free_outcome(&found);
    free_outcome(&expected);
    batch_free(&batch);
    batch_free(&floats);
    batch_free(&stored);
    compute_close(&float32);
    compute_close(&bf16);
    compute_close(&tf32);
    compute_close(&reference);
    return wrong > 0;
}
