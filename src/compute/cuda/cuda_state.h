/* What the cuda implementation keeps between operations, and what its operations share on the host's side.
 * Compiles without the CUDA toolkit: tests/cuda_on_host runs the kernels on a processor. */
#ifndef COMPUTE_CUDA_CUDA_STATE_H
#define COMPUTE_CUDA_CUDA_STATE_H

#ifdef __cplusplus
extern "C" {
#endif
#include "compute/compute.h"
#ifdef __cplusplus
}
#endif

#include <stddef.h>

struct CUstream_st; /* cudaStream_t points to it */
struct CUevent_st;  /* and cudaEvent_t to this */
struct cudnn;       /* convolutions planned so far, cudnn_plan.h */
struct blas;        /* matrix products planned so far, blas.h */
struct weight_forms;

struct cuda_state {
    struct CUstream_st *stream; /* of all operations and copies */
    struct compute full;        /* where precision is another than float32: the compute whose it is */
    int gpu;                    /* its number among those that this process sees */
    int multiprocessors;
    int major, minor;        /* compute capability */
    size_t shared_per_block; /* bytes of shared memory that a block may ask for */
    void *scratch;           /* GPU memory of the operation at work */
    size_t scratch_bytes;
    int scratch_moves;        /* how often such memory has moved */
    struct CUevent_st *event; /* of what others follow, see beside.cu; NULL: none did yet */
    struct cudnn *cudnn;
    struct blas *blas;
    struct weight_forms *weights;
    struct leaves *leaves;       /* leaves.cuh; NULL: all is done on one stream */
    struct recording *recording; /* that is made now, recording.cuh; NULL: none */
};

static inline struct cuda_state *cuda_state(const struct compute *c)
{
    return (struct cuda_state *)c->state;
}

/* ---- leaves.cu ---- */

/* What is asked for from now on comes after all leaves; the second, where the operation at work has not said
 * what it writes. */
void cuda_wait_for_leaves(struct compute *c);
void cuda_wait_unless_declared(struct compute *c);

/* The stream on which operations queue what they do. */
static inline struct CUstream_st *cuda_stream(struct compute *c)
{
    cuda_wait_unless_declared(c);
    return cuda_state(c)->stream;
}

/* ---- memory.cu ---- */

/* At least `bytes` bytes of GPU memory, aligned to 256 and uninitialised, until the next call: an operation
 * calls it once and divides what it gets. NULL when there is none, which is then c's status. */
void *cuda_scratch(struct compute *c, size_t bytes);

/* The memory of which there are `have` bytes, with at least `bytes`, what it holds lost where it is moved.
 * NULL as of cuda_scratch. */
void *cuda_grown(struct compute *c, void **memory, size_t *have, size_t bytes);

/* Queues the zeroing of `bytes` bytes of GPU memory. */
void cuda_fill_zero(struct compute *c, void *to, size_t bytes);

