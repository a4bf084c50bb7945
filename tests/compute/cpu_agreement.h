/* Holds the "cpu" implementation against "reference": in float32, and with activations in bf16. */
#ifndef TESTS_COMPUTE_CPU_AGREEMENT_H
#define TESTS_COMPUTE_CPU_AGREEMENT_H

#include "agreement.h"

/* Ends the test unless every result of "cpu" is within `tolerance` of that of "reference" (relative, L2) with
 * 1 and 2 threads, as well as with its lesser kernels (where the processor has them), and has the same bits
 * when it is computed again. Prints the largest difference of each result. */
void hold_against_reference(const char *name, operation run, const void *shape, double tolerance);

/* What rounding activations to 8 significant bits costs. */
extern const double bf16_tolerance;
/* The same of 3^3 convolutions, whose factors may be rounded at the points, see kernels/winograd.h. */
extern const double winograd_bf16_tolerance;

/* The same of "cpu" in bf16 against "reference" in float32, from inputs that bf16 has. */
void hold_bf16_against_reference(const char *name, operation run, const void *shape,
                                 double tolerance_of_activations, double tolerance_of_reals);

#endif
