/* Holds one implementation's results against another's. */
#ifndef TESTS_COMPUTE_AGREEMENT_H
#define TESTS_COMPUTE_AGREEMENT_H

#include "compute/compute.h"

#include <stddef.h>

enum { results_max = 10, inputs_max = 16 };

/* What an operation is given and what it wrote, forward and backward. Arrays lie where the implementation has
 * them (struct compute, separate_memory). */
struct results {
    struct compute *compute;
    int exact_in_bf16; /* inputs are rounded to values that bf16 has */
    int count;
    struct result {
        const char *name;
        real *data;  /* the host's, once the operation is done */
        void *array; /* what the operation writes, or NULL: it writes `data` */
        int is_activation;
        int has_start; /* data is what was added to accumulated_start */
        size_t size;
    } result[results_max];
    int input_count;
    void *inputs[inputs_max];
};

/* A new result of `size` elements that all start as `start` (gradients of parameters at accumulated_start,
 * what is to be written at anything). It belongs to `r`. */
real *new_result(struct results *r, const char *name, size_t size, double start);
activation *new_activations(struct results *r, const char *name, size_t size, double start);
/* One that starts at accumulated_start, which is taken off before it is compared. */
real *new_sum(struct results *r, const char *name, size_t size);
/* A number that the host writes, 0 at first. */
real *new_number(struct results *r, const char *name);

/* Inputs, parameters and activations, of the host's `values`, which are freed: what is returned belongs to
 * `r`. */
real *given_reals(struct results *r, real *values, size_t count);
activation *given_activations(struct results *r, real *values, size_t count);

/* An input of `bytes` bytes, of any type, which are freed. */
void *given_bytes(struct results *r, void *values, size_t bytes);

/* Writes other values into an input, and frees them. */
void change_reals(struct results *r, real *input, real *values, size_t count);

/* Frees what belongs to `r`. */
void free_results(struct results *r);

/* Computes an operation on c for one of the test's own shapes, from inputs that only depend on the shape. */
typedef void (*operation)(struct compute *c, const void *shape, struct results *r);

/* What it wrote, in the host's memory; ends the test where it failed. Free with free_results; c may have been
 * closed by then. */
void compute_results(struct compute *c, operation run, const void *shape, int exact_in_bf16,
                     struct results *r);

/* Ends the test where they differ. */
void require_same_bits(const char *name, const struct results *a, const struct results *b);

/* Raises each result's worst difference (relative, L2). */
void raise_differences(double worst[results_max], const struct results *found,
                       const struct results *expected);

void print_differences(const char *name, enum compute_precision precision, const double worst[results_max],
                       const struct results *r);

/* What results may differ by. */
struct tolerance {
    double activations, reals;
};

/* The first result beyond its tolerance, or NULL. */
const struct result *beyond_tolerance(const double worst[results_max], const struct results *r,
                                      const struct tolerance *tolerance);

#endif
