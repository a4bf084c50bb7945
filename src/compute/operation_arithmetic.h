/* How much arithmetic an operation is, counted from its shape: floating-point operations, two (a
 * multiplication and an addition) for every product in a sum.
 *
 * What counts is what the definition asks for, not how an implementation goes about it. A convolution counts
 * only taps inside the volume, no padding. An algorithm that needs fewer products, such as Winograd's, counts
 * as the direct one. Scores that the backward pass of attention computes again do not count. So the figures
 * of two implementations, and of other programs, can be compared, and a rate in FLOP/s says how fast results
 * come. */
#ifndef COMPUTE_OPERATION_ARITHMETIC_H
#define COMPUTE_OPERATION_ARITHMETIC_H

#include "compute/compute.h"

/* Of one pass: forward, or the gradient of the input, or that of the weights, which need the same products.
 */
double conv3d_flops(const struct conv3d_shape *shape);

/* Likewise of one pass. */
double linear_flops(size_t rows, int in_features, int out_features);

/* Of one matrix product between the real tokens and the tokens of their windows, over all heads. The padded
 * tokens of a window are counted as keys, since the method attends to them, and not as queries, since nothing
 * reads their results. Forward takes two such products (scores, weighted values), backward four (gradients of
 * weights, values, queries and keys). */
double attention_product_flops(const struct attention_shape *shape);

enum { attention_forward_products = 2, attention_backward_products = 4 };

#endif
