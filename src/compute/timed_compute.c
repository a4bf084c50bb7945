#include "compute/timed_compute.h"

#include "base/clock.h"
#include "compute/operation_arithmetic.h"

#include <string.h>

/* An operation at work: what it is added to, and since when. */
struct account {
    struct timed_compute *timer;
    struct operation_total *total;
    double began;
};

/* `compute` is the first member, so that its address is the timer's. */
static struct account begin(struct compute *c, enum operation_kind kind)
{
    struct timed_compute *timer = (struct timed_compute *)c;
    return (struct account){.timer = timer, .total = &timer->totals[kind], .began = seconds_now()};
}

/* Also hands on the first failure. */
static void end(const struct account *account, double flops, double bytes)
{
    struct compute *outer = &account->timer->compute, *inner = account->timer->timed;
    account->total->seconds += seconds_now() - account->began;
    account->total->calls++;
    account->total->flops += flops;
    account->total->bytes += bytes;
    if (inner->status != VOCO_OK && outer->status == VOCO_OK) {
        outer->status = inner->status;
        memcpy(outer->message, inner->message, sizeof outer->message);
    }
    inner->status = VOCO_OK;
}

/* Bytes of so many arrays of `count` elements. */
static double array_bytes(int arrays, double count)
{
    return arrays * count * (double)sizeof(real);
}

static void conv3d_forward(struct compute *c, real *out, const real *inp, const real *weight,
                           const real *bias, const struct conv3d_shape *shape)
{
    const struct account account = begin(c, OPERATION_CONVOLUTION);
    struct compute *timed = account.timer->timed;
    timed->conv3d_forward(timed, out, inp, weight, bias, shape);
    end(&account, conv3d_flops(shape), 0);
}

static void conv3d_backward(struct compute *c, real *dinp, real *dweight, real *dbias, const real *dout,
                            const real *inp, const real *weight, const struct conv3d_shape *shape)
{
    const struct account account = begin(c, OPERATION_CONVOLUTION);
    struct compute *timed = account.timer->timed;
    timed->conv3d_backward(timed, dinp, dweight, dbias, dout, inp, weight, shape);
    end(&account, ((dinp != NULL) + (dweight != NULL)) * conv3d_flops(shape), 0);
}

static void linear_forward(struct compute *c, real *out, const real *inp, const real *weight,
                           const real *bias, size_t rows, int in_features, int out_features)
{
    const struct account account = begin(c, OPERATION_LINEAR);
    struct compute *timed = account.timer->timed;
    timed->linear_forward(timed, out, inp, weight, bias, rows, in_features, out_features);
    end(&account, linear_flops(rows, in_features, out_features), 0);
}

static void linear_backward(struct compute *c, real *dinp, real *dweight, real *dbias, const real *dout,
                            const real *inp, const real *weight, size_t rows, int in_features,
                            int out_features)
{
    const struct account account = begin(c, OPERATION_LINEAR);
    struct compute *timed = account.timer->timed;
    timed->linear_backward(timed, dinp, dweight, dbias, dout, inp, weight, rows, in_features, out_features);
    end(&account, ((dinp != NULL) + (dweight != NULL)) * linear_flops(rows, in_features, out_features), 0);
}

static void layer_norm_forward(struct compute *c, real *out, real *mean, real *rstd, const real *inp,
                               const real *weight, const real *bias, size_t rows, int channels)
{
    const struct account account = begin(c, OPERATION_NORM);
    struct compute *timed = account.timer->timed;
    timed->layer_norm_forward(timed, out, mean, rstd, inp, weight, bias, rows, channels);
    end(&account, 0, array_bytes(2, (double)rows * channels));
}

static void layer_norm_backward(struct compute *c, real *dinp, real *dweight, real *dbias, const real *dout,
                                const real *inp, const real *mean, const real *rstd, const real *weight,
                                size_t rows, int channels)
{
    const struct account account = begin(c, OPERATION_NORM);
    struct compute *timed = account.timer->timed;
    timed->layer_norm_backward(timed, dinp, dweight, dbias, dout, inp, mean, rstd, weight, rows, channels);
    end(&account, 0, array_bytes(3, (double)rows * channels));
}

