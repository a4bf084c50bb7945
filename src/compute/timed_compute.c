#include "compute/timed_compute.h"

#include "base/clock.h"
#include "compute/operation_arithmetic.h"

#include <string.h>

/* An operation at work. */
struct call {
    struct compute *outer, *timed;
    struct operation_total *total;
    double began;
};

static struct call begin(struct compute *c, enum operation_kind kind)
{
    const struct timed_compute *timer = c->state;
    return (struct call){.outer = c,
                         .timed = c == &timer->full ? timer->timed->full : timer->timed,
                         .total = &timer->totals[kind],
                         .began = seconds_now()};
}

/* Hands on a failure. */
static void hand_on(struct compute *outer, struct compute *timed)
{
    if (timed->status != VOCO_OK && outer->status == VOCO_OK) {
        outer->status = timed->status;
        memcpy(outer->message, timed->message, sizeof outer->message);
    }
    timed->status = VOCO_OK;
}

/* Adds it to its total, and hands on a failure. */
static void end(const struct call *call, double flops, double bytes)
{
    const struct timed_compute *timer = call->outer->state;
    if (timer->waits) {
        call->timed->wait(call->timed);
    }
    call->total->seconds += seconds_now() - call->began;
    call->total->calls++;
    call->total->flops += flops;
    call->total->bytes += bytes;
    hand_on(call->outer, call->timed);
}

/* ---- memory, which is nobody's kind ---- */

static struct compute *timed_of(const struct compute *c)
{
    const struct timed_compute *timer = c->state;
    return c == &timer->full ? timer->timed->full : timer->timed;
}

static void *allocate(struct compute *c, size_t bytes)
{
    struct compute *timed = timed_of(c);
    void *memory = timed->allocate(timed, bytes);
    hand_on(c, timed);
    return memory;
}

static void *allocate_staging(struct compute *c, size_t bytes)
{
    struct compute *timed = timed_of(c);
    void *memory = timed->allocate_staging(timed, bytes);
    hand_on(c, timed);
    return memory;
}

static void release(struct compute *c, void *memory)
{
    timed_of(c)->release(timed_of(c), memory);
}

static void release_staging(struct compute *c, void *memory)
{
    timed_of(c)->release_staging(timed_of(c), memory);
}

static size_t free_memory(struct compute *c)
{
    return timed_of(c)->free_memory(timed_of(c));
}

static void to_device(struct compute *c, void *to, const void *host, size_t bytes)
{
    timed_of(c)->to_device(timed_of(c), to, host, bytes);
    hand_on(c, timed_of(c));
}

static void to_host(struct compute *c, void *host, const void *from, size_t bytes)
{
    timed_of(c)->to_host(timed_of(c), host, from, bytes);
    hand_on(c, timed_of(c));
}

static void copy(struct compute *c, void *to, const void *from, size_t bytes)
{
    timed_of(c)->copy(timed_of(c), to, from, bytes);
    hand_on(c, timed_of(c));
}

static void wait_for_all(struct compute *c)
{
    timed_of(c)->wait(timed_of(c));
    hand_on(c, timed_of(c));
}

/* ---- operations ---- */

/* Bytes of so many arrays of `count` activations. */
static double activation_bytes(const struct call *call, int arrays, double count)
{
    return arrays * count * (double)call->timed->activation_size;
}

static double real_bytes(int arrays, size_t count)
{
    return arrays * (double)count * (double)sizeof(real);
}

static void activations_from_reals(struct compute *c, activation *out, const real *inp, size_t count)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->activations_from_reals(call.timed, out, inp, count);
    end(&call, 0, activation_bytes(&call, 1, (double)count) + real_bytes(1, count));
}

static void reals_from_activations(struct compute *c, real *out, const activation *inp, size_t count)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->reals_from_activations(call.timed, out, inp, count);
    end(&call, 0, activation_bytes(&call, 1, (double)count) + real_bytes(1, count));
}

