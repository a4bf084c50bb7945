/* Sums over rows, in an order that depends on sizes only: how biases get their gradient. */
#ifndef COMPUTE_CUDA_ROW_SUMS_CUH
#define COMPUTE_CUDA_ROW_SUMS_CUH

#include "compute/cuda/cuda_state.h"

/* sums (features) += the sum of x (rows, features) over its rows. Calls cuda_scratch. */
void cuda_add_row_sums(struct compute *c, float *sums, const activation *x, size_t rows, int features);

/* sums (count) += the sum over arrays that lie `pitch` floats apart, and more (more_count), which may be
 * NULL,
 * += that of what follows the first `count` floats of each. */
void cuda_add_parts(struct compute *c, float *sums, size_t count, float *more, size_t more_count,
                    const float *parts, size_t part_count, size_t pitch);

#endif