/* `bytes` rounded up so that what follows it in scratch memory is aligned to 256. */
static inline size_t cuda_aligned(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* ---- beside.cu ---- */

enum voco_status cuda_open_beside(struct compute *c, struct compute *beside);
void cuda_follow(struct compute *c, struct compute *other);
int cuda_done(struct compute *c);
void *cuda_queue(struct compute *c);

/* ---- recording.cu ---- */

/* 1; or 0 while operations are recorded, where `what` has no place, and that is then c's status. */
int cuda_may_do(struct compute *c, const char *what);

/* ---- device_peak.cu ---- */

enum voco_status cuda_measure_peak(struct compute *c, struct machine_peak *peak);

/* ---- choices_text.cu ---- */

char *cuda_choices(struct compute *c);
enum voco_status cuda_take_choices(struct compute *c, const char *text, enum choices_taken *taken);

/* ---- weights.cu ---- */

/* Forms of weights that operations read in place of the parameters' own. `bf16` where c's activations are,
 * else float. */
enum weight_form {
    WEIGHTS_PLAIN,      /* (out, in, taps) as it is; only bf16 needs a copy */
    WEIGHTS_OUT_TAP_IN, /* (out, taps, in): what cuDNN calls KRSC */
    WEIGHTS_TAP_OUT_IN, /* (taps, out, in) */
    WEIGHTS_FLIPPED     /* (taps in reverse, in, out): the convolution that gives the input's gradient */
};

/* The weights (out, in, taps) in this form, derived when first asked for after parameters_changed and kept
 * until the next one; with the first of them all those that were asked for between the two changes before.
 * NULL when there is no memory, which is then c's status. */
const void *cuda_weights(struct compute *c, const float *weight, enum weight_form form, int out, int in,
                         int taps);
void cuda_weights_changed(struct compute *c);
/* While operations are recorded cuda_weights derives nothing, but keeps which forms they read: derives those
 * of them that are stale, before a recording is replayed. */
void cuda_weights_ask_again(struct compute *c, const struct recording *recording);
/* Memory was released: no weights are read before they are asked for again. */
void cuda_weights_may_be_gone(struct compute *c);
void cuda_weights_free(struct compute *c);

/* dweight (out, in, taps) += gradient (out, taps, in), taps <= 27; the second of a gradient in bf16. */
void cuda_add_weight_gradient(struct compute *c, float *dweight, const float *gradient, int out, int in,
                              int taps);
void cuda_add_rounded_weight_gradient(struct compute *c, float *dweight, const void *gradient, int out,
                                      int in, int taps);

/* ---- operations, each in the file of its name; compute.h says what they do ---- */

void cuda_activations_from_reals(struct compute *c, activation *out, const float *inp, size_t count);
void cuda_reals_from_activations(struct compute *c, float *out, const activation *inp, size_t count);
void cuda_transform_crops(struct compute *c, float *out, const void *stored, int voxel_bytes,
                          const struct crop_transform *transforms, int n, int side);
void cuda_add(struct compute *c, activation *out, const activation *a, const activation *b, size_t count);
void cuda_apply_mask(struct compute *c, float *out, const float *inp, const float *mask, size_t count);
void cuda_contrast_loss(struct compute *c, double *terms, float *dz, float *similarity, const float *z,
                        const float *t, const float *labels, double *work,
                        const struct contrast_shape *shape);
void cuda_moving_average(struct compute *c, float *average, float *previous, const float *value, float decay,
                         size_t count);
void cuda_zero(struct compute *c, float *x, size_t count);
void cuda_sum_in_order(struct compute *c, float *out, const activation *parts, int n, size_t count,
                       float scale);
void cuda_sum_of_squares(struct compute *c, double *sum, const float *x, size_t count);
void cuda_adamw_step(struct compute *c, float *param, float *exp_avg, float *exp_avg_sq,
                     float *max_exp_avg_sq, const float *grad, const double *squares,
                     const struct adamw_settings *settings, size_t count);
void cuda_undo_if_skipped(struct compute *c, float *array, const float *before, const double *squares,
                          size_t count);

void cuda_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                         const float *bias, const struct conv3d_shape *shape);
void cuda_conv3d_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                          const activation *dout, const activation *inp, const float *weight,
                          const struct conv3d_shape *shape);
void cuda_normed_conv3d_forward(struct compute *c, activation *out, float *mean, float *rstd,
                                const activation *inp, const struct norm_activation *norm, activation *work,
                                const float *weight, const struct conv3d_shape *shape);
void cuda_normed_conv3d_backward(struct compute *c, activation *dinp, float *dweight, const activation *dout,
                                 const activation *inp, const struct norm_activation *norm, activation *work,
                                 const float *weight, const struct conv3d_shape *shape);
void cuda_normed_conv3d_pair_backward(struct compute *c, float *dweight1, float *dweight2,
                                      activation *dbetween, const activation *dout, const activation *between,
                                      const struct norm_activation *norm, activation *work,
                                      const activation *x, const float *weight1, const float *weight2,
                                      const struct conv3d_shape *shape);
size_t cuda_normed_conv3d_work(struct compute *c, const struct conv3d_shape *shape);

void cuda_linear_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                         const float *bias, size_t rows, int in_features, int out_features);
void cuda_linear_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                          const activation *dout, const activation *inp, const float *weight, size_t rows,
                          int in_features, int out_features);
void cuda_linear_gelu_forward(struct compute *c, activation *out, activation *activated,
                              const activation *inp, const float *weight, const float *bias, size_t rows,
                              int in_features, int out_features);
void cuda_linear_gelu_backward(struct compute *c, activation *dwide, float *dweight, float *dbias,
                               const activation *dout, const activation *activated, const activation *wide,
                               const float *weight, size_t rows, int in_features, int out_features);