static void transform_crops(struct compute *c, real *out, const void *stored, int voxel_bytes,
                            const struct crop_transform *transforms, int n, int side)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    const double voxels = (double)n * side * side * side;
    call.timed->transform_crops(call.timed, out, stored, voxel_bytes, transforms, n, side);
    end(&call, 0, voxels * (voxel_bytes + (double)sizeof(real)));
}

static void conv3d_forward(struct compute *c, activation *out, const activation *inp, const real *weight,
                           const real *bias, const struct conv3d_shape *shape)
{
    const struct call call = begin(c, OPERATION_CONVOLUTION);
    call.timed->conv3d_forward(call.timed, out, inp, weight, bias, shape);
    end(&call, conv3d_flops(shape), 0);
}

static void conv3d_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                            const activation *dout, const activation *inp, const real *weight,
                            const struct conv3d_shape *shape)
{
    const struct call call = begin(c, OPERATION_CONVOLUTION);
    call.timed->conv3d_backward(call.timed, dinp, dweight, dbias, dout, inp, weight, shape);
    end(&call, ((dinp != NULL) + (dweight != NULL)) * conv3d_flops(shape), 0);
}

/* Norms that go along with a convolution count as part of it. */
static void normed_conv3d_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                  const activation *inp, const struct norm_activation *norm, activation *work,
                                  const real *weight, const struct conv3d_shape *shape)
{
    const struct call call = begin(c, OPERATION_CONVOLUTION);
    call.timed->normed_conv3d_forward(call.timed, out, mean, rstd, inp, norm, work, weight, shape);
    end(&call, conv3d_flops(shape), 0);
}

static void normed_conv3d_backward(struct compute *c, activation *dinp, real *dweight, const activation *dout,
                                   const activation *inp, const struct norm_activation *norm,
                                   activation *work, const real *weight, const struct conv3d_shape *shape)
{
    const struct call call = begin(c, OPERATION_CONVOLUTION);
    call.timed->normed_conv3d_backward(call.timed, dinp, dweight, dout, inp, norm, work, weight, shape);
    end(&call, ((dinp != NULL) + 1) * conv3d_flops(shape), 0);
}

static void normed_conv3d_pair_backward(struct compute *c, real *dweight1, real *dweight2,
                                        activation *dbetween, const activation *dout,
                                        const activation *between, const struct norm_activation *norm,
                                        activation *work, const activation *x, const real *weight1,
                                        const real *weight2, const struct conv3d_shape *shape)
{
    const struct call call = begin(c, OPERATION_CONVOLUTION);
    struct conv3d_shape first = *shape;
    first.in_channels = 1;
    first.out_channels = shape->in_channels;
    call.timed->normed_conv3d_pair_backward(call.timed, dweight1, dweight2, dbetween, dout, between, norm,
                                            work, x, weight1, weight2, shape);
    end(&call, 2 * conv3d_flops(shape) + conv3d_flops(&first), 0);
}

static size_t normed_conv3d_work(struct compute *c, const struct conv3d_shape *shape)
{
    struct compute *timed = timed_of(c);
    return timed->normed_conv3d_work(timed, shape);
}

/* What goes along with a linear layer counts as part of it. */
static void linear_forward(struct compute *c, activation *out, const activation *inp, const real *weight,
                           const real *bias, size_t rows, int in_features, int out_features)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->linear_forward(call.timed, out, inp, weight, bias, rows, in_features, out_features);
    end(&call, linear_flops(rows, in_features, out_features), 0);
}

static void linear_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                            const activation *dout, const activation *inp, const real *weight, size_t rows,
                            int in_features, int out_features)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->linear_backward(call.timed, dinp, dweight, dbias, dout, inp, weight, rows, in_features,
                                out_features);
    end(&call, ((dinp != NULL) + (dweight != NULL)) * linear_flops(rows, in_features, out_features), 0);
}

static void linear_gelu_forward(struct compute *c, activation *out, activation *activated,
                                const activation *inp, const real *weight, const real *bias, size_t rows,
                                int in_features, int out_features)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->linear_gelu_forward(call.timed, out, activated, inp, weight, bias, rows, in_features,
                                    out_features);
    end(&call, linear_flops(rows, in_features, out_features), 0);
}

