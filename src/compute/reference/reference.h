/* The plain implementation: one loop nest per operation, written to be read. It is the oracle of every test.
 * Sums are kept in double. Single-threaded. */
#ifndef COMPUTE_REFERENCE_REFERENCE_H
#define COMPUTE_REFERENCE_REFERENCE_H

#include "compute/compute.h"

/* PRECISION_FLOAT32, or VOCO_UNSUPPORTED. */
enum voco_status reference_compute_open(struct compute *c, enum compute_precision precision);

#endif
