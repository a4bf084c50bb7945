/* Weights of linear layers as parts. */
#ifndef COMPUTE_CPU_KERNELS_PARTS_PART_WEIGHTS_H
#define COMPUTE_CPU_KERNELS_PARTS_PART_WEIGHTS_H

#include "compute/cpu/kernels/parts/parts.h"

/* The weight (out_features, in_features) as the right factor of products of parts, kept until it changes:
 * tiles of columns, column_length() elements each, of which the last one is filled up with zeros. Summed over
 * are in_features, or, backward, out_features. NULL where there is no memory, which is then c's status. */
const part *KERNEL(part_weights)(struct compute *c, const float *weight, int in_features, int out_features,
                                 int backward);

#endif