static void linear_gelu_backward(struct compute *c, activation *dwide, real *dweight, real *dbias,
                                 const activation *dout, const activation *activated, const activation *wide,
                                 const real *weight, size_t rows, int in_features, int out_features)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->linear_gelu_backward(call.timed, dwide, dweight, dbias, dout, activated, wide, weight, rows,
                                     in_features, out_features);
    end(&call, ((dwide != NULL) + (dweight != NULL)) * linear_flops(rows, in_features, out_features), 0);
}

static void linear_add_forward(struct compute *c, activation *out, const activation *inp, const real *weight,
                               const real *bias, const activation *residual, size_t rows, int in_features,
                               int out_features)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->linear_add_forward(call.timed, out, inp, weight, bias, residual, rows, in_features,
                                   out_features);
    end(&call, linear_flops(rows, in_features, out_features), 0);
}

/* Two layers; backward, what forward computed counts no second time. */
static void mlp_forward(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                        size_t rows)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->mlp_forward(call.timed, out, x, mlp, rows);
    end(&call, 2 * linear_flops(rows, mlp->channels, mlp->hidden), 0);
}

static void mlp_backward(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                         const activation *dout, const activation *x, const struct mlp *mlp, size_t rows)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->mlp_backward(call.timed, dx, gradients, dout, x, mlp, rows);
    end(&call, 2 * 2 * linear_flops(rows, mlp->channels, mlp->hidden), 0);
}

static int mlp_fits(struct compute *c, int channels, int hidden)
{
    struct compute *timed = ((const struct timed_compute *)c->state)->timed;
    return timed->mlp_fits(timed, channels, hidden);
}

static void normed_linear_forward(struct compute *c, activation *out, const activation *x,
                                  const struct normed_linear *layer, size_t rows)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->normed_linear_forward(call.timed, out, x, layer, rows);
    end(&call, linear_flops(rows, layer->in_features, layer->out_features), 0);
}

static void normed_linear_backward(struct compute *c, activation *dx,
                                   const struct normed_linear_gradients *gradients, const activation *dout,
                                   const activation *x, const activation *residual,
                                   const struct normed_linear *layer, size_t rows)
{
    const struct call call = begin(c, OPERATION_LINEAR);
    call.timed->normed_linear_backward(call.timed, dx, gradients, dout, x, residual, layer, rows);
    end(&call, 2 * linear_flops(rows, layer->in_features, layer->out_features), 0);
}

static int normed_linear_fits(struct compute *c, int in_features, int out_features)
{
    struct compute *timed = ((const struct timed_compute *)c->state)->timed;
    return timed->normed_linear_fits(timed, in_features, out_features);
}

static void layer_norm_forward(struct compute *c, activation *out, real *mean, real *rstd,
                               const activation *inp, const real *weight, const real *bias, size_t rows,
                               int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->layer_norm_forward(call.timed, out, mean, rstd, inp, weight, bias, rows, channels);
    end(&call, 0, activation_bytes(&call, 2, (double)rows * channels));
}

static void layer_norm_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                                const activation *dout, const activation *inp, const real *mean,
                                const real *rstd, const real *weight, const activation *residual, size_t rows,
                                int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->layer_norm_backward(call.timed, dinp, dweight, dbias, dout, inp, mean, rstd, weight, residual,
                                    rows, channels);
    end(&call, 0, activation_bytes(&call, 3 + (residual != NULL), (double)rows * channels));
}

static void instance_norm_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                  const activation *inp, const activation *residual, real slope, int n,
                                  size_t space, int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->instance_norm_forward(call.timed, out, mean, rstd, inp, residual, slope, n, space, channels);
    end(&call, 0, activation_bytes(&call, 2 + (residual != NULL), (double)n * (double)space * channels));
}

