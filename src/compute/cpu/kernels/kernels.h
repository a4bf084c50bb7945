/* The functions of one build of this folder. KERNEL_ISA is portable, avx2, avx512, avx512bf16 or amx,
 * KERNEL_STORAGE is float32 or bf16 (then KERNEL_BF16 is 1, too): how activations are kept. compute.h and
 * cpu_state.h say what the functions do. */
#ifndef COMPUTE_CPU_KERNELS_KERNELS_H
#define COMPUTE_CPU_KERNELS_KERNELS_H

#include "compute/compute.h"
#include "compute/cpu/cpu_state.h"

#ifndef KERNEL_ISA
#define KERNEL_ISA portable
#define KERNEL_STORAGE float32
#endif
#define KERNEL_PASTE(name, isa, storage) name##_##isa##_##storage
#define KERNEL_EXPAND(name, isa, storage) KERNEL_PASTE(name, isa, storage)
#define KERNEL(name) KERNEL_EXPAND(name, KERNEL_ISA, KERNEL_STORAGE)

/* Lets a parameter be a constant that loops are unrolled by. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

void KERNEL(activations_from_reals)(struct compute *c, activation *out, const float *inp, size_t count);
void KERNEL(reals_from_activations)(struct compute *c, float *out, const activation *inp, size_t count);

void KERNEL(layer_norm_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                const activation *inp, const float *weight, const float *bias, size_t rows,
                                int channels);
void KERNEL(layer_norm_backward)(struct compute *c, activation *dinp, float *dweight, float *dbias,
                                 const activation *dout, const activation *inp, const float *mean,
                                 const float *rstd, const float *weight, const activation *residual,
                                 size_t rows, int channels);

void KERNEL(instance_norm_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                   const activation *inp, const activation *residual, float slope, int n,
                                   size_t space, int channels);
void KERNEL(instance_norm_backward)(struct compute *c, activation *dinp, activation *dresidual,
                                    const activation *dout, const activation *out, const activation *inp,
                                    const float *mean, const float *rstd, float slope, int n, size_t space,
                                    int channels);

void KERNEL(instance_norm_moments)(struct compute *c, float *mean, float *rstd, const activation *inp, int n,
                                   size_t space, int channels);
void KERNEL(instance_norm_apply)(struct compute *c, activation *out, const activation *inp,
                                 const struct norm_activation *norm, const activation *residual, int n,
                                 size_t space, int channels);
void KERNEL(norm_input_gradient)(struct compute *c, activation *dinp, const activation *inp,
                                 const struct norm_activation *norm, const float *shift, const float *factor,
                                 int n, size_t space, int channels);

void KERNEL(pooled_norm_forward)(struct compute *c, float *pooled, size_t stride, float *bends,
                                 const activation *inp, const struct norm_activation *norm,
                                 const struct pooled_residual *residual, int n, size_t space, int channels);
void KERNEL(pooled_norm_backward)(struct compute *c, activation *dinp, activation *dresidual, float *dscale,
                                  const float *dpooled, size_t stride, const float *bends,
                                  const activation *inp, const struct norm_activation *norm,
                                  const struct pooled_residual *residual, int n, size_t space, int channels);

void KERNEL(window_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                      const activation *qkv, const float *qkv_bias, const float *bias_table,
                                      const struct attention_shape *shape);
void KERNEL(window_attention_backward)(struct compute *c, activation *dqkv, float *dqkv_bias,
                                       float *dbias_table, const activation *dout, const activation *out,
                                       const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                       const float *bias_table, const struct attention_shape *shape);

void KERNEL(mlp_forward)(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                         size_t rows);
int KERNEL(mlp_fits)(struct compute *c, int channels, int hidden);
void KERNEL(mlp_backward)(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                          const activation *dout, const activation *x, const struct mlp *mlp, size_t rows);

void KERNEL(gelu_forward)(struct compute *c, activation *out, const activation *inp, size_t count);
void KERNEL(gelu_backward)(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                           size_t count);

void KERNEL(patch_merge_forward)(struct compute *c, activation *out, const activation *inp,
                                 enum patch_merging order, int n, int d, int h, int w, int channels);
void KERNEL(patch_merge_backward)(struct compute *c, activation *dinp, const activation *dout,
                                  enum patch_merging order, int n, int d, int h, int w, int channels);

void KERNEL(add)(struct compute *c, activation *out, const activation *a, const activation *b, size_t count);
void KERNEL(moving_average)(struct compute *c, float *average, float *previous, const float *value,
                            float decay, size_t count);
void KERNEL(zero)(struct compute *c, float *x, size_t count);
void KERNEL(sum_in_order)(struct compute *c, float *out, const activation *parts, int n, size_t count,
                          float scale);
void KERNEL(sum_of_squares)(struct compute *c, double *sum, const float *x, size_t count);

void KERNEL(adamw_step)(struct compute *c, float *param, float *exp_avg, float *exp_avg_sq,
                        float *max_exp_avg_sq, const float *grad, const double *squares,
                        const struct adamw_settings *settings, size_t count);

void KERNEL(add_bias)(struct compute *c, activation *x, const float *bias, size_t rows, int channels);

int KERNEL(narrow_convolution_fits)(int in_channels, int out_channels);
void KERNEL(narrow_convolution)(struct compute *c, activation *result, const activation *first,
                                const float *weight, const struct conv3d_shape *shape, int backward);
int KERNEL(narrow_gradient_fits)(int in_channels, int out_channels);
void KERNEL(narrow_convolution_gradient)(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, const struct conv3d_shape *shape);

int KERNEL(winograd_fits)(const struct conv3d_shape *shape);
void KERNEL(winograd_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                              const activation *inp, const struct norm_activation *norm, const float *weight,
                              const struct conv3d_shape *shape);
void KERNEL(winograd_input_gradient)(struct compute *c, activation *dinp, float *shift, float *factor,
                                     const activation *dout, const float *weight, const activation *inp,
                                     const struct norm_activation *norm, const struct conv3d_shape *shape);
void KERNEL(winograd_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                      const activation *inp, const struct norm_activation *norm,
                                      const struct conv3d_shape *shape);

void KERNEL(add_row_sums)(struct compute *c, float *sums, const activation *x, size_t rows, int channels);

#endif
