#include "agreement.h"

#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct result *add_result(struct results *r, const char *name, size_t size, double start)
{
    assert_true(r->count < results_max);
    struct result *result = &r->result[r->count++];
    *result = (struct result){.name = name, .data = filled_tensor(size, start), .size = size};
    return result;
}

real *new_result(struct results *r, const char *name, size_t size, double start)
{
    return add_result(r, name, size, start)->data;
}

static activation *converted(struct compute *c, const real *values, size_t count)
{
    activation *activations = malloc((count + 1) * c->activation_size);
    assert_non_null(activations);
    c->activations_from_reals(c, activations, values, count);
    return activations;
}

activation *new_activations(struct results *r, const char *name, size_t size, double start)
{
    struct result *result = add_result(r, name, size, start);
    result->activations = converted(r->compute, result->data, size);
    return result->activations;
}

static void *keep_input(struct results *r, void *input)
{
    assert_true(r->input_count < inputs_max);
    r->inputs[r->input_count++] = input;
    return input;
}

/* The nearest value of 8 significant bits. */
static real nearest_in_bf16(real value)
{
    int exponent;
    const double fraction = frexp((double)value, &exponent);
    return (real)ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

real *given_reals(struct results *r, real *values, size_t count)
{
    for (size_t k = 0; r->exact_in_bf16 && k < count; k++) {
        values[k] = nearest_in_bf16(values[k]);
    }
    return keep_input(r, values);
}

activation *given_activations(struct results *r, real *values, size_t count)
{
    given_reals(r, values, count);
    return keep_input(r, converted(r->compute, values, count));
}

void free_results(struct results *r)
{
    for (int i = 0; i < r->count; i++) {
        free(r->result[i].data);
        free(r->result[i].activations);
    }
    for (int i = 0; i < r->input_count; i++) {
        free(r->inputs[i]);
    }
    r->count = r->input_count = 0;
}

static void compute_results(struct compute *c, operation run, const void *shape, int exact_in_bf16,
                            struct results *r)
{
    *r = (struct results){.compute = c, .exact_in_bf16 = exact_in_bf16};
    c->parameters_changed(c); /* the inputs may lie where those of another run have been */
    run(c, shape, r);
    for (int i = 0; i < r->count; i++) {
        if (r->result[i].activations != NULL) {
            c->reals_from_activations(c, r->result[i].data, r->result[i].activations, r->result[i].size);
        }
    }
    require_no_failure(c);
}

static void require_same_bits(const char *name, const struct results *a, const struct results *b)
{
    for (int i = 0; i < a->count; i++) {
        if (!same_bits(a->result[i].data, b->result[i].data, a->result[i].size)) {
            fail_msg("%s: %s has other bits when computed again", name, a->result[i].name);
        }
    }
}

static void raise_differences(double worst[results_max], const struct results *cpu,
                              const struct results *expected)
{
    for (int i = 0; i < cpu->count; i++) {
        const struct result *a = &cpu->result[i], *b = &expected->result[i];
        worst[i] = fmax(worst[i], relative_difference(a->data, b->data, a->size));
    }
}

static void print_differences(const char *name, int in_bf16, const double worst[results_max],
                              const struct results *r)
{
    char line[256];
    size_t used = 0;
    line[0] = '\0';
    for (int i = 0; i < r->count && used < sizeof line; i++) {
        used += (size_t)snprintf(line + used, sizeof line - used, " %s %.1e", r->result[i].name, worst[i]);
    }
    print_message("    %s%s:%s\n", name, in_bf16 ? ", bf16" : "", line);
}

/* How "cpu" is opened. VOCO_ISA chooses among its builds of the kernels; "" leaves it the best one. */
struct setting {
    const char *isa;
    int threads;
};
static const struct setting settings[] = {{"", 1}, {"", 2}, {"avx512", 1}, {"avx2", 1}, {"portable", 3}};

/* Whether "cpu" could be opened; a processor may lack an instruction set that is asked for by name. */
static int open_cpu(struct compute *c, const struct setting *setting, enum compute_precision precision)
{
    const char *outer = getenv("VOCO_ISA");
    char kept[32];
    snprintf(kept, sizeof kept, "%s", outer != NULL ? outer : "");
    setenv("VOCO_ISA", *setting->isa != '\0' ? setting->isa : kept, 1);
    const enum voco_status status = compute_open(c, "cpu", setting->threads, precision);
    setenv("VOCO_ISA", kept, 1);
    assert_true(status == VOCO_OK || strncmp(setting->isa, "avx", 3) == 0);
    return status == VOCO_OK;
}

static const double bf16_tolerance = 4e-3;

static void hold(const char *name, operation run, const void *shape, enum compute_precision precision,
                 double tolerance)
{
    struct compute reference, cpu;
    struct results expected, first, again;
    double worst[results_max] = {0};
    const int in_bf16 = precision == PRECISION_BF16;
    open_implementation(&reference, "reference", 1);
    compute_results(&reference, run, shape, in_bf16, &expected);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (!open_cpu(&cpu, &settings[i], precision)) {
            continue;
        }
        compute_results(&cpu, run, shape, in_bf16, &first);
        raise_differences(worst, &first, &expected);
        if (settings[i].threads == 2) {
            compute_results(&cpu, run, shape, in_bf16, &again);
            require_same_bits(name, &first, &again);
            free_results(&again);
        }
        free_results(&first);
        compute_close(&cpu);
    }
    print_differences(name, in_bf16, worst, &expected);
    for (int i = 0; i < expected.count; i++) {
        const int rounded = in_bf16 && expected.result[i].activations != NULL;
        if (worst[i] > (rounded ? bf16_tolerance : tolerance)) {
            fail_msg("%s: %s of cpu and reference differ by %g", name, expected.result[i].name, worst[i]);
        }
    }
    free_results(&expected);
    compute_close(&reference);
}

void hold_against_reference(const char *name, operation run, const void *shape, double tolerance)
{
    hold(name, run, shape, PRECISION_FLOAT32, tolerance);
}

void hold_bf16_against_reference(const char *name, operation run, const void *shape,
                                 double tolerance_of_reals)
{
    hold(name, run, shape, PRECISION_BF16, tolerance_of_reals);
}
