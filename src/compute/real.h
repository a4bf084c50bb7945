/* The type of tensor elements. The product computes in float. The tests build the reference implementation
 * and all that stands on it (src/nn, src/model, the loss) a second time with -DVOCO_REAL_DOUBLE: the same
 * code in double precision, exact enough for finite differences to check every gradient to 1e-5 and better.
 */
#ifndef COMPUTE_REAL_H
#define COMPUTE_REAL_H

#ifdef VOCO_REAL_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#endif
