#include "compute/operation_arithmetic.h"
#include "compute/timed_call.h"

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
    struct compute *timed = timed_of(c);
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
    struct compute *timed = timed_of(c);
    return timed->normed_linear_fits(timed, in_features, out_features);
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

void add_timed_arithmetic(struct compute *c, const struct compute *timed)
{
    c->conv3d_forward = conv3d_forward;
    c->conv3d_backward = conv3d_backward;
    c->normed_conv3d_forward = normed_conv3d_forward;
    c->normed_conv3d_backward = normed_conv3d_backward;
    c->normed_conv3d_pair_backward = normed_conv3d_pair_backward;
    c->normed_conv3d_work = normed_conv3d_work;
    c->linear_forward = linear_forward;
    c->linear_backward = linear_backward;
    c->linear_gelu_forward = linear_gelu_forward;
    c->linear_gelu_backward = linear_gelu_backward;
    c->linear_add_forward = linear_add_forward;
    c->mlp_forward = timed->mlp_forward != NULL ? mlp_forward : NULL;
    c->mlp_backward = timed->mlp_backward != NULL ? mlp_backward : NULL;
    c->mlp_fits = timed->mlp_fits != NULL ? mlp_fits : NULL;
    c->normed_linear_forward = timed->normed_linear_forward != NULL ? normed_linear_forward : NULL;
    c->normed_linear_backward = timed->normed_linear_backward != NULL ? normed_linear_backward : NULL;
    c->normed_linear_fits = timed->normed_linear_fits != NULL ? normed_linear_fits : NULL;
    c->window_attention_forward = window_attention_forward;
    c->window_attention_backward = window_attention_backward;
}
