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

static real *uploaded(struct compute *c, const real *values, size_t count)
{
    real *array = c->allocate(c, count * sizeof *array);
    c->to_device(c, array, values, count * sizeof *array);
    c->wait(c);
    return array;
}

static activation *converted(struct compute *c, const real *values, size_t count)
{
    real *array = uploaded(c, values, count);
    activation *activations = c->allocate(c, count * c->activation_size);
    c->activations_from_reals(c, activations, array, count);
    c->wait(c);
    c->release(c, array);
    return activations;
}

real *new_result(struct results *r, const char *name, size_t size, double start)
{
    struct result *result = add_result(r, name, size, start);
    result->array = uploaded(r->compute, result->data, size);
    return result->array;
}

real *new_sum(struct results *r, const char *name, size_t size)
{
    real *sum = new_result(r, name, size, accumulated_start);
    r->result[r->count - 1].has_start = 1;
    return sum;
}

real *new_number(struct results *r, const char *name)
{
    return add_result(r, name, 1, 0)->data;
}

activation *new_activations(struct results *r, const char *name, size_t size, double start)
{
    struct result *result = add_result(r, name, size, start);
    result->is_activation = 1;
    result->array = converted(r->compute, result->data, size);
    return result->array;
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

static void round_inputs(const struct results *r, real *values, size_t count)
{
    if (!r->exact_in_bf16) {
        return;
    }
#pragma omp parallel for if (count > 100000)
    for (size_t k = 0; k < count; k++) {
        values[k] = nearest_in_bf16(values[k]);
    }
}

real *given_reals(struct results *r, real *values, size_t count)
{
    round_inputs(r, values, count);
    real *input = uploaded(r->compute, values, count);
    free(values);
    /* cuda knows weights by their address and expects them to keep their shape: no others may come to lie
     * there. */
    return strcmp(r->compute->name, "cuda") == 0 ? input : keep_input(r, input);
}

activation *given_activations(struct results *r, real *values, size_t count)
{
    round_inputs(r, values, count);
    activation *input = converted(r->compute, values, count);
    free(values);
    return keep_input(r, input);
}

void *given_bytes(struct results *r, void *values, size_t bytes)
{
    void *input = r->compute->allocate(r->compute, bytes);
    r->compute->to_device(r->compute, input, values, bytes);
    r->compute->wait(r->compute);
    free(values);
    return keep_input(r, input);
}

void change_reals(struct results *r, real *input, real *values, size_t count)
{
    struct compute *c = r->compute;
    round_inputs(r, values, count);
    c->to_device(c, input, values, count * sizeof *values);
    c->wait(c);
    free(values);
}

static void release_arrays(struct results *r)
{
    for (int i = 0; i < r->count; i++) {
        if (r->result[i].array != NULL) {
            r->compute->release(r->compute, r->result[i].array);
            r->result[i].array = NULL;
        }
    }
    for (int i = 0; i < r->input_count; i++) {
        r->compute->release(r->compute, r->inputs[i]);
    }
    r->input_count = 0;
}

void free_results(struct results *r)
{
    release_arrays(r);
    for (int i = 0; i < r->count; i++) {
        free(r->result[i].data);
    }
    r->count = 0;
}

static void fetch(struct compute *c, struct result *result)
{
    real *array = result->array;
    if (result->is_activation) {
        array = c->allocate(c, result->size * sizeof *array);
        c->reals_from_activations(c, array, result->array, result->size);
    }
    if (result->array != NULL) {
        c->to_host(c, result->data, array, result->size * sizeof *array);
        c->wait(c);
    }
    if (result->is_activation) {
        c->release(c, array);
    }
    if (result->has_start) {
        take_off_start(result->data, result->size);
    }
}

void compute_results(struct compute *c, operation run, const void *shape, int exact_in_bf16,
                     struct results *r)
{
    *r = (struct results){.compute = c, .exact_in_bf16 = exact_in_bf16};
    c->parameters_changed(c); /* the inputs may lie where those of another run have been */
    run(c, shape, r);
    for (int i = 0; i < r->count; i++) {
        fetch(c, &r->result[i]);
    }
    require_no_failure(c);
    release_arrays(r);
}

void require_same_bits(const char *name, const struct results *a, const struct results *b)
{
    for (int i = 0; i < a->count; i++) {
        if (!same_bits(a->result[i].data, b->result[i].data, a->result[i].size)) {
            fail_msg("%s: %s has other bits when computed again", name, a->result[i].name);
        }
    }
}

void raise_differences(double worst[results_max], const struct results *found, const struct results *expected)
{
    for (int i = 0; i < found->count; i++) {
        const struct result *a = &found->result[i], *b = &expected->result[i];
        worst[i] = fmax(worst[i], relative_difference(a->data, b->data, a->size));
    }
}

void print_differences(const char *name, enum compute_precision precision, const double worst[results_max],
                       const struct results *r)
{
    char line[256];
    size_t used = 0;
    line[0] = '\0';
    for (int i = 0; i < r->count && used < sizeof line; i++) {
        used += (size_t)snprintf(line + used, sizeof line - used, " %s %.1e", r->result[i].name, worst[i]);
    }
    print_message("    %s, %s:%s\n", name, compute_precision_names[precision], line);
}

const struct result *beyond_tolerance(const double worst[results_max], const struct results *r,
                                      const struct tolerance *tolerance)
{
    for (int i = 0; i < r->count; i++) {
        if (!(worst[i] <= (r->result[i].is_activation ? tolerance->activations : tolerance->reals))) {
            return &r->result[i];
        }
    }
    return NULL;
}
