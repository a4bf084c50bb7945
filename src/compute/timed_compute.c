#include "compute/timed_compute.h"

#include "compute/timed_call.h"

/* ---- memory, which is nobody's kind ---- */

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

/* ---- operations that count bytes; those that count arithmetic are in timed_arithmetic.c ---- */

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
    struct compute c = {
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
    add_timed_arithmetic(&c, timed);
    return c;
}

void timed_compute_open(struct timed_compute *timer, struct compute *timed, struct operation_total *totals)
{
    *timer = (struct timed_compute){.timed = timed, .totals = totals};
    timer->compute = operations(timer, timed);
    timer->full = operations(timer, timed->full);
    timer->full.full = &timer->full;
    timer->compute.full = timed->full == timed ? &timer->compute : &timer->full;
}