static void instance_norm_forward(struct compute *c, real *out, real *mean, real *rstd, const real *inp,
                                  const real *residual, real slope, int n, size_t space, int channels)
{
    const struct account account = begin(c, OPERATION_NORM);
    struct compute *timed = account.timer->timed;
    timed->instance_norm_forward(timed, out, mean, rstd, inp, residual, slope, n, space, channels);
    end(&account, 0, array_bytes(2 + (residual != NULL), (double)n * (double)space * channels));
}

static void instance_norm_backward(struct compute *c, real *dinp, real *dresidual, const real *dout,
                                   const real *out, const real *inp, const real *mean, const real *rstd,
                                   real slope, int n, size_t space, int channels)
{
    const struct account account = begin(c, OPERATION_NORM);
    struct compute *timed = account.timer->timed;
    timed->instance_norm_backward(timed, dinp, dresidual, dout, out, inp, mean, rstd, slope, n, space,
                                  channels);
    const int arrays = 3 + (out != NULL) + (dresidual != NULL);
    end(&account, 0, array_bytes(arrays, (double)n * (double)space * channels));
}

static void window_attention_forward(struct compute *c, real *out, real *logsumexp, const real *qkv,
                                     const real *qkv_bias, const real *bias_table,
                                     const struct attention_shape *shape)
{
    const struct account account = begin(c, OPERATION_ATTENTION);
    struct compute *timed = account.timer->timed;
    timed->window_attention_forward(timed, out, logsumexp, qkv, qkv_bias, bias_table, shape);
    end(&account, attention_forward_products * attention_product_flops(shape), 0);
}

static void window_attention_backward(struct compute *c, real *dqkv, real *dqkv_bias, real *dbias_table,
                                      const real *dout, const real *out, const real *logsumexp,
                                      const real *qkv, const real *qkv_bias, const real *bias_table,
                                      const struct attention_shape *shape)
{
    const struct account account = begin(c, OPERATION_ATTENTION);
    struct compute *timed = account.timer->timed;
    timed->window_attention_backward(timed, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias,
                                     bias_table, shape);
    end(&account, attention_backward_products * attention_product_flops(shape), 0);
}

static void gelu_forward(struct compute *c, real *out, const real *inp, size_t count)
{
    const struct account account = begin(c, OPERATION_ELEMENTWISE);
    account.timer->timed->gelu_forward(account.timer->timed, out, inp, count);
    end(&account, 0, array_bytes(2, (double)count));
}

static void gelu_backward(struct compute *c, real *dinp, const real *dout, const real *inp, size_t count)
{
    const struct account account = begin(c, OPERATION_ELEMENTWISE);
    account.timer->timed->gelu_backward(account.timer->timed, dinp, dout, inp, count);
    end(&account, 0, array_bytes(3, (double)count));
}

/* What is gathered counts as it is read: (merged tokens, 8 channels). */
static double gathered(int n, int d, int h, int w, int channels)
{
    return 8.0 * n * ((d + 1) / 2) * ((h + 1) / 2) * ((w + 1) / 2) * channels;
}

static void patch_merge_forward(struct compute *c, real *out, const real *inp, enum patch_merging order,
                                int n, int d, int h, int w, int channels)
{
    const struct account account = begin(c, OPERATION_ELEMENTWISE);
    struct compute *timed = account.timer->timed;
    timed->patch_merge_forward(timed, out, inp, order, n, d, h, w, channels);
    end(&account, 0, array_bytes(1, gathered(n, d, h, w, channels) + (double)n * d * h * w * channels));
}

