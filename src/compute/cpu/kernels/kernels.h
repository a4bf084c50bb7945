/* The functions of one build of this folder; KERNEL_ISA is portable, avx2 or avx512. compute.h and
 * cpu_state.h say what they do. */
#ifndef COMPUTE_CPU_KERNELS_KERNELS_H
#define COMPUTE_CPU_KERNELS_KERNELS_H

#include "compute/compute.h"
#include "compute/cpu/cpu_state.h"

#ifndef KERNEL_ISA
#define KERNEL_ISA portable
#endif
#define KERNEL_PASTE(name, isa) name##_##isa
#define KERNEL_EXPAND(name, isa) KERNEL_PASTE(name, isa)
#define KERNEL(name) KERNEL_EXPAND(name, KERNEL_ISA)

/* Lets a parameter be a constant that loops are unrolled by. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

static const float normalisation_epsilon = 1e-5F; /* of layer_norm and instance_norm */

void KERNEL(layer_norm_forward)(struct compute *c, float *out, float *mean, float *rstd, const float *inp,
                                const float *weight, const float *bias, size_t rows, int channels);
void KERNEL(layer_norm_backward)(struct compute *c, float *dinp, float *dweight, float *dbias,
                                 const float *dout, const float *inp, const float *mean, const float *rstd,
                                 const float *weight, size_t rows, int channels);

void KERNEL(instance_norm_forward)(struct compute *c, float *out, float *mean, float *rstd, const float *inp,
                                   const float *residual, float slope, int n, size_t space, int channels);
void KERNEL(instance_norm_backward)(struct compute *c, float *dinp, float *dresidual, const float *dout,
                                    const float *out, const float *inp, const float *mean, const float *rstd,
                                    float slope, int n, size_t space, int channels);

void KERNEL(window_attention_forward)(struct compute *c, float *out, float *logsumexp, const float *qkv,
                                      const float *qkv_bias, const float *bias_table,
                                      const struct attention_shape *shape);
void KERNEL(window_attention_backward)(struct compute *c, float *dqkv, float *dqkv_bias, float *dbias_table,
                                       const float *dout, const float *out, const float *logsumexp,
                                       const float *qkv, const float *qkv_bias, const float *bias_table,
                                       const struct attention_shape *shape);

void KERNEL(gelu_forward)(struct compute *c, float *out, const float *inp, size_t count);
void KERNEL(gelu_backward)(struct compute *c, float *dinp, const float *dout, const float *inp, size_t count);

void KERNEL(patch_merge_forward)(struct compute *c, float *out, const float *inp, enum patch_merging order,
                                 int n, int d, int h, int w, int channels);
void KERNEL(patch_merge_backward)(struct compute *c, float *dinp, const float *dout, enum patch_merging order,
                                  int n, int d, int h, int w, int channels);

void KERNEL(average_pool_forward)(struct compute *c, float *out, size_t out_stride, const float *inp, int n,
                                  size_t space, int channels);
void KERNEL(average_pool_backward)(struct compute *c, float *dinp, const float *dout, size_t dout_stride,
                                   int n, size_t space, int channels);

void KERNEL(add)(struct compute *c, float *out, const float *a, const float *b, size_t count);
void KERNEL(moving_average)(struct compute *c, float *average, float *previous, const float *value,
                            float decay, size_t count);
void KERNEL(zero)(struct compute *c, float *x, size_t count);
double KERNEL(sum_of_squares)(struct compute *c, const float *x, size_t count);

void KERNEL(adamw_step)(struct compute *c, float *param, float *exp_avg, float *exp_avg_sq,
                        float *max_exp_avg_sq, const float *grad, const struct adamw_settings *settings,
                        size_t count);

int KERNEL(narrow_convolution_fits)(int in_channels, int out_channels);
void KERNEL(narrow_convolution)(struct compute *c, float *result, const float *first, const float *weight,
                                const struct conv3d_shape *shape, int backward);
void KERNEL(narrow_convolution_gradient)(struct compute *c, float *dweight, const float *dout,
                                         const float *inp, const struct conv3d_shape *shape);

void KERNEL(add_row_sums)(struct compute *c, float *sums, const float *x, size_t rows, int channels);

#endif
