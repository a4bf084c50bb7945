/* Sums over rows, in an order that depends on sizes only: how biases get their gradient. */
#ifndef COMPUTE_CUDA_ROW_SUMS_CUH
#define COMPUTE_CUDA_ROW_SUMS_CUH

#include "compute/cuda/cuda_state.h"

/* sums (features) += the sum of x (rows, features) over its rows. Calls cuda_scratch. */
void cuda_add_row_sums(struct compute *c, float *sums, const activation *x, size_t rows, int features);

/* sums (count) += the sum over `parts` arrays of count floats that lie `pitch` floats apart. */
void cuda_add_parts(struct compute *c, float *sums, const float *parts, size_t part_count, size_t pitch,
                    size_t count);

#endif
