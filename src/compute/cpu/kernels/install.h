/* Every file of this folder is compiled once per instruction set, its functions told apart by a suffix. */
#ifndef COMPUTE_CPU_KERNELS_INSTALL_H
#define COMPUTE_CPU_KERNELS_INSTALL_H

#include "compute/compute.h"

/* Puts the operations of this build into c and the other kernels into its state. */
void install_kernels_portable(struct compute *c);
void install_kernels_avx2(struct compute *c);
void install_kernels_avx512(struct compute *c);

#endif
