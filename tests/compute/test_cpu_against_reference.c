/* Every operation of the cpu implementation against the reference, forward and backward, in float: on odd
 * sizes and on those of the network (voco.md section 2; R = 48 and 64, C = 3 to 48), with 1 to 3 threads and
 * every build of the kernels, twice for equal bits. */
#include "agreement.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double tolerance = 1e-5;

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

struct convolution {
    struct conv3d_shape shape;
    int has_bias, wants_dinp;
};

static void convolve(struct compute *c, const void *chosen, struct results *r)
{
    const struct convolution *t = chosen;
    const struct conv3d_shape *s = &t->shape;
    const size_t inputs = (size_t)s->n * s->d * s->h * s->w * s->in_channels;
    const size_t outputs =
        (size_t)s->n * (s->d / s->stride) * (s->h / s->stride) * (s->w / s->stride) * s->out_channels;
    const size_t weights = (size_t)s->out_channels * s->in_channels * s->kernel * s->kernel * s->kernel;
    real *inp = random_tensor(1, inputs, 1), *dout = random_tensor(2, outputs, 1);
    real *weight = random_tensor(3, weights, 1), *bias = random_tensor(4, s->out_channels, 1);
    real *out = new_result(r, "out", outputs, 77),
         *dweight = new_result(r, "dweight", weights, accumulated_start);
    real *dinp = t->wants_dinp ? new_result(r, "dinp", inputs, 77) : NULL;
    real *dbias = t->has_bias ? new_result(r, "dbias", s->out_channels, accumulated_start) : NULL;
    c->conv3d_forward(c, out, inp, weight, t->has_bias ? bias : NULL, s);
    c->conv3d_backward(c, dinp, dweight, dbias, dout, inp, weight, s);
    free(inp);
    free(dout);
    free(weight);
    free(bias);
}

