/* Every file of this folder is compiled once per instruction set and storage of activations, its functions
 * told apart by a suffix. */
#ifndef COMPUTE_CPU_KERNELS_INSTALL_H
#define COMPUTE_CPU_KERNELS_INSTALL_H

#include "compute/compute.h"

/* Puts the operations of this build into c, and the other kernels into its state, at c->precision. */
void install_kernels_portable_float32(struct compute *c);
void install_kernels_portable_bf16(struct compute *c);
void install_kernels_avx2_float32(struct compute *c);
void install_kernels_avx2_bf16(struct compute *c);
void install_kernels_avx512_float32(struct compute *c);
void install_kernels_avx512_bf16(struct compute *c);
void install_kernels_avx512bf16_bf16(struct compute *c);
void install_kernels_amx_bf16(struct compute *c);

/* Those of avx512, and products in tiles (parts/parts.h). */
void install_kernels_amx_float32(struct compute *c);

#endif
