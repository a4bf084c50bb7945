/* Gradients against central finite differences. Meant for the double-precision build. */
#ifndef TESTS_COMPUTE_FINITE_DIFFERENCE_H
#define TESTS_COMPUTE_FINITE_DIFFERENCE_H

#include "compute/real.h"

#include <stddef.h>

/* A smooth scalar function of the tensors that a test holds in `context`: usually the inner product of a
 * forward result with a fixed random tensor, which backward then gets as dout. */
typedef double (*scalar_function)(void *context);

/* Compares `gradient` (count) with how f changes when `variable` (count, one of context's tensors) does:
 * along random directions and for single elements, the first and the last among them. Central differences at
 * two step sizes, extrapolated (Richardson). Ends the test where the error passes 1e-5 of the derivative, or
 * of 1 % of the typical derivative where that is larger. Prints the largest error. */
void check_gradient(const char *name, scalar_function f, void *context, real *variable, const real *gradient,
                    size_t count);

#endif