static void instance_norm_backward(struct compute *c, activation *dinp, activation *dresidual,
                                   const activation *dout, const activation *out, const activation *inp,
                                   const real *mean, const real *rstd, real slope, int n, size_t space,
                                   int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->instance_norm_backward(call.timed, dinp, dresidual, dout, out, inp, mean, rstd, slope, n,
                                       space, channels);
    const int arrays = 3 + (out != NULL) + (dresidual != NULL);
    end(&call, 0, activation_bytes(&call, arrays, (double)n * (double)space * channels));
}

static void instance_norm_moments(struct compute *c, real *mean, real *rstd, const activation *inp, int n,
                                  size_t space, int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->instance_norm_moments(call.timed, mean, rstd, inp, n, space, channels);
    end(&call, 0, activation_bytes(&call, 1, (double)n * (double)space * channels));
}

static void instance_norm_apply(struct compute *c, activation *out, const activation *inp,
                                const struct norm_activation *norm, const activation *residual, int n,
                                size_t space, int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->instance_norm_apply(call.timed, out, inp, norm, residual, n, space, channels);
    end(&call, 0, activation_bytes(&call, 2 + (residual != NULL), (double)n * (double)space * channels));
}

/* Of the pools' residuals, one channel counts as nothing beside all. */
static void pooled_norm_forward(struct compute *c, real *pooled, size_t stride, real *bends,
                                const activation *inp, const struct norm_activation *norm,
                                const struct pooled_residual *residual, int n, size_t space, int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->pooled_norm_forward(call.timed, pooled, stride, bends, inp, norm, residual, n, space,
                                    channels);
    const int arrays = residual->scale != NULL ? 1 : 2;
    end(&call, 0, activation_bytes(&call, arrays, (double)n * (double)space * channels));
}

static void pooled_norm_backward(struct compute *c, activation *dinp, activation *dresidual, real *dscale,
                                 const real *dpooled, size_t stride, const real *bends, const activation *inp,
                                 const struct norm_activation *norm, const struct pooled_residual *residual,
                                 int n, size_t space, int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->pooled_norm_backward(call.timed, dinp, dresidual, dscale, dpooled, stride, bends, inp, norm,
                                     residual, n, space, channels);
    const int arrays = residual->scale != NULL ? 2 : 4;
    end(&call, 0, activation_bytes(&call, arrays, (double)n * (double)space * channels));
}

/* A value a channel and sample. */
static void channel_scale_forward(struct compute *c, real *scale, real *dscale_dweight, const real *weight,
                                  const real *rstd, int n, int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->channel_scale_forward(call.timed, scale, dscale_dweight, weight, rstd, n, channels);
    end(&call, 0, real_bytes(2, (size_t)n * (size_t)channels));
}

static void channel_scale_backward(struct compute *c, real *dweight, const real *dscale,
                                   const real *dscale_dweight, int n, int channels)
{
    const struct call call = begin(c, OPERATION_NORM);
    call.timed->channel_scale_backward(call.timed, dweight, dscale, dscale_dweight, n, channels);
    end(&call, 0, real_bytes(2, (size_t)n * (size_t)channels));
}

static void window_attention_forward(struct compute *c, activation *out, real *logsumexp,
                                     const activation *qkv, const real *qkv_bias, const real *bias_table,
                                     const struct attention_shape *shape)
{
    const struct call call = begin(c, OPERATION_ATTENTION);
    call.timed->window_attention_forward(call.timed, out, logsumexp, qkv, qkv_bias, bias_table, shape);
    end(&call, attention_forward_products * attention_product_flops(shape), 0);
}

static void window_attention_backward(struct compute *c, activation *dqkv, real *dqkv_bias, real *dbias_table,
                                      const activation *dout, const activation *out, const real *logsumexp,
                                      const activation *qkv, const real *qkv_bias, const real *bias_table,
                                      const struct attention_shape *shape)
{
    const struct call call = begin(c, OPERATION_ATTENTION);
    call.timed->window_attention_backward(call.timed, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv,
                                          qkv_bias, bias_table, shape);
    end(&call, attention_backward_products * attention_product_flops(shape), 0);
}

