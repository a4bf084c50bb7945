/* The weight gradient of linear layers in tiles: out_features x rows times rows x in_features, where oneDNN
 * spends most of its time on the order of what it reads. */
#ifndef COMPUTE_CPU_KERNELS_AMX_TILE_LINEAR_H
#define COMPUTE_CPU_KERNELS_AMX_TILE_LINEAR_H

#include "compute/cpu/kernels/amx/strips.h"

/* As struct kernels has it (cpu_state.h). */
void KERNEL(tile_linear_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, size_t rows, int in_features,
                                         int out_features);

#endif
