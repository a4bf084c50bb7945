/* The operations of the reference implementation, each in the file of its name; compute.h says what they do.
 */
#ifndef COMPUTE_REFERENCE_OPERATIONS_H
#define COMPUTE_REFERENCE_OPERATIONS_H

#include "compute/compute.h"

static const double normalisation_epsilon = 1e-5; /* of layer_norm and instance_norm */

/* `count` zeros, to be freed with free(); NULL when there is no memory, which is then c's status. */
double *zeroed_doubles(struct compute *c, size_t count);

void reference_conv3d_forward(struct compute *c, real *out, const real *inp, const real *weight,
                              const real *bias, const struct conv3d_shape *shape);
void reference_conv3d_backward(struct compute *c, real *dinp, real *dweight, real *dbias, const real *dout,
                               const real *inp, const real *weight, const struct conv3d_shape *shape);

void reference_linear_forward(struct compute *c, real *out, const real *inp, const real *weight,
                              const real *bias, size_t rows, int in_features, int out_features);
void reference_linear_backward(struct compute *c, real *dinp, real *dweight, real *dbias, const real *dout,
                               const real *inp, const real *weight, size_t rows, int in_features,
                               int out_features);

void reference_layer_norm_forward(struct compute *c, real *out, real *mean, real *rstd, const real *inp,
                                  const real *weight, const real *bias, size_t rows, int channels);
void reference_layer_norm_backward(struct compute *c, real *dinp, real *dweight, real *dbias,
                                   const real *dout, const real *inp, const real *mean, const real *rstd,
                                   const real *weight, size_t rows, int channels);

void reference_instance_norm_forward(struct compute *c, real *out, real *mean, real *rstd, const real *inp,
                                     const real *residual, real slope, int n, size_t space, int channels);
void reference_instance_norm_backward(struct compute *c, real *dinp, real *dresidual, const real *dout,
                                      const real *out, const real *inp, const real *mean, const real *rstd,
                                      real slope, int n, size_t space, int channels);

void reference_window_attention_forward(struct compute *c, real *out, real *logsumexp, const real *qkv,
                                        const real *qkv_bias, const real *bias_table,
                                        const struct attention_shape *shape);
void reference_window_attention_backward(struct compute *c, real *dqkv, real *dqkv_bias, real *dbias_table,
                                         const real *dout, const real *out, const real *logsumexp,
                                         const real *qkv, const real *qkv_bias, const real *bias_table,
                                         const struct attention_shape *shape);

void reference_gelu_forward(struct compute *c, real *out, const real *inp, size_t count);
void reference_gelu_backward(struct compute *c, real *dinp, const real *dout, const real *inp, size_t count);

void reference_patch_merge_forward(struct compute *c, real *out, const real *inp, enum patch_merging order,
                                   int n, int d, int h, int w, int channels);
void reference_patch_merge_backward(struct compute *c, real *dinp, const real *dout, enum patch_merging order,
                                    int n, int d, int h, int w, int channels);

void reference_average_pool_forward(struct compute *c, real *out, size_t out_stride, const real *inp, int n,
                                    size_t space, int channels);
void reference_average_pool_backward(struct compute *c, real *dinp, const real *dout, size_t dout_stride,
                                     int n, size_t space, int channels);

void reference_add(struct compute *c, real *out, const real *a, const real *b, size_t count);
void reference_moving_average(struct compute *c, real *average, real *previous, const real *value, real decay,
                              size_t count);
void reference_zero(struct compute *c, real *x, size_t count);
double reference_sum_of_squares(struct compute *c, const real *x, size_t count);

void reference_adamw_step(struct compute *c, real *param, real *exp_avg, real *exp_avg_sq,
                          real *max_exp_avg_sq, const real *grad, const struct adamw_settings *settings,
                          size_t count);

#endif
