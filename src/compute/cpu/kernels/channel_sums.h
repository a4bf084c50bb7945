/* Sums over the rows of a grid, for each channel, that were made block by block in float: merged here in
 * double, in the order of the blocks, so that the result does not depend on who summed which. */
#ifndef COMPUTE_CPU_KERNELS_CHANNEL_SUMS_H
#define COMPUTE_CPU_KERNELS_CHANNEL_SUMS_H

#include "compute/cpu/kernels/kernels.h"

/* Two sums for each channel and block: block k's begin at sums + k stride, the second ones `second` floats
 * behind. */
struct block_sums {
    const float *sums;
    size_t stride, second;
    const size_t *rows; /* of each block */
    size_t blocks;
    int channels;
};

/* mean, and rstd = 1 / sqrt(variance + eps), from the means and squared deviations of blocks (Chan et al.,
 * "Algorithms for computing the sample variance", 1983). All (channels). */
void KERNEL(merge_moments)(float *mean, float *rstd, const struct block_sums *s);

/* The gradient of a norm's input, with xhat = (x - mean) rstd and means over rows, is
 *     rstd (g - mean(g) - xhat mean(g xhat)) = rstd g - (shift + (x - mean) factor):
 * shift and factor (channels) from sums of g and of g (x - mean). */
void KERNEL(merge_norm_gradient)(float *shift, float *factor, const float *rstd, const struct block_sums *s);

/* sums (channels), of the first sums. */
void KERNEL(merge_first_sums)(double *sums, const struct block_sums *s);

#endif
