#include "case_list.h"

#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static double *given_number(struct results *r, double value)
{
    double *number = malloc(sizeof *number);
    assert_non_null(number);
    *number = value;
    return given_bytes(r, number, sizeof *number);
}

static double number_on_host(struct compute *c, const double *number)
{
    double value = 0;
    c->to_host(c, &value, number, sizeof value);
    c->wait(c);
    return value;
}

static double sum_of_squares(struct compute *c, double *sum, const real *x, size_t count)
{
    c->sum_of_squares(c, sum, x, count);
    return number_on_host(c, sum);
}

static const struct adamw_settings plain = {
    .learning_rate = 0.01, .beta1 = 0.9, .beta2 = 0.9, .epsilon = 1e-8, .weight_decay = 0.01};

static void update(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *param = new_result(r, "param", count, 1);
    real *exp_avg = new_result(r, "exp_avg", count, 0);
    real *exp_avg_sq = new_result(r, "exp_avg_sq", count, 0);
    real *largest = new_result(r, "max_exp_avg_sq", count, 0);
    real *average = new_result(r, "moving_average", count, 2);
    real *previous = new_result(r, "previous average", count, 77);
    real *zeros = new_result(r, "zero", count, 5);
    real *all_squares = new_number(r, "sum_of_squares");
    double *squares = given_number(r, 77);
    for (int step = 1; step <= 4; step++) {
        struct adamw_settings settings = plain;
        settings.step = step;
        settings.clip_norm = step == 3 ? 0.02 * sqrt((double)count) : 0; /* a third of its norm, about */
        real *grad = given_reals(r, random_tensor(10 + step, count, step == 1 ? 3 : 0.1), count);
        *all_squares += (real)sum_of_squares(c, squares, grad, count);
        c->adamw_step(c, param, exp_avg, exp_avg_sq, largest, grad, squares, &settings, count);
        c->moving_average(c, average, step < 4 ? previous : NULL, param, (real)0.9, count);
        c->zero(c, zeros, count);
    }
}

/* By squares that forbid an update, and that allow one, of a gradient that is clipped. */
static void update_or_not(struct compute *c, const void *chosen, struct results *r)
{
    enum { arrays = 5 };
    static const double squares[] = {INFINITY, NAN, 3.41e38, 3.40e38, 1};
    static const char *const names[] = {"infinite", "NaN", "too much", "at most", "one"};
    const size_t count = *(const size_t *)chosen;
    struct adamw_settings settings = plain;
    settings.step = 1;
    settings.clip_norm = 0.5;
    real *grad = given_reals(r, random_tensor(1, count, 1), count);
    real *before = given_reals(r, random_tensor(2, count, 1), count);
    for (size_t k = 0; k < COUNT_OF(squares); k++) {
        const double *sum = given_number(r, squares[k]);
        real *param = new_result(r, names[k], arrays * count, 2);
        c->adamw_step(c, param, param + count, param + 2 * count, param + 3 * count, grad, sum, &settings,
                      count);
        c->undo_if_skipped(c, param + 4 * count, before, sum, count);
    }
}

static int has_optimiser(const struct compute *c)
{
    return c->adamw_step != NULL && c->undo_if_skipped != NULL && c->moving_average != NULL &&
           c->zero != NULL && c->sum_of_squares != NULL;
}

static void sum_what_is_not_finite(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *x = given_reals(r, random_tensor(1, count, 1), count);
    double *sum = given_number(r, 77);
    real *large = new_number(r, "of 1e30"), *infinite = new_number(r, "infinite"),
         *nan = new_number(r, "NaN");
    const real values[] = {(real)1e30, (real)-INFINITY, (real)NAN, 1};
    c->to_device(c, x, &values[0], sizeof(real));
    *large = (real)(sum_of_squares(c, sum, x, count) / 1e60);
    c->to_device(c, x, &values[3], sizeof(real));
    for (size_t k = 0; k < count; k += 1 + count / 6) {
        c->to_device(c, x + k, &values[1], sizeof(real));
        *infinite += (real)(isinf(sum_of_squares(c, sum, x, count)) != 0);
        c->to_device(c, x + k, &values[2], sizeof(real));
        *nan += (real)(isnan(sum_of_squares(c, sum, x, count)) != 0);
        c->to_device(c, x + k, &values[3], sizeof(real));
    }
    c->wait(c);
}

static int has_sum_of_squares(const struct compute *c)
{
    return c->sum_of_squares != NULL;
}