static void gelu_forward(struct compute *c, activation *out, const activation *inp, size_t count)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->gelu_forward(call.timed, out, inp, count);
    end(&call, 0, activation_bytes(&call, 2, (double)count));
}

static void gelu_backward(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                          size_t count)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->gelu_backward(call.timed, dinp, dout, inp, count);
    end(&call, 0, activation_bytes(&call, 3, (double)count));
}

/* What is gathered counts as it is read: (merged tokens, 8 channels). */
static double gathered(int n, int d, int h, int w, int channels)
{
    const size_t merged = (size_t)((d + 1) / 2) * (size_t)((h + 1) / 2) * (size_t)((w + 1) / 2);
    return 8.0 * n * (double)merged * channels;
}

static void patch_merge_forward(struct compute *c, activation *out, const activation *inp,
                                enum patch_merging order, int n, int d, int h, int w, int channels)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->patch_merge_forward(call.timed, out, inp, order, n, d, h, w, channels);
    end(&call, 0,
        activation_bytes(&call, 1, gathered(n, d, h, w, channels) + (double)n * d * h * w * channels));
}

static void patch_merge_backward(struct compute *c, activation *dinp, const activation *dout,
                                 enum patch_merging order, int n, int d, int h, int w, int channels)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->patch_merge_backward(call.timed, dinp, dout, order, n, d, h, w, channels);
    end(&call, 0,
        activation_bytes(&call, 1, gathered(n, d, h, w, channels) + (double)n * d * h * w * channels));
}

static void add(struct compute *c, activation *out, const activation *a, const activation *b, size_t count)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->add(call.timed, out, a, b, count);
    end(&call, 0, activation_bytes(&call, 3, (double)count));
}

static void apply_mask(struct compute *c, real *out, const real *inp, const real *mask, size_t count)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->apply_mask(call.timed, out, inp, mask, count);
    end(&call, 0, real_bytes(3, count));
}

static void contrast_loss(struct compute *c, double *terms, real *dz, real *similarity, const real *z,
                          const real *t, const float *labels, double *work,
                          const struct contrast_shape *shape)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    const size_t rows = (size_t)shape->volumes * ((size_t)shape->crops + (size_t)shape->bases);
    call.timed->contrast_loss(call.timed, terms, dz, similarity, z, t, labels, work, shape);
    end(&call, 0, real_bytes(3, rows * (size_t)shape->width));
}

/* Parameter and three moments are read and written, the gradient read. */
static void adamw_step(struct compute *c, real *param, real *exp_avg, real *exp_avg_sq, real *max_exp_avg_sq,
                       const real *grad, const double *squares, const struct adamw_settings *settings,
                       size_t count)
{
    const struct call call = begin(c, OPERATION_OPTIMISER);
    call.timed->adamw_step(call.timed, param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, squares, settings,
                           count);
    end(&call, 0, real_bytes(9, count));
}

/* Hardly ever more than a look at the sum. */
static void undo_if_skipped(struct compute *c, real *array, const real *before, const double *squares,
                            size_t count)
{
    const struct call call = begin(c, OPERATION_OPTIMISER);
    call.timed->undo_if_skipped(call.timed, array, before, squares, count);
    end(&call, 0, 0);
}

static void moving_average(struct compute *c, real *average, real *previous, const real *value, real decay,
                           size_t count)
{
    const struct call call = begin(c, OPERATION_OPTIMISER);
    call.timed->moving_average(call.timed, average, previous, value, decay, count);
    end(&call, 0, real_bytes(previous != NULL ? 4 : 3, count));
}

static void zero(struct compute *c, real *x, size_t count)
{
    const struct call call = begin(c, OPERATION_OPTIMISER);
    call.timed->zero(call.timed, x, count);
    end(&call, 0, real_bytes(1, count));
}

static void sum_in_order(struct compute *c, real *out, const activation *parts, int n, size_t count,
                         real scale)
{
    const struct call call = begin(c, OPERATION_ELEMENTWISE);
    call.timed->sum_in_order(call.timed, out, parts, n, count, scale);
    end(&call, 0, activation_bytes(&call, n, (double)count) + real_bytes(1, count));
}