static void convolutions_agree(void **state)
{
    (void)state;
    static const struct convolution cases[] = {
        /* n d h w in out kernel stride */
        {{2, 5, 3, 7, 3, 2, 3, 1}, 1, 1},      {{1, 1, 2, 5, 2, 5, 3, 1}, 0, 1},
        {{3, 5, 3, 7, 5, 7, 1, 1}, 0, 1},      {{2, 6, 10, 4, 1, 6, 2, 2}, 1, 0},
        {{1, 48, 48, 48, 1, 12, 2, 2}, 1, 0}, /* patch embedding */
        {{1, 48, 48, 48, 1, 12, 3, 1}, 0, 0}, /* encoder1 */
        {{1, 48, 48, 48, 1, 12, 1, 1}, 0, 0},  {{1, 32, 32, 32, 6, 6, 3, 1}, 0, 1},
        {{1, 24, 24, 24, 12, 12, 3, 1}, 0, 1}, {{2, 12, 12, 12, 24, 24, 3, 1}, 0, 1},
        {{1, 16, 16, 16, 48, 48, 3, 1}, 0, 1}, {{1, 8, 8, 8, 48, 48, 3, 1}, 0, 1},
        {{2, 6, 6, 6, 48, 48, 3, 1}, 0, 1},    {{2, 4, 4, 4, 96, 96, 3, 1}, 0, 1},
        {{3, 3, 3, 3, 96, 96, 3, 1}, 0, 1},    {{2, 2, 2, 2, 192, 192, 3, 1}, 0, 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct conv3d_shape *s = &cases[i].shape;
        char name[96];
        snprintf(name, sizeof name, "conv3d %d^3 /%d, %d x (%d %d %d), %d to %d", s->kernel, s->stride, s->n,
                 s->d, s->h, s->w, s->in_channels, s->out_channels);
        hold_against_reference(name, convolve, &cases[i], tolerance);
    }
}

struct linear {
    size_t rows;
    int in_features, out_features, has_bias, wants_dinp;
};

static void multiply(struct compute *c, const void *chosen, struct results *r)
{
    const struct linear *t = chosen;
    const size_t inputs = t->rows * t->in_features, outputs = t->rows * t->out_features;
    const size_t weights = (size_t)t->in_features * t->out_features;
    real *inp = random_tensor(1, inputs, 1), *dout = random_tensor(2, outputs, 1);
    real *weight = random_tensor(3, weights, 1), *bias = random_tensor(4, t->out_features, 1);
    real *out = new_result(r, "out", outputs, 77),
         *dweight = new_result(r, "dweight", weights, accumulated_start);
    real *dinp = t->wants_dinp ? new_result(r, "dinp", inputs, 77) : NULL;
    real *dbias = t->has_bias ? new_result(r, "dbias", t->out_features, accumulated_start) : NULL;
    c->linear_forward(c, out, inp, weight, t->has_bias ? bias : NULL, t->rows, t->in_features,
                      t->out_features);
    c->linear_backward(c, dinp, dweight, dbias, dout, inp, weight, t->rows, t->in_features, t->out_features);
    free(inp);
    free(dout);
    free(weight);
    free(bias);
}

static void linear_layers_agree(void **state)
{
    (void)state;
    static const struct linear cases[] = {
        {5, 7, 3, 1, 1},       {1, 1, 1, 1, 1},      {33, 3, 9, 1, 1},     {13824, 12, 36, 1, 1},
        {13824, 48, 12, 1, 1}, {1728, 96, 24, 0, 1}, {216, 48, 192, 1, 1}, {512, 192, 576, 1, 1},
        {27, 384, 96, 1, 1},   {8, 768, 192, 0, 1},  {11, 288, 256, 1, 1}, {22, 256, 256, 1, 0},
        {4, 1152, 1024, 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char name[96];
        snprintf(name, sizeof name, "linear %zu x %d to %d", cases[i].rows, cases[i].in_features,
                 cases[i].out_features);
        hold_against_reference(name, multiply, &cases[i], tolerance);
    }
}

struct layer_norm {
    size_t rows;
    int channels, affine, in_place;
};

static void normalise_rows(struct compute *c, const void *chosen, struct results *r)
{
    const struct layer_norm *t = chosen;
    const size_t count = t->rows * t->channels;
    real *inp = random_tensor(1, count, 1), *dout = random_tensor(2, count, 1);
    real *weight = random_tensor(3, t->channels, 1), *bias = random_tensor(4, t->channels, 1);
    real *out = new_result(r, "out", count, 77), *dinp = new_result(r, "dinp", count, 77);
    real *mean = new_result(r, "mean", t->rows, 77), *rstd = new_result(r, "rstd", t->rows, 77);
    real *dweight = t->affine ? new_result(r, "dweight", t->channels, accumulated_start) : NULL;
    real *dbias = t->affine ? new_result(r, "dbias", t->channels, accumulated_start) : NULL;
    for (size_t k = 0; k < count; k++) {
        inp[k] += 1;
    }
    if (t->in_place) {
        memcpy(dinp, dout, count * sizeof *dinp);
    }
    c->layer_norm_forward(c, out, mean, rstd, inp, t->affine ? weight : NULL, t->affine ? bias : NULL,
                          t->rows, t->channels);
    c->layer_norm_backward(c, dinp, dweight, dbias, t->in_place ? dinp : dout, inp, mean, rstd,
                           t->affine ? weight : NULL, t->rows, t->channels);
    free(inp);
    free(dout);
    free(weight);
    free(bias);
}

static void layer_norms_agree(void **state)
{
    (void)state;
    static const struct layer_norm cases[] = {
        {5, 7, 1, 0},      {5, 7, 0, 1},    {35, 3, 1, 1},    {13824, 12, 1, 0},
        {13824, 12, 0, 0}, {4096, 6, 1, 0}, {1728, 24, 1, 1}, {512, 48, 1, 0},
        {27, 384, 1, 0},   {8, 768, 0, 0},  {64, 192, 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char name[96];
        snprintf(name, sizeof name, "layer_norm %zu x %d", cases[i].rows, cases[i].channels);
        hold_against_reference(name, normalise_rows, &cases[i], tolerance);
    }
}

struct instance_norm {
    int n, space, channels;
    real slope;
    int has_residual, in_place;
};

/* Inputs in two humps around a mean of 3, so that no argument of the activation lies where rounding decides
 * on its sign. */
static void normalise_channels(struct compute *c, const void *chosen, struct results *r)
{
    const struct instance_norm *t = chosen;
    const size_t count = (size_t)t->n * t->space * t->channels, statistics = (size_t)t->n * t->channels;
    real *inp = random_tensor(1, count, 0.2), *dout = random_tensor(2, count, 1);
    real *residual = t->has_residual ? random_tensor(3, count, 0.1) : NULL;
    real *out = new_result(r, "out", count, 77), *dinp = new_result(r, "dinp", count, 77);
    real *mean = new_result(r, "mean", statistics, 77), *rstd = new_result(r, "rstd", statistics, 77);
    real *dresidual = t->has_residual ? new_result(r, "dresidual", count, 77) : NULL;
    for (size_t k = 0; k < count; k++) {
        inp[k] += k / t->channels % 2 == 0 ? 4 : 2;
    }
    if (t->in_place) {
        memcpy(dinp, dout, count * sizeof *dinp);
    }
    c->instance_norm_forward(c, out, mean, rstd, inp, residual, t->slope, t->n, t->space, t->channels);
    c->instance_norm_backward(c, dinp, dresidual, t->in_place ? dinp : dout, t->slope == 1 ? NULL : out, inp,
                              mean, rstd, t->slope, t->n, t->space, t->channels);
    free(inp);
    free(dout);
    free(residual);
}

static void instance_norms_agree(void **state)
{
    (void)state;
    static const struct instance_norm cases[] = {
        {2, 105, 3, 0.01F, 1, 0},     {2, 105, 5, 1, 0, 1},        {3, 105, 7, 0, 0, 0},
        {1, 110592, 12, 0.01F, 0, 0}, {2, 13824, 12, 0.01F, 1, 1}, {1, 13824, 12, 1, 0, 0},
        {1, 32768, 6, 0.01F, 1, 0},   {2, 1728, 24, 0.01F, 1, 0},  {1, 4096, 48, 0.01F, 0, 1},
        {3, 216, 48, 0.01F, 1, 0},    {3, 27, 96, 0.01F, 0, 0},    {11, 8, 192, 0.01F, 1, 0},
        {1, 22, 256, 0, 0, 0},        {1, 11, 1024, 0, 0, 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char name[96];
        snprintf(name, sizeof name, "instance_norm %d x %d x %d, slope %g%s", cases[i].n, cases[i].space,
                 cases[i].channels, (double)cases[i].slope, cases[i].has_residual ? ", residual" : "");
        hold_against_reference(name, normalise_channels, &cases[i], tolerance);
    }
}

struct attention {
    int n, d, h, w, heads, head_dim, odd_block;
};

static void attend(struct compute *c, const void *chosen, struct results *r)
{
    const struct attention *t = chosen;
    const int extent[3] = {t->d, t->h, t->w};
    struct attention_shape s = {
        .n = t->n, .d = t->d, .h = t->h, .w = t->w, .heads = t->heads, .head_dim = t->head_dim};
    for (int axis = 0; axis < 3; axis++) {
        attention_window_of_axis(extent[axis], t->odd_block, &s.window[axis], &s.shift[axis]);
    }
    const size_t tokens = (size_t)t->n * t->d * t->h * t->w, channels = (size_t)t->heads * t->head_dim;
    const size_t table = (size_t)relative_table_rows * t->heads;
    real *qkv = random_tensor(1, tokens * 3 * channels, 1), *qkv_bias = random_tensor(2, 3 * channels, 1);
    real *bias_table = random_tensor(3, table, 1), *dout = random_tensor(4, tokens * channels, 1);
    real *out = new_result(r, "out", tokens * channels, 77);
    real *logsumexp = new_result(r, "logsumexp", tokens * t->heads, 77);
    real *dqkv = new_result(r, "dqkv", tokens * 3 * channels, 77);
    real *dqkv_bias = new_result(r, "dqkv_bias", 3 * channels, accumulated_start);
    real *dbias_table = new_result(r, "dbias_table", table, accumulated_start);
    c->window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, &s);
    c->window_attention_backward(c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias,
                                 bias_table, &s);
    free(qkv);
    free(qkv_bias);
    free(bias_table);
    free(dout);
}

static void window_attentions_agree(void **state)
{
    (void)state;
    static const struct attention cases[] = {
        /* n d h w heads head_dim */
        {2, 5, 3, 7, 2, 3, 1},    {1, 2, 9, 3, 3, 2, 0},    {2, 9, 4, 8, 3, 5, 1},
        {1, 13, 12, 13, 1, 7, 1}, {1, 1, 1, 1, 1, 1, 0},    {1, 24, 24, 24, 3, 4, 1},
        {1, 32, 9, 8, 3, 16, 1},  {2, 12, 12, 12, 6, 4, 1}, {1, 16, 16, 16, 3, 8, 1},
        {1, 12, 12, 12, 3, 2, 1}, {1, 12, 12, 12, 3, 1, 0}, {2, 6, 6, 6, 12, 4, 1},
        {2, 8, 8, 8, 12, 16, 1},  {2, 8, 8, 8, 3, 32, 0},   {3, 3, 3, 3, 24, 4, 0},
        {2, 4, 4, 4, 24, 16, 1},  {3, 2, 2, 2, 24, 8, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct attention *t = &cases[i];
        char name[96];
        snprintf(name, sizeof name, "window_attention %d x (%d %d %d), %d heads of %d, block %d", t->n, t->d,
                 t->h, t->w, t->heads, t->head_dim, t->odd_block);
        hold_against_reference(name, attend, t, tolerance);
    }
}

/* Scores of a few hundred on 12 padded to 14 tokens: masked keys win where they are larger by 100 (see
 * test_window_attention_oracle_f64.c), which a mask of minus infinity, or none, would miss. Every value is a
 * multiple of 1/4 and head_dim is 4, so that scores are exact and rounding decides nothing. */
static void attend_with_large_scores(struct compute *c, const void *chosen, struct results *r)
{
    const struct attention_shape *s = chosen;
    const size_t tokens = (size_t)s->n * s->d * s->h * s->w, channels = (size_t)s->heads * s->head_dim;
    real *qkv = random_tensor(1, tokens * 3 * channels, 40), *qkv_bias = random_tensor(2, 3 * channels, 40);
    real *bias_table = filled_tensor((size_t)relative_table_rows * s->heads, 0.25);
    for (size_t k = 0; k < tokens * 3 * channels; k++) {
        qkv[k] = rintf((float)qkv[k]) / 4;
    }
    for (size_t k = 0; k < 3 * channels; k++) {
        qkv_bias[k] = rintf((float)qkv_bias[k]) / 4;
    }
    real *out = new_result(r, "out", tokens * channels, 77);
    real *logsumexp = new_result(r, "logsumexp", tokens * s->heads, 77);
    c->window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, s);
    free(qkv);
    free(qkv_bias);
    free(bias_table);
}

static void attention_agrees_where_masked_keys_win(void **state)
{
    (void)state;
    static const struct attention_shape shape = {
        .n = 1, .d = 12, .h = 4, .w = 13, .heads = 2, .head_dim = 4, .window = {7, 4, 7}, .shift = {3, 0, 3}};
    hold_against_reference("window_attention with large scores", attend_with_large_scores, &shape, tolerance);
}

static void apply_gelu(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *inp = random_tensor(1, count, 2), *dout = random_tensor(2, count, 1);
    real *out = new_result(r, "out", count, 77), *dinp = new_result(r, "dinp", count, 77);
    real *in_place = new_result(r, "dinp over dout", count, 0);
    memcpy(in_place, dout, count * sizeof *in_place);
    c->gelu_forward(c, out, inp, count);
    c->gelu_backward(c, dinp, dout, inp, count);
    c->gelu_backward(c, in_place, in_place, inp, count);
    free(inp);
    free(dout);
}

/* From far left to far right, where a rational or tabulated error function would show. */
static void sweep_gelu(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *inp = filled_tensor(count, 0), *ones = filled_tensor(count, 1);
    real *out = new_result(r, "out", count, 77), *dinp = new_result(r, "dinp", count, 77);
    for (size_t k = 0; k < count; k++) {
        inp[k] = (real)(-30 + 60 * (double)k / (double)(count - 1));
    }
    c->gelu_forward(c, out, inp, count);
    c->gelu_backward(c, dinp, ones, inp, count);
    free(inp);
    free(ones);
}

static void gelus_agree(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 15, 16, 105, 13824UL * 48};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        char name[64];
        snprintf(name, sizeof name, "gelu %zu", counts[i]);
        hold_against_reference(name, apply_gelu, &counts[i], tolerance);
    }
    hold_against_reference("gelu from -30 to 30", sweep_gelu, &(size_t){6001}, tolerance);
}

struct merging {
    int n, d, h, w, channels;
    enum patch_merging order;
};

static void merge(struct compute *c, const void *chosen, struct results *r)
{
    const struct merging *t = chosen;
    const size_t count = (size_t)t->n * t->d * t->h * t->w * t->channels;
    const size_t merged =
        (size_t)t->n * ((t->d + 1) / 2) * ((t->h + 1) / 2) * ((t->w + 1) / 2) * 8 * t->channels;
    real *inp = random_tensor(1, count, 1), *dout = random_tensor(2, merged, 1);
    real *out = new_result(r, "out", merged, 77), *dinp = new_result(r, "dinp", count, 77);
    c->patch_merge_forward(c, out, inp, t->order, t->n, t->d, t->h, t->w, t->channels);
    c->patch_merge_backward(c, dinp, dout, t->order, t->n, t->d, t->h, t->w, t->channels);
    free(inp);
    free(dout);
}

/* These only copy and add pairs: nothing may differ. */
static void patch_mergings_are_equal(void **state)
{
    (void)state;
    static const int grids[][5] = {{2, 5, 3, 7, 3}, {1, 1, 2, 9, 5}, {2, 24, 24, 24, 12}, {3, 3, 3, 3, 96}};
    for (size_t i = 0; i < COUNT_OF(grids) * 3; i++) {
        const int *g = grids[i / 3];
        const struct merging t = {g[0], g[1], g[2], g[3], g[4], (enum patch_merging)(i % 3)};
        hold_against_reference("patch_merge", merge, &t, 0);
    }
}

struct pool {
    int n, space, channels;
};

static void pool(struct compute *c, const void *chosen, struct results *r)
{
    const struct pool *t = chosen;
    const size_t stride = (size_t)t->channels + 4, count = (size_t)t->n * t->space * t->channels;
    real *inp = random_tensor(1, count, 1), *dout = random_tensor(2, t->n * stride, 1);
    real *out = new_result(r, "out", t->n * stride, 77), *dinp = new_result(r, "dinp", count, 77);
    for (size_t k = 0; k < count; k++) {
        inp[k] += 1;
    }
    c->average_pool_forward(c, out + 3, stride, inp, t->n, t->space, t->channels);
    c->average_pool_backward(c, dinp, dout + 3, stride, t->n, t->space, t->channels);
    free(inp);
    free(dout);
}

static void average_pools_agree(void **state)
{
    (void)state;
    static const struct pool cases[] = {{2, 105, 3},  {1, 110592, 12}, {3, 13824, 6},
                                        {2, 216, 48}, {11, 8, 192},    {2, 1, 5}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        hold_against_reference("average_pool", pool, &cases[i], tolerance);
    }
}

static void update(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *param = new_result(r, "param", count, 1), *exp_avg = new_result(r, "exp_avg", count, 0);
    real *exp_avg_sq = new_result(r, "exp_avg_sq", count, 0),
         *largest = new_result(r, "max_exp_avg_sq", count, 0);
    real *average = new_result(r, "moving_average", count, 2), *sum = new_result(r, "sum", count, 77);
    real *previous = new_result(r, "previous average", count, 77), *zeros = new_result(r, "zero", count, 5);
    real *over_sum = new_result(r, "sum in place", count, 3),
         *squares = new_result(r, "sum_of_squares", 1, 0);
    for (int step = 1; step <= 4; step++) {
        const struct adamw_settings settings = {.learning_rate = 0.01,
                                                .beta1 = 0.9,
                                                .beta2 = 0.9,
                                                .epsilon = 1e-8,
                                                .weight_decay = 0.01,
                                                .step = step,
                                                .gradient_scale = step == 3 ? 0.37 : 1};
        real *grad = random_tensor(10 + step, count, step == 1 ? 3 : 0.1);
        c->adamw_step(c, param, exp_avg, exp_avg_sq, largest, grad, &settings, count);
        c->moving_average(c, average, step < 4 ? previous : NULL, param, (real)0.9, count);
        c->add(c, sum, param, grad, count);
        c->add(c, over_sum, over_sum, grad, count);
        squares[0] += (real)c->sum_of_squares(c, grad, count);
        c->zero(c, zeros, count);
        free(grad);
    }
}

static void optimisers_and_sums_agree(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 7, 105, 100003};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        char name[64];
        snprintf(name, sizeof name, "adamw and sums %zu", counts[i]);
        hold_against_reference(name, update, &counts[i], tolerance);
    }
}