static void list_updates(struct case_list *list)
{
    static const size_t counts[] = {1, 7, 105, 2050, 100003, 8000003};
    static const size_t few = 1003;
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct operation_case *it = append_case(list, "optimiser", update, &counts[i],
                                                100.0 * (double)counts[i], i + 1 == COUNT_OF(counts));
        name_case(it, "adamw and sums %zu", counts[i]);
        it->is_there = has_optimiser;
        if (i < 4) {
            it = append_case(list, "optimiser", update_or_not, &counts[i], 200.0 * (double)counts[i], 0);
            name_case(it, "updates of %zu that are made or not", counts[i]);
            it->is_there = has_optimiser;
        }
    }
    struct operation_case *it = append_case(list, "not_finite", sum_what_is_not_finite, &few, 2e4, 0);
    name_case(it, "sums of squares show what is not finite");
    it->is_there = has_sum_of_squares;
}

/* A bucket of gradients, as ranks send it. */
struct parts {
    int n;
    size_t count;
};

static void add_parts(struct compute *c, const void *chosen, struct results *r)
{
    const struct parts *t = chosen;
    activation *parts =
        given_activations(r, random_tensor(1, (size_t)t->n * t->count, 1), (size_t)t->n * t->count);
    real *sum = new_result(r, "sum of parts", t->count, 77), *half = new_result(r, "half", t->count, 3);
    c->sum_in_order(c, sum, parts, t->n, t->count, 1);
    c->sum_in_order(c, half, parts, t->n, t->count, (real)0.5);
}

static int has_sum_in_order(const struct compute *c)
{
    return c->sum_in_order != NULL;
}

static void list_sums_in_order(struct case_list *list)
{
    static const struct parts parts[] = {{1, 33}, {2, 1}, {3, 20}, {8, 1024}, {5, 1003}, {8, 524288}};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        const double work = (double)parts[i].n * (double)parts[i].count;
        struct operation_case *it =
            append_case(list, "sum_in_order", add_parts, &parts[i], 4 * work, i + 1 == COUNT_OF(parts));
        name_case(it, "sum of %d parts of %zu", parts[i].n, parts[i].count);
        it->is_there = has_sum_in_order;
    }
}

/* A weight that changes in place, as the optimiser changes it, is seen after parameters_changed. */
static void change_parameters(struct compute *c, const void *chosen, struct results *r)
{
    enum { rows = 8, features = 48, count = features * features };
    const struct conv3d_shape patches = {rows, 2, 2, 2, 1, features, 2, 2};
    const struct conv3d_shape grid = {1, 2, 2, 2, features, features, 1, 1};
    static const char *const names[2][3] = {{"linear", "patches", "1^3"},
                                            {"linear, changed", "patches, changed", "1^3, changed"}};
    (void)chosen;
    activation *inp =
        given_activations(r, random_tensor(1, (size_t)rows * features, 1), (size_t)rows * features);
    activation *voxels = given_activations(r, random_tensor(3, rows * 8, 1), rows * 8);
    real *weight = given_reals(r, random_tensor(2, count, 1), count);
    real *patch_weight = given_reals(r, random_tensor(4, 8 * features, 1), 8 * features);
    for (int turn = 0; turn < 2; turn++) {
        activation *out[3];
        for (int k = 0; k < 3; k++) {
            out[k] = new_activations(r, names[turn][k], (size_t)rows * features, 77);
        }
        c->linear_forward(c, out[0], inp, weight, NULL, rows, features, features);
        c->conv3d_forward(c, out[1], voxels, patch_weight, NULL, &patches);
        c->conv3d_forward(c, out[2], inp, weight, NULL, &grid);
        change_reals(r, weight, random_tensor(5, count, 1), count);
        change_reals(r, patch_weight, random_tensor(6, 8 * features, 1), 8 * features);
        c->parameters_changed(c);
    }
}

static int has_linear_and_conv3d(const struct compute *c)
{
    return c->linear_forward != NULL && c->conv3d_forward != NULL;
}

static void list_changed_parameters(struct case_list *list)
{
    struct operation_case *it = append_case(list, "parameters", change_parameters, NULL, 2e5, 0);
    name_case(it, "changed parameters are used");
    it->is_there = has_linear_and_conv3d;
}

void list_optimiser_cases(struct case_list *list)
{
    list_updates(list);
    list_sums_in_order(list);
    list_changed_parameters(list);
}
