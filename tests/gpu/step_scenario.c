#include "step_scenario.h"

#include "base/philox.h"
#include "encoder_pass.h"
#include "train/plain_step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int replays;
static void (*real_replay)(struct compute *c, struct recording *recording);

static void counted_replay(struct compute *c, struct recording *recording)
{
    replays++;
    real_replay(c, recording);
}

enum { SMALL, OTHER_SMALL, BROKEN, LARGER, batch_kinds };

static void make_batches(struct batch batches[batch_kinds], int roi)
{
    const struct random_key key = {.seed = 7, .purpose = RANDOM_TEST};
    for (int kind = 0; kind < batch_kinds; kind++) {
        struct batch *batch = &batches[kind];
        require_ok(batch_create(batch, kind == LARGER ? 2 : 1, 1, 2, roi));
        fill_voxels(batch);
        batch->voxels[0] = kind == BROKEN ? NAN : (float)kind;
        for (int pair = 0; pair < batch->volumes * batch->crops * batch->bases; pair++) {
            batch->labels[pair] = random_uniform(&key, (uint32_t)(10 * kind + pair));
        }
    }
}

static const struct batch *batch_of(const struct step_scenario *s, const struct batch batches[batch_kinds],
                                    int step)
{
    return &batches[step > 0 && step == s->broken                     ? BROKEN
                    : step >= s->larger_from && step < s->larger_till ? LARGER
                    : step % 2 == 1                                   ? OTHER_SMALL
                                                                      : SMALL];
}

static void happen(const struct step_scenario *s, struct train_step *step, const struct batch *larger,
                   int number)
{
    struct step_result result;
    if (number == 0) {
        return;
    }
    if (number == s->resize_before) {
        require_ok(train_step_resize(step, step->settings.crops_at_once + 1, 2 * step->crop_kept));
    }
    if (number == s->evaluate_before) {
        require_ok(evaluate_batch(step->model, step->compute, &step->arena, step->arrays.params, larger, 1,
                                  &result, NULL));
        assert_true(isfinite(result.loss.total));
    }
    if (s->before != NULL) {
        s->before(s->context, number);
    }
}

static void settle(const struct step_scenario *s, struct train_step *step, struct step_result *results,
                   int number)
{
    require_ok(train_step_settle(step, &results[number]));
    assert_int_equal(results[number].skipped, number > 0 && (number == s->broken || number == s->overflows));
}

static void take_steps(struct scenario_outcome *outcome, struct train_step *step,
                       const struct step_scenario *s)
{
    static const real too_long = (real)3e19;
    struct batch batches[batch_kinds];
    struct compute *c = step->compute;
    make_batches(batches, s->config.roi);
    for (int k = 0; k < s->steps; k++) {
        struct step_result *result = &outcome->results[k];
        happen(s, step, &batches[LARGER], k);
        require_ok(train_step_gradients(step, batch_of(s, batches, k), result, NULL));
        if (s->ahead && k > 0) {
            settle(s, step, outcome->results, k - 1);
        }
        if (k + 1 < s->steps) {
            require_ok(train_step_bring(step, batch_of(s, batches, k + 1)));
        }
        if (k > 0 && k == s->overflows) {
            c->to_device(c, step->gradients, &too_long, sizeof too_long);
        }
        require_ok(train_step_ask_update(step, 1e-4, result));
        if (!s->ahead || k + 1 == s->steps) {
            settle(s, step, outcome->results, k);
        }
    }
    require_ok(train_step_fetch_state(step));
    train_step_free(step);
    for (int kind = 0; kind < batch_kinds; kind++) {
        batch_free(&batches[kind]);
    }
}

void run_scenario(struct scenario_outcome *outcome, struct compute *c, const struct step_scenario *scenario,
                  int recorded)
{
    struct train_step step;
    struct train_step_settings settings = plain_step;
    const struct compute as_opened = *c;
    settings.drop = (struct drop){scenario->drop, 0.3, 21};
    real_replay = c->replay;
    replays = 0;
    c->replay = counted_replay;
    if (!recorded) {
        c->record_begin = NULL;
    }
    require_ok(model_create(&outcome->model, &scenario->config));
    require_ok(training_state_create(&outcome->state, &outcome->model.table));
    parameters_initialise(outcome->state.params, &outcome->model.table, 17);
    require_ok(train_step_create(&step, &outcome->model, c, &outcome->state, &settings));
    take_steps(outcome, &step, scenario);
    c->record_begin = as_opened.record_begin;
    c->replay = as_opened.replay;
    outcome->replays = replays;
}

void free_outcome(struct scenario_outcome *outcome)
{
    training_state_free(&outcome->state);
    model_free(&outcome->model);
}

enum { result_numbers = 12 };

static void numbers_of(double numbers[result_numbers], const struct step_result *r)
{
    const double all[result_numbers] = {r->loss.total,
                                        r->loss.intra,
                                        r->loss.inter,
                                        r->loss.reg,
                                        (double)r->positions.right,
                                        r->positions.similarity,
                                        r->positions.similarity_squared,
                                        r->positions.product,
                                        r->embeddings.spread,
                                        r->embeddings.normalised_spread,
                                        r->embeddings.effective_rank,
                                        r->gradient_norm};
    memcpy(numbers, all, sizeof all);
}

/* Where one is NaN the other is. */
static int same_results(const struct step_result *a, const struct step_result *b)
{
    double x[result_numbers], y[result_numbers];
    int same = 1;
    numbers_of(x, a);
    numbers_of(y, b);
    for (int k = 0; k < result_numbers; k++) {
        same = same && (x[k] == y[k] || (isnan(x[k]) && isnan(y[k])));
    }
    return same;
}

int same_outcome(const struct scenario_outcome *a, const struct scenario_outcome *b, int steps)
{
    const struct training_state *x = &a->state, *y = &b->state;
    const size_t trained = a->model.table.trained * sizeof(real);
    int same = 1;
    for (int k = 0; k < steps; k++) {
        if (!same_results(&a->results[k], &b->results[k])) {
            printf("    step %d: loss %.9g and %.9g, gradient's norm %.9g and %.9g    WRONG\n", k,
                   a->results[k].loss.total, b->results[k].loss.total, a->results[k].gradient_norm,
                   b->results[k].gradient_norm);
            same = 0;
        }
    }
    if (memcmp(x->params, y->params, a->model.table.total * sizeof(real)) != 0 ||
        memcmp(x->exp_avg, y->exp_avg, trained) != 0 || memcmp(x->exp_avg_sq, y->exp_avg_sq, trained) != 0 ||
        memcmp(x->max_exp_avg_sq, y->max_exp_avg_sq, trained) != 0) {
        printf("    other parameters or moments    WRONG\n");
        same = 0;
    }
    return same;
}