static void sums_of_squares_show_what_is_not_finite(void **state)
{
    (void)state;
    enum { count = 1003 };
    struct compute c;
    real *x = random_tensor(1, count, 1);
    open_implementation(&c, "cpu", 2);
    x[0] = (real)1e30;
    assert_true(c.sum_of_squares(&c, x, count) > 0.99e60 && c.sum_of_squares(&c, x, count) < 1.01e60);
    for (int k = 0; k < count; k += 167) {
        const real kept = x[k];
        x[k] = (real)-INFINITY;
        assert_true(isinf(c.sum_of_squares(&c, x, count)));
        x[k] = (real)NAN;
        assert_true(isnan(c.sum_of_squares(&c, x, count)));
        x[k] = kept;
    }
    free(x);
    compute_close(&c);
}

/* A weight that changes in place, as the optimiser changes it, is seen after parameters_changed. */
static void changed_parameters_are_used(void **state)
{
    (void)state;
    enum { rows = 8, features = 48 };
    struct compute c;
    open_implementation(&c, "cpu", 2);
    const struct conv3d_shape shape = {rows, 2, 2, 2, 1, features, 2, 2};
    real *inp = random_tensor(1, rows * features, 1), *weight = random_tensor(2, features * features, 1);
    real *before = filled_tensor(rows * features, 0), *after = filled_tensor(rows * features, 0);
    for (int convolution = 0; convolution < 2; convolution++) {
        for (int turn = 0; turn < 2; turn++) {
            real *out = turn == 0 ? before : after;
            if (convolution) {
                c.conv3d_forward(&c, out, inp, weight, NULL, &shape);
            } else {
                c.linear_forward(&c, out, inp, weight, NULL, rows, features, features);
            }
            for (int k = 0; k < features * features; k++) {
                weight[k] *= 2;
            }
            c.parameters_changed(&c);
        }
        for (int k = 0; k < rows * features; k++) {
            before[k] *= 2;
        }
        assert_true(relative_difference(after, before, rows * features) < tolerance);
    }
    require_no_failure(&c);
    free(inp);
    free(weight);
    free(before);
    free(after);
    compute_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_agree),
        cmocka_unit_test(linear_layers_agree),
        cmocka_unit_test(layer_norms_agree),
        cmocka_unit_test(instance_norms_agree),
        cmocka_unit_test(window_attentions_agree),
        cmocka_unit_test(attention_agrees_where_masked_keys_win),
        cmocka_unit_test(gelus_agree),
        cmocka_unit_test(patch_mergings_are_equal),
        cmocka_unit_test(average_pools_agree),
        cmocka_unit_test(optimisers_and_sums_agree),
        cmocka_unit_test(sums_of_squares_show_what_is_not_finite),
        cmocka_unit_test(changed_parameters_are_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
