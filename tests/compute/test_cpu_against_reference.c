/* Every operation of the cpu implementation against the reference, forward and backward, in float: on odd
 * sizes and on those of the network (voco.md section 2; R = 48 and 64, C = 3 to 48), with 1 to 3 threads and
 * every build of the kernels, twice for equal bits; with activations in float32 and in bf16.
 * Arguments: how much work a case may be at most, and families of operations, in place of all. Under the
 * sanitizers the largest cases are left out where nothing else is asked for. */
#include "cpu_agreement.h"
#include "operation_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sanitizers.h"

static double most_work = under_sanitizers ? 2e7 : 1e30;

static const double tolerance = 1e-5;

/* What backward computes in bf16 from an output that was rounded. */
static const double after_rounding = 4e-3;

/* What goes through several layers whose factors, weights among them, are rounded to bf16, and what gradients
 * of large scores lose by an output that was rounded. */
static const double through_layers = 1e-2;

static int is_any_of(const struct operation_case *it, const char *a, const char *b)
{
    return strcmp(it->family, a) == 0 || strcmp(it->family, b) == 0;
}

/* Patch merging and addition only copy and add pairs, sums in order and crops have theirs: nothing may
 * differ. */
static double float32_tolerance(const struct operation_case *it)
{
    return is_any_of(it, "patch_merge", "add") || is_any_of(it, "sum_in_order", "crops") ? 0 : tolerance;
}

static struct tolerance tolerance_in_bf16(const struct operation_case *it)
{
    if (is_any_of(it, "conv3d", "conv3d")) {
        const struct conv3d_shape *s = &((const struct convolution *)it->shape)->shape;
        if (s->in_channels >= 16 && s->d > 4) {
            return (struct tolerance){winograd_bf16_tolerance, winograd_bf16_tolerance};
        }
    }
    if (is_any_of(it, "normed_conv3d", "normed_conv3d")) {
        return (struct tolerance){winograd_bf16_tolerance, winograd_bf16_tolerance};
    }
    if (is_any_of(it, "mlp", "attention_apart")) {
        return (struct tolerance){through_layers, through_layers};
    }
    if (is_any_of(it, "attention", "pooled_norm")) {
        return (struct tolerance){bf16_tolerance, after_rounding};
    }
    return (struct tolerance){bf16_tolerance, is_any_of(it, "sum_in_order", "crops") ? 0 : tolerance};
}

static void agrees(void **family)
{
    static struct operation_case cases[operation_cases_max];
    const size_t count = list_operation_cases(cases, operation_cases_max);
    for (size_t k = 0; k < count; k++) {
        const struct operation_case *it = &cases[k];
        if (strcmp(it->family, *family) == 0 && !it->large && it->work <= most_work) {
            const struct tolerance in_bf16 = tolerance_in_bf16(it);
            hold_against_reference(it->name, it->run, it->shape, float32_tolerance(it));
            hold_bf16_against_reference(it->name, it->run, it->shape, in_bf16.activations, in_bf16.reals);
        }
    }
}

static int is_wanted(const char *family, int argc, char **argv)
{
    int wanted = argc <= 2;
    for (int k = 2; k < argc; k++) {
        wanted = wanted || strcmp(argv[k], family) == 0;
    }
    return wanted;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[32] = {{0}};
    size_t count = 0;
    most_work = argc > 1 ? strtod(argv[1], NULL) : most_work;
    for (size_t k = 0; operation_families[k] != NULL; k++) {
        const char *family = operation_families[k];
        if (is_wanted(family, argc, argv)) {
            tests[count++] =
                (struct CMUnitTest){.name = family, .test_func = agrees, .initial_state = (void *)family};
        }
    }
    return _cmocka_run_group_tests("operations", tests, count, NULL, NULL);
}
