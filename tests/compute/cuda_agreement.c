#include "cuda_agreement.h"

#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One case with inputs of one precision. */
struct trial {
    const struct operation_case *it;
    int in_bf16;
    struct results expected;
};

static int is_of(const struct trial *t, const char *family)
{
    return strcmp(t->it->family, family) == 0;
}

/* TF32 has 11 significant bits, so that a factor is off by 2^-11 of itself at most, or by 2^-10 where tensor
 * cores cut off what they are not given rounded; a product of two by 2^-9. Sums over terms of either sign
 * (inputs are normal) lose the same part of themselves in L2. One product lies between an input and a result,
 * in an MLP up to three. */
static double bound_in_tf32(const struct trial *t)
{
    const int products = is_of(t, "mlp") ? 3 : 1;
    return products * 0x1p-9;
}

static int multiplies(const struct trial *t)
{
    return is_of(t, "conv3d") || is_of(t, "normed_conv3d") || is_of(t, "linear") ||
           is_of(t, "fused_linear") || is_of(t, "mlp") || is_of(t, "normed_linear") || is_of(t, "parameters");
}

/* Sums in float over many elements lose a little more than those of the reference, in double. */
static struct tolerance tolerance_of(const struct trial *t, enum compute_precision precision)
{
    if (is_of(t, "sum_in_order") || is_of(t, "mask") || is_of(t, "crops")) {
        return (struct tolerance){0, 0};
    }
    if (t->in_bf16) {
        const int exact = is_of(t, "channel_scale") || is_of(t, "optimiser") || is_of(t, "contrast_loss");
        if (is_of(t, "normed_conv3d") ||   /* a mean near 0 of results that were rounded */
            is_of(t, "attention_apart")) { /* gradients of large scores, of an output that was */
            return (struct tolerance){1e-2, 1e-2};
        }
        if (is_of(
                t,
                "mlp")) { /* sums over few rows, through three layers that are (63 rows on a GPU: 1.01e-2) */
            return (struct tolerance){1e-2, 1.2e-2};
        }
        return (struct tolerance){1e-2, exact ? 1e-5 : 4e-3};
    }
    if (precision == PRECISION_TF32 && multiplies(t)) {
        const double most = bound_in_tf32(t);
        return (struct tolerance){most, most};
    }
    if (is_of(t, "patch_merge") || is_of(t, "add")) {
        return (struct tolerance){0, 0};
    }
    const int of_scores = is_of(t, "attention") || is_of(t, "large_scores") || is_of(t, "attention_apart");
    const double most = of_scores || t->it->large ? 2e-5 : 1e-5;
    return (struct tolerance){most, most};
}

static int is_wanted(const struct operation_case *it, const struct compute *c, const char *filter,
                     double max_work)
{
    return it->work <= max_work && it->is_there(c) &&
           (filter == NULL || strstr(it->family, filter) != NULL || strstr(it->name, filter) != NULL);
}

static int by_falling_work(const void *a, const void *b)
{
    const double left = ((const struct trial *)a)->it->work, right = ((const struct trial *)b)->it->work;
    return (left < right) - (left > right);
}

static int by_order(const void *a, const void *b)
{
    const struct trial *left = a, *right = b;
    const ptrdiff_t cases = left->it - right->it;
    return cases != 0 ? (cases > 0) - (cases < 0) : left->in_bf16 - right->in_bf16;
}

static void ask_the_oracle(struct trial *trials, int count)
{
#pragma omp parallel for schedule(dynamic, 1)
    for (int k = 0; k < count; k++) {
        struct compute reference;
        open_implementation(&reference, "reference", 1);
        compute_results(&reference, trials[k].it->run, trials[k].it->shape, trials[k].in_bf16,
                        &trials[k].expected);
        compute_close(&reference);
    }
}

static int differs_when_computed_again(const struct results *a, const struct results *b)
{
    for (int i = 0; i < a->count; i++) {
        if (!same_bits(a->result[i].data, b->result[i].data, a->result[i].size)) {
            printf("    ^ DIFFERS: %s has other bits when computed again\n", a->result[i].name);
            return 1;
        }
    }
    return 0;
}

/* Where the first element is that differs by as much as the whole may. */
static void show_element(const struct result *found, const struct result *expected, double tolerance)
{
    double largest = 0;
    for (size_t k = 0; k < expected->size; k++) {
        const double size = expected->data[k] < 0 ? -(double)expected->data[k] : (double)expected->data[k];
        largest = size > largest ? size : largest;
    }
    for (size_t k = 0; k < expected->size; k++) {
        const double difference = (double)found->data[k] - (double)expected->data[k];
        if (!(difference <= tolerance * largest && -difference <= tolerance * largest)) {
            printf("      element %zu of %zu is %.9g, not %.9g\n", k, expected->size, (double)found->data[k],
                   (double)expected->data[k]);
            return;
        }
    }
}

static int disagrees(struct compute *c, const struct trial *t)
{
    struct results first, again;
    double worst[results_max] = {0};
    const struct tolerance tolerance = tolerance_of(t, c->precision);
    compute_results(c, t->it->run, t->it->shape, t->in_bf16, &first);
    compute_results(c, t->it->run, t->it->shape, t->in_bf16, &again);
    raise_differences(worst, &first, &t->expected);
    print_differences(t->it->name, c->precision, worst, &t->expected);
    const struct result *wrong = beyond_tolerance(worst, &t->expected, &tolerance);
    int result = differs_when_computed_again(&first, &again);
    if (wrong != NULL) {
        const int i = (int)(wrong - t->expected.result);
        const double most = wrong->is_activation ? tolerance.activations : tolerance.reals;
        printf("    ^ WRONG: %s differs by %g, more than %g\n", wrong->name, worst[i], most);
        show_element(&first.result[i], wrong, most);
        result = 1;
    }
    (void)fflush(stdout);
    free_results(&first);
    free_results(&again);
    return result;
}

int count_disagreements(struct compute *float32, struct compute *bf16, struct compute *tf32,
                        const char *filter, double max_work)
{
    static struct operation_case cases[operation_cases_max];
    static struct trial trials[2 * operation_cases_max];
    struct compute *const of_floats[] = {float32, tf32}, *const of_bf16[] = {bf16, NULL};
    const size_t all = list_operation_cases(cases, operation_cases_max);
    int count = 0, computed = 0, wrong = 0;
    for (size_t k = 0; k < all; k++) {
        for (int in_bf16 = 0; in_bf16 < 2; in_bf16++) {
            const struct compute *c = in_bf16 ? bf16 : float32 != NULL ? float32 : tf32;
            if (c != NULL && is_wanted(&cases[k], c, filter, max_work)) {
                trials[count++] = (struct trial){.it = &cases[k], .in_bf16 = in_bf16};
            }
        }
    }
    qsort(trials, (size_t)count, sizeof *trials, by_falling_work);
    ask_the_oracle(trials, count);
    qsort(trials, (size_t)count, sizeof *trials, by_order);
    for (int k = 0; k < count; k++) {
        struct compute *const *computes = trials[k].in_bf16 ? of_bf16 : of_floats;
        for (int i = 0; i < 2; i++) {
            if (computes[i] != NULL) {
                wrong += disagrees(computes[i], &trials[k]);
                computed++;
            }
        }
        free_results(&trials[k].expected);
    }
    printf("%d of %d cases disagree with the reference\n", wrong, computed);
    return wrong;
}