static void patch_merge_backward(struct compute *c, real *dinp, const real *dout, enum patch_merging order,
                                 int n, int d, int h, int w, int channels)
{
    const struct account account = begin(c, OPERATION_ELEMENTWISE);
    struct compute *timed = account.timer->timed;
    timed->patch_merge_backward(timed, dinp, dout, order, n, d, h, w, channels);
    end(&account, 0, array_bytes(1, gathered(n, d, h, w, channels) + (double)n * d * h * w * channels));
}

static void average_pool_forward(struct compute *c, real *out, size_t out_stride, const real *inp, int n,
                                 size_t space, int channels)
{
    const struct account account = begin(c, OPERATION_ELEMENTWISE);
    struct compute *timed = account.timer->timed;
    timed->average_pool_forward(timed, out, out_stride, inp, n, space, channels);
    end(&account, 0, array_bytes(1, (double)n * ((double)space + 1) * channels));
}

static void average_pool_backward(struct compute *c, real *dinp, const real *dout, size_t dout_stride, int n,
                                  size_t space, int channels)
{
    const struct account account = begin(c, OPERATION_ELEMENTWISE);
    struct compute *timed = account.timer->timed;
    timed->average_pool_backward(timed, dinp, dout, dout_stride, n, space, channels);
    end(&account, 0, array_bytes(1, (double)n * ((double)space + 1) * channels));
}

static void add(struct compute *c, real *out, const real *a, const real *b, size_t count)
{
    const struct account account = begin(c, OPERATION_ELEMENTWISE);
    account.timer->timed->add(account.timer->timed, out, a, b, count);
    end(&account, 0, array_bytes(3, (double)count));
}

/* Parameter and three moments are read and written, the gradient read. */
static void adamw_step(struct compute *c, real *param, real *exp_avg, real *exp_avg_sq, real *max_exp_avg_sq,
                       const real *grad, const struct adamw_settings *settings, size_t count)
{
    const struct account account = begin(c, OPERATION_OPTIMISER);
    struct compute *timed = account.timer->timed;
    timed->adamw_step(timed, param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, settings, count);
    end(&account, 0, array_bytes(9, (double)count));
}

static void moving_average(struct compute *c, real *average, const real *value, real decay, size_t count)
{
    const struct account account = begin(c, OPERATION_OPTIMISER);
    account.timer->timed->moving_average(account.timer->timed, average, value, decay, count);
    end(&account, 0, array_bytes(3, (double)count));
}

static double sum_of_squares(struct compute *c, const real *x, size_t count)
{
    const struct account account = begin(c, OPERATION_OPTIMISER);
    const double sum = account.timer->timed->sum_of_squares(account.timer->timed, x, count);
    end(&account, 0, array_bytes(1, (double)count));
    return sum;
}

static void parameters_changed(struct compute *c)
{
    struct compute *timed = ((struct timed_compute *)c)->timed;
    timed->parameters_changed(timed);
}

void timed_compute_open(struct timed_compute *timer, struct compute *timed, struct operation_total *totals)
{
    *timer = (struct timed_compute){.timed = timed, .totals = totals};
    timer->compute = (struct compute){
        .name = timed->name,
        .conv3d_forward = conv3d_forward,
        .conv3d_backward = conv3d_backward,
        .linear_forward = linear_forward,
        .linear_backward = linear_backward,
        .layer_norm_forward = layer_norm_forward,
        .layer_norm_backward = layer_norm_backward,
        .instance_norm_forward = instance_norm_forward,
        .instance_norm_backward = instance_norm_backward,
        .window_attention_forward = window_attention_forward,
        .window_attention_backward = window_attention_backward,
        .gelu_forward = gelu_forward,
        .gelu_backward = gelu_backward,
        .patch_merge_forward = patch_merge_forward,
        .patch_merge_backward = patch_merge_backward,
        .average_pool_forward = average_pool_forward,
        .average_pool_backward = average_pool_backward,
        .add = add,
        .adamw_step = adamw_step,
        .moving_average = moving_average,
        .sum_of_squares = sum_of_squares,
        .parameters_changed = parameters_changed,
    };
}
