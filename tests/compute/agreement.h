/* Holds the "cpu" implementation against "reference", for float. */
#ifndef TESTS_COMPUTE_AGREEMENT_H
#define TESTS_COMPUTE_AGREEMENT_H

#include "compute/compute.h"

#include <stddef.h>

enum { results_max = 10 };

/* What an operation wrote, forward and backward. */
struct results {
    int count;
    struct result {
        const char *name;
        real *data;
        size_t size;
    } result[results_max];
};

/* A new result of `size` elements that all start as `start` (gradients of parameters at accumulated_start,
 * what is to be written at anything). It belongs to `r`. */
real *new_result(struct results *r, const char *name, size_t size, double start);

/* Computes an operation on c for one of the test's own shapes, from inputs that only depend on the shape. */
typedef void (*operation)(struct compute *c, const void *shape, struct results *r);

/* Ends the test unless every result of "cpu" is within `tolerance` of that of "reference" (relative, L2) with
 * 1 and 2 threads, as well as with its AVX2 kernels (where the processor has it) and its portable ones, with
 * 3 threads, and has the same bits when it is computed again. Prints the largest difference of each result.
 */
void hold_against_reference(const char *name, operation run, const void *shape, double tolerance);

#endif
