/* Convolutions and matrix products of oneDNN, whose C interface changed between its versions 2 and 3: this is
 * the one place that knows. Written against 2.6 (Debian 12) and 3.x (Debian 13, Ubuntu 24.04).
 *
 * Activations are NDHWC; weights are PyTorch's flat (O, I, k, k, k), and are put into the order and precision
 * that a convolution wants once per parameters_changed(). All functions return a dnnl status: 0 is success.
 */
#ifndef COMPUTE_CPU_ONEDNN_H
#define COMPUTE_CPU_ONEDNN_H

#include "compute/compute.h"

#include <stddef.h>

enum convolution_pass { CONVOLUTION_FORWARD, CONVOLUTION_BACKWARD_DATA, CONVOLUTION_BACKWARD_WEIGHTS };

struct onednn;
struct convolution;

/* NULL when there is no memory or oneDNN refuses. */
struct onednn *onednn_open(void);
void onednn_close(struct onednn *o);

/* The convolution of this pass and shape, made at the first call. NULL when oneDNN cannot. In bf16
 * activations and weights are bf16, sums, the bias and the weight's gradient float. with_bias: forward adds
 * one. */
struct convolution *onednn_convolution(struct onednn *o, enum convolution_pass pass,
                                       const struct conv3d_shape *shape, enum compute_precision precision,
                                       int with_bias);

/* Bytes of scratch memory that running it needs. */
size_t convolution_scratch(const struct convolution *convolution);

/* Forward: result is out, first is inp, bias NULL unless it was made with one. Backward data: result is dinp,
 * first is dout, bias NULL. `weight` is reordered unless it was since the last onednn_forget_weights. */
int convolution_run(struct onednn *o, struct convolution *convolution, activation *result,
                    const activation *first, const float *weight, const float *bias, void *scratch);

/* Backward weights: dweight (O, I, k, k, k) += the gradient. */
int convolution_add_weight_gradient(struct onednn *o, struct convolution *convolution, float *dweight,
                                    const activation *dout, const activation *inp, void *scratch);

/* Weights have changed: reordered copies are stale. */
void onednn_forget_weights(struct onednn *o);

/* out (m, n) = a (m, k) b (k, n) + beta out, row-major, leading dimensions in elements; a transposed matrix
 * is stored (k, m) or (n, k). */
int onednn_product(float *out, const float *a, int transpose_a, const float *b, int transpose_b, size_t m,
                   size_t n, size_t k, float beta);

#endif