void cuda_linear_add_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                             const float *bias, const activation *residual, size_t rows, int in_features,
                             int out_features);

void cuda_mlp_forward(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                      size_t rows);
void cuda_mlp_backward(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                       const activation *dout, const activation *x, const struct mlp *mlp, size_t rows);
int cuda_mlp_fits(struct compute *c, int channels, int hidden);
void cuda_normed_linear_forward(struct compute *c, activation *out, const activation *x,
                                const struct normed_linear *layer, size_t rows);
void cuda_normed_linear_backward(struct compute *c, activation *dx,
                                 const struct normed_linear_gradients *gradients, const activation *dout,
                                 const activation *x, const activation *residual,
                                 const struct normed_linear *layer, size_t rows);
int cuda_normed_linear_fits(struct compute *c, int in_features, int out_features);

void cuda_layer_norm_forward(struct compute *c, activation *out, float *mean, float *rstd,
                             const activation *inp, const float *weight, const float *bias, size_t rows,
                             int channels);
void cuda_layer_norm_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                              const activation *dout, const activation *inp, const float *mean,
                              const float *rstd, const float *weight, const activation *residual, size_t rows,
                              int channels);

void cuda_instance_norm_forward(struct compute *c, activation *out, float *mean, float *rstd,
                                const activation *inp, const activation *residual, float slope, int n,
                                size_t space, int channels);
void cuda_instance_norm_backward(struct compute *c, activation *dinp, activation *dresidual,
                                 const activation *dout, const activation *out, const activation *inp,
                                 const float *mean, const float *rstd, float slope, int n, size_t space,
                                 int channels);
void cuda_instance_norm_moments(struct compute *c, float *mean, float *rstd, const activation *inp, int n,
                                size_t space, int channels);
void cuda_instance_norm_apply(struct compute *c, activation *out, const activation *inp,
                              const struct norm_activation *norm, const activation *residual, int n,
                              size_t space, int channels);

/* What is left of a normed convolution's backward where the convolution itself knows nothing of norms: dinp
 * holds the gradient of act(norm(inp)) and becomes that of inp. */
void cuda_normed_input_gradient(struct compute *c, activation *dinp, const activation *inp,
                                const struct norm_activation *norm, int n, size_t space, int channels);
/* The same where dinp is already through the activation's slope and its means over space (n, channels), and
 * those of its product with xhat, are known. No scratch memory. */
void cuda_normed_input_gradient_result(struct compute *c, activation *dinp, const activation *inp,
                                       const struct norm_activation *norm, float *g_mean, float *g_xhat_mean,
                                       int n, size_t space, int channels);

void cuda_pooled_norm_forward(struct compute *c, float *pooled, size_t stride, float *bends,
                              const activation *inp, const struct norm_activation *norm,
                              const struct pooled_residual *residual, int n, size_t space, int channels);
void cuda_pooled_norm_backward(struct compute *c, activation *dinp, activation *dresidual, float *dscale,
                               const float *dpooled, size_t stride, const float *bends, const activation *inp,
                               const struct norm_activation *norm, const struct pooled_residual *residual,
                               int n, size_t space, int channels);
void cuda_channel_scale_forward(struct compute *c, float *scale, float *dscale_dweight, const float *weight,
                                const float *rstd, int n, int channels);
void cuda_channel_scale_backward(struct compute *c, float *dweight, const float *dscale,
                                 const float *dscale_dweight, int n, int channels);

void cuda_window_attention_forward(struct compute *c, activation *out, float *logsumexp,
                                   const activation *qkv, const float *qkv_bias, const float *bias_table,
                                   const struct attention_shape *shape);
void cuda_window_attention_backward(struct compute *c, activation *dqkv, float *dqkv_bias, float *dbias_table,
                                    const activation *dout, const activation *out, const float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *shape);

void cuda_gelu_forward(struct compute *c, activation *out, const activation *inp, size_t count);
void cuda_gelu_backward(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                        size_t count);

void cuda_patch_merge_forward(struct compute *c, activation *out, const activation *inp,
                              enum patch_merging order, int n, int d, int h, int w, int channels);
void cuda_patch_merge_backward(struct compute *c, activation *dinp, const activation *dout,
                               enum patch_merging order, int n, int d, int h, int w, int channels);

#endif
