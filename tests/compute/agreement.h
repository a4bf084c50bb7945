/* Holds the "cpu" implementation against "reference": in float32, and with activations in bf16. */
#ifndef TESTS_COMPUTE_AGREEMENT_H
#define TESTS_COMPUTE_AGREEMENT_H

#include "compute/compute.h"

#include <stddef.h>

enum { results_max = 10, inputs_max = 16 };

/* What an operation is given and what it wrote, forward and backward. */
struct results {
    struct compute *compute;
    int exact_in_bf16; /* inputs are rounded to values that bf16 has */
    int count;
    struct result {
        const char *name;
        real *data;
        activation *activations; /* what data is read from in the end, or NULL */
        size_t size;
    } result[results_max];
    int input_count;
    void *inputs[inputs_max];
};

/* A new result of `size` elements that all start as `start` (gradients of parameters at accumulated_start,
 * what is to be written at anything). It belongs to `r`. */
real *new_result(struct results *r, const char *name, size_t size, double start);
activation *new_activations(struct results *r, const char *name, size_t size, double start);

/* Inputs, parameters and activations: `values` and what is returned belong to `r`. */
real *given_reals(struct results *r, real *values, size_t count);
activation *given_activations(struct results *r, real *values, size_t count);

/* Frees what belongs to `r`. */
void free_results(struct results *r);

/* Computes an operation on c for one of the test's own shapes, from inputs that only depend on the shape. */
typedef void (*operation)(struct compute *c, const void *shape, struct results *r);

/* Ends the test unless every result of "cpu" is within `tolerance` of that of "reference" (relative, L2) with
 * 1 and 2 threads, as well as with its lesser kernels (where the processor has them), and has the same bits
 * when it is computed again. Prints the largest difference of each result. */
void hold_against_reference(const char *name, operation run, const void *shape, double tolerance);

/* What rounding activations to 8 significant bits costs. */
extern const double bf16_tolerance;

/* The same of "cpu" in bf16 against "reference" in float32, from inputs that bf16 has. */
void hold_bf16_against_reference(const char *name, operation run, const void *shape,
                                 double tolerance_of_activations, double tolerance_of_reals);

#endif
