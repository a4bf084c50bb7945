/* The fast implementation for processors: oneDNN convolutions and matrix products, own vectorised kernels for
 * the rest (AVX-512, AVX2 or portable, chosen at run time), OpenMP threads. */
#ifndef COMPUTE_CPU_CPU_H
#define COMPUTE_CPU_CPU_H

#include "compute/compute.h"

/* threads 0: as OpenMP would. */
enum voco_status cpu_compute_open(struct compute *c, int threads, enum compute_precision precision);

#endif
