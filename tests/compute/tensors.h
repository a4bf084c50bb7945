/* Random tensors and their comparison, for the tests of this folder in float and in double. What cannot be
 * had ends the test. */
#ifndef TESTS_COMPUTE_TENSORS_H
#define TESTS_COMPUTE_TENSORS_H

#include "compute/compute.h"

#include <stdint.h>

/* `count` normal numbers of standard deviation `scale`, equal for equal seeds. Free with free(). */
real *random_tensor(uint32_t seed, size_t count, double scale);

/* `count` copies of `value`. Free with free(). */
real *filled_tensor(size_t count, double value);

/* Gradients of parameters start here in every test, to show that backward adds to them ... */
extern const double accumulated_start;
real *accumulator(size_t count);
/* ... and this takes the start off again. */
void take_off_start(real *gradient, size_t count);

/* Sum of a[k] b[k]. */
double inner_product(const real *a, const real *b, size_t count);

/* |a - expected| / |expected| in L2; |a| where expected is zero; infinite where either holds a NaN. */
double relative_difference(const real *a, const real *expected, size_t count);

/* Ends the test where value is further than tolerance from expected, or a NaN. */
void require_near(double value, double expected, double tolerance);

/* Whether all bits agree, so that -0 and 0 differ and NaN equals itself. */
int same_bits(const real *a, const real *b, size_t count);

/* Opens an implementation in float32, or ends the test. */
void open_implementation(struct compute *c, const char *name, int threads);

/* Ends the test with the message when an operation has failed. */
void require_no_failure(struct compute *c);

#endif