static void sum_of_squares(struct compute *c, double *sum, const real *x, size_t count)
{
    const struct call call = begin(c, OPERATION_OPTIMISER);
    call.timed->sum_of_squares(call.timed, sum, x, count);
    end(&call, 0, real_bytes(1, count));
}

static void parameters_changed(struct compute *c)
{
    struct compute *timed = ((const struct timed_compute *)c->state)->timed;
    timed->parameters_changed(timed);
}

static struct compute operations(struct timed_compute *timer, const struct compute *timed)
{
    return (struct compute){
        .name = timed->name,
        .state = timer,
        .precision = timed->precision,
        .activation_size = timed->activation_size,
        .separate_memory = timed->separate_memory,
        .allocate = allocate,
        .release = release,
        .allocate_staging = allocate_staging,
        .release_staging = release_staging,
        .free_memory = timed->free_memory != NULL ? free_memory : NULL,
        .to_device = to_device,
        .to_host = to_host,
        .copy = copy,
        .wait = wait_for_all,
        .activations_from_reals = activations_from_reals,
        .reals_from_activations = reals_from_activations,
        .transform_crops = transform_crops,
        .conv3d_forward = conv3d_forward,
        .conv3d_backward = conv3d_backward,
        .normed_conv3d_forward = normed_conv3d_forward,
        .normed_conv3d_backward = normed_conv3d_backward,
        .normed_conv3d_pair_backward = normed_conv3d_pair_backward,
        .normed_conv3d_work = normed_conv3d_work,
        .linear_forward = linear_forward,
        .linear_backward = linear_backward,
        .linear_gelu_forward = linear_gelu_forward,
        .linear_gelu_backward = linear_gelu_backward,
        .linear_add_forward = linear_add_forward,
        .mlp_forward = timed->mlp_forward != NULL ? mlp_forward : NULL,
        .mlp_backward = timed->mlp_backward != NULL ? mlp_backward : NULL,
        .mlp_fits = timed->mlp_fits != NULL ? mlp_fits : NULL,
        .normed_linear_forward = timed->normed_linear_forward != NULL ? normed_linear_forward : NULL,
        .normed_linear_backward = timed->normed_linear_backward != NULL ? normed_linear_backward : NULL,
        .normed_linear_fits = timed->normed_linear_fits != NULL ? normed_linear_fits : NULL,
        .layer_norm_forward = layer_norm_forward,
        .layer_norm_backward = layer_norm_backward,
        .instance_norm_forward = instance_norm_forward,
        .instance_norm_backward = instance_norm_backward,
        .instance_norm_moments = instance_norm_moments,
        .instance_norm_apply = instance_norm_apply,
        .pooled_norm_forward = pooled_norm_forward,
        .pooled_norm_backward = pooled_norm_backward,
        .channel_scale_forward = channel_scale_forward,
        .channel_scale_backward = channel_scale_backward,
        .window_attention_forward = window_attention_forward,
        .window_attention_backward = window_attention_backward,
        .gelu_forward = gelu_forward,
        .gelu_backward = gelu_backward,
        .patch_merge_forward = patch_merge_forward,
        .patch_merge_backward = patch_merge_backward,
        .add = add,
        .apply_mask = apply_mask,
        .contrast_loss = contrast_loss,
        .adamw_step = adamw_step,
        .undo_if_skipped = undo_if_skipped,
        .moving_average = moving_average,
        .zero = zero,
        .sum_in_order = sum_in_order,
        .sum_of_squares = sum_of_squares,
        .parameters_changed = parameters_changed,
    };
}

void timed_compute_open(struct timed_compute *timer, struct compute *timed, struct operation_total *totals)
{
    *timer = (struct timed_compute){.timed = timed, .totals = totals};
    timer->compute = operations(timer, timed);
    timer->full = operations(timer, timed->full);
    timer->full.full = &timer->full;
    timer->compute.full = timed->full == timed ? &timer->compute : &timer->full;
}
