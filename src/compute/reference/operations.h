/* The operations of the reference implementation, each in the file of its name; compute.h says what they do.
 */
#ifndef COMPUTE_REFERENCE_OPERATIONS_H
#define COMPUTE_REFERENCE_OPERATIONS_H

#include "compute/compute.h"

struct activation {
    real value;
};

/* `count` zeros, to be freed with free(); NULL when there is no memory, which is then c's status. */
double *zeroed_doubles(struct compute *c, size_t count);

void reference_activations_from_reals(struct compute *c, activation *out, const real *inp, size_t count);
void reference_reals_from_activations(struct compute *c, real *out, const activation *inp, size_t count);

void reference_transform_crops(struct compute *c, real *out, const void *stored, int voxel_bytes,
                               const struct crop_transform *transforms, int n, int side);

void reference_conv3d_forward(struct compute *c, activation *out, const activation *inp, const real *weight,
                              const real *bias, const struct conv3d_shape *shape);
void reference_conv3d_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                               const activation *dout, const activation *inp, const real *weight,
                               const struct conv3d_shape *shape);

void reference_normed_conv3d_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                     const activation *inp, const struct norm_activation *norm,
                                     activation *work, const real *weight, const struct conv3d_shape *shape);
void reference_normed_conv3d_backward(struct compute *c, activation *dinp, real *dweight,
                                      const activation *dout, const activation *inp,
                                      const struct norm_activation *norm, activation *work,
                                      const real *weight, const struct conv3d_shape *shape);
/* normed_conv3d_backward of c twice: for implementations that do not fuse the two. */
void reference_normed_conv3d_pair_backward(struct compute *c, real *dweight1, real *dweight2,
                                           activation *dbetween, const activation *dout,
                                           const activation *between, const struct norm_activation *norm,
                                           activation *work, const activation *x, const real *weight1,
                                           const real *weight2, const struct conv3d_shape *shape);
size_t reference_normed_conv3d_work(struct compute *c, const struct conv3d_shape *shape);

void reference_linear_forward(struct compute *c, activation *out, const activation *inp, const real *weight,
                              const real *bias, size_t rows, int in_features, int out_features);
void reference_linear_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                               const activation *dout, const activation *inp, const real *weight, size_t rows,
                               int in_features, int out_features);

/* One operation of c after the other: for implementations that do not fuse them. */
void reference_linear_gelu_forward(struct compute *c, activation *out, activation *activated,
                                   const activation *inp, const real *weight, const real *bias, size_t rows,
                                   int in_features, int out_features);
void reference_linear_gelu_backward(struct compute *c, activation *dwide, real *dweight, real *dbias,
                                    const activation *dout, const activation *activated,
                                    const activation *wide, const real *weight, size_t rows, int in_features,
                                    int out_features);
void reference_linear_add_forward(struct compute *c, activation *out, const activation *inp,
                                  const real *weight, const real *bias, const activation *residual,
                                  size_t rows, int in_features, int out_features);
void reference_mlp_forward(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                           size_t rows);
int reference_mlp_fits(struct compute *c, int channels, int hidden);
void reference_mlp_backward(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                            const activation *dout, const activation *x, const struct mlp *mlp, size_t rows);

void reference_normed_linear_forward(struct compute *c, activation *out, const activation *x,
                                     const struct normed_linear *layer, size_t rows);
void reference_normed_linear_backward(struct compute *c, activation *dx,
                                      const struct normed_linear_gradients *gradients, const activation *dout,
                                      const activation *x, const activation *residual,
                                      const struct normed_linear *layer, size_t rows);
int reference_normed_linear_fits(struct compute *c, int in_features, int out_features);

void reference_layer_norm_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                  const activation *inp, const real *weight, const real *bias, size_t rows,
                                  int channels);
void reference_layer_norm_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                                   const activation *dout, const activation *inp, const real *mean,
                                   const real *rstd, const real *weight, const activation *residual,
                                   size_t rows, int channels);

void reference_instance_norm_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                     const activation *inp, const activation *residual, real slope, int n,
                                     size_t space, int channels);
void reference_instance_norm_backward(struct compute *c, activation *dinp, activation *dresidual,
                                      const activation *dout, const activation *out, const activation *inp,
                                      const real *mean, const real *rstd, real slope, int n, size_t space,
                                      int channels);

/* mean and rstd (n, channels) */
void reference_instance_norm_moments(struct compute *c, real *mean, real *rstd, const activation *inp, int n,
                                     size_t space, int channels);
void reference_instance_norm_apply(struct compute *c, activation *out, const activation *inp,
                                   const struct norm_activation *norm, const activation *residual, int n,
                                   size_t space, int channels);

void reference_pooled_norm_forward(struct compute *c, real *pooled, size_t stride, real *bends,
                                   const activation *inp, const struct norm_activation *norm,
                                   const struct pooled_residual *residual, int n, size_t space, int channels);
void reference_pooled_norm_backward(struct compute *c, activation *dinp, activation *dresidual, real *dscale,
                                    const real *dpooled, size_t stride, const real *bends,
                                    const activation *inp, const struct norm_activation *norm,
                                    const struct pooled_residual *residual, int n, size_t space,
                                    int channels);

void reference_channel_scale_forward(struct compute *c, real *scale, real *dscale_dweight, const real *weight,
                                     const real *rstd, int n, int channels);
void reference_channel_scale_backward(struct compute *c, real *dweight, const real *dscale,
                                      const real *dscale_dweight, int n, int channels);

void reference_window_attention_forward(struct compute *c, activation *out, real *logsumexp,
                                        const activation *qkv, const real *qkv_bias, const real *bias_table,
                                        const struct attention_shape *shape);
void reference_window_attention_backward(struct compute *c, activation *dqkv, real *dqkv_bias,
                                         real *dbias_table, const activation *dout, const activation *out,
                                         const real *logsumexp, const activation *qkv, const real *qkv_bias,
                                         const real *bias_table, const struct attention_shape *shape);

void reference_gelu_forward(struct compute *c, activation *out, const activation *inp, size_t count);
void reference_gelu_backward(struct compute *c, activation *dinp, const activation *dout,
                             const activation *inp, size_t count);

void reference_patch_merge_forward(struct compute *c, activation *out, const activation *inp,
                                   enum patch_merging order, int n, int d, int h, int w, int channels);
void reference_patch_merge_backward(struct compute *c, activation *dinp, const activation *dout,
                                    enum patch_merging order, int n, int d, int h, int w, int channels);

void reference_add(struct compute *c, activation *out, const activation *a, const activation *b,
                   size_t count);
void reference_moving_average(struct compute *c, real *average, real *previous, const real *value, real decay,
                              size_t count);
void reference_zero(struct compute *c, real *x, size_t count);
void reference_apply_mask(struct compute *c, real *out, const real *inp, const real *mask, size_t count);
void reference_contrast_loss(struct compute *c, double *terms, real *dz, real *similarity, const real *z,
                             const real *t, const float *labels, double *work,
                             const struct contrast_shape *shape);
void reference_sum_in_order(struct compute *c, real *out, const activation *parts, int n, size_t count,
                            real scale);
void reference_sum_of_squares(struct compute *c, double *sum, const real *x, size_t count);

void reference_adamw_step(struct compute *c, real *param, real *exp_avg, real *exp_avg_sq,
                          real *max_exp_avg_sq, const real *grad, const double *squares,
                          const struct adamw_settings *settings, size_t count);

#endif
