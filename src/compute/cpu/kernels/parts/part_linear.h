/* Linear layers of floats by products of parts, as struct kernels has them (cpu_state.h). */
#ifndef COMPUTE_CPU_KERNELS_PARTS_PART_LINEAR_H
#define COMPUTE_CPU_KERNELS_PARTS_PART_LINEAR_H

#include "compute/cpu/kernels/parts/parts.h"

void KERNEL(part_linear_forward)(struct compute *c, activation *out, const activation *inp,
                                 const float *weight, const float *bias, size_t rows, int in_features,
                                 int out_features);
void KERNEL(part_linear_input_gradient)(struct compute *c, activation *dinp, const activation *dout,
                                        const float *weight, size_t rows, int in_features, int out_features);
void KERNEL(part_linear_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, size_t rows, int in_features,
                                         int out_features);

#endif
