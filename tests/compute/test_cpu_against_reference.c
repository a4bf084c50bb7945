/* Every operation of the cpu implementation against the reference, forward and backward, in float: on odd
 * sizes and on those of the network (voco.md section 2; R = 48 and 64, C = 3 to 48), with 1 to 3 threads and
 * every build of the kernels, twice for equal bits; with activations in float32 and in bf16. */
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

/* See kernels/winograd.h. */
static const double winograd_tolerance = 8e-3;

/* What backward computes in bf16 from an output that was rounded. */
static const double after_rounding = 4e-3;

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
    activation *inp = given_activations(r, random_tensor(1, inputs, 1), inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    real *weight = given_reals(r, random_tensor(3, weights, 1), weights);
    real *bias = given_reals(r, random_tensor(4, s->out_channels, 1), s->out_channels);
    activation *out = new_activations(r, "out", outputs, 77);
    real *dweight = new_result(r, "dweight", weights, accumulated_start);
    activation *dinp = t->wants_dinp ? new_activations(r, "dinp", inputs, 77) : NULL;
    real *dbias = t->has_bias ? new_result(r, "dbias", s->out_channels, accumulated_start) : NULL;
    c->conv3d_forward(c, out, inp, weight, t->has_bias ? bias : NULL, s);
    c->conv3d_backward(c, dinp, dweight, dbias, dout, inp, weight, s);
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
        const int by_winograd = s->in_channels >= 16 && s->d > 4;
        hold_bf16_against_reference(name, convolve, &cases[i],
                                    by_winograd ? winograd_tolerance : bf16_tolerance,
                                    by_winograd ? winograd_tolerance : tolerance);
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
    activation *inp = given_activations(r, random_tensor(1, inputs, 1), inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    real *weight = given_reals(r, random_tensor(3, weights, 1), weights);
    real *bias = given_reals(r, random_tensor(4, t->out_features, 1), t->out_features);
    activation *out = new_activations(r, "out", outputs, 77);
    real *dweight = new_result(r, "dweight", weights, accumulated_start);
    activation *dinp = t->wants_dinp ? new_activations(r, "dinp", inputs, 77) : NULL;
    real *dbias = t->has_bias ? new_result(r, "dbias", t->out_features, accumulated_start) : NULL;
    c->linear_forward(c, out, inp, weight, t->has_bias ? bias : NULL, t->rows, t->in_features,
                      t->out_features);
    c->linear_backward(c, dinp, dweight, dbias, dout, inp, weight, t->rows, t->in_features, t->out_features);
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
        hold_bf16_against_reference(name, multiply, &cases[i], bf16_tolerance, tolerance);
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
    real *values = random_tensor(1, count, 1);
    for (size_t k = 0; k < count; k++) {
        values[k] += 1;
    }
    activation *inp = given_activations(r, values, count);
    activation *dout = given_activations(r, random_tensor(2, count, 1), count);
    real *weight = given_reals(r, random_tensor(3, t->channels, 1), t->channels);
    real *bias = given_reals(r, random_tensor(4, t->channels, 1), t->channels);
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    real *mean = new_result(r, "mean", t->rows, 77);
    real *rstd = new_result(r, "rstd", t->rows, 77);
    real *dweight = t->affine ? new_result(r, "dweight", t->channels, accumulated_start) : NULL;
    real *dbias = t->affine ? new_result(r, "dbias", t->channels, accumulated_start) : NULL;
    if (t->in_place) {
        memcpy(dinp, dout, count * c->activation_size);
    }
    c->layer_norm_forward(c, out, mean, rstd, inp, t->affine ? weight : NULL, t->affine ? bias : NULL,
                          t->rows, t->channels);
    c->layer_norm_backward(c, dinp, dweight, dbias, t->in_place ? dinp : dout, inp, mean, rstd,
                           t->affine ? weight : NULL, t->rows, t->channels);
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
        hold_bf16_against_reference(name, normalise_rows, &cases[i], bf16_tolerance, tolerance);
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
    real *values = random_tensor(1, count, 0.2);
    for (size_t k = 0; k < count; k++) {
        values[k] += k / t->channels % 2 == 0 ? 4 : 2;
    }
    activation *inp = given_activations(r, values, count);
    activation *dout = given_activations(r, random_tensor(2, count, 1), count);
    activation *residual = t->has_residual ? given_activations(r, random_tensor(3, count, 0.1), count) : NULL;
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    real *mean = new_result(r, "mean", statistics, 77);
    real *rstd = new_result(r, "rstd", statistics, 77);
    activation *dresidual = t->has_residual ? new_activations(r, "dresidual", count, 77) : NULL;
    if (t->in_place) {
        memcpy(dinp, dout, count * c->activation_size);
    }
    c->instance_norm_forward(c, out, mean, rstd, inp, residual, t->slope, t->n, t->space, t->channels);
    c->instance_norm_backward(c, dinp, dresidual, t->in_place ? dinp : dout, t->slope == 1 ? NULL : out, inp,
                              mean, rstd, t->slope, t->n, t->space, t->channels);
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
        hold_bf16_against_reference(name, normalise_channels, &cases[i], bf16_tolerance, tolerance);
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
    activation *qkv = given_activations(r, random_tensor(1, tokens * 3 * channels, 1), tokens * 3 * channels);
    real *qkv_bias = given_reals(r, random_tensor(2, 3 * channels, 1), 3 * channels);
    real *bias_table = given_reals(r, random_tensor(3, table, 1), table);
    activation *dout = given_activations(r, random_tensor(4, tokens * channels, 1), tokens * channels);
    activation *out = new_activations(r, "out", tokens * channels, 77);
    real *logsumexp = new_result(r, "logsumexp", tokens * t->heads, 77);
    activation *dqkv = new_activations(r, "dqkv", tokens * 3 * channels, 77);
    real *dqkv_bias = new_result(r, "dqkv_bias", 3 * channels, accumulated_start);
    real *dbias_table = new_result(r, "dbias_table", table, accumulated_start);
    c->window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, &s);
    c->window_attention_backward(c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias,
                                 bias_table, &s);
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
        hold_bf16_against_reference(name, attend, t, bf16_tolerance, after_rounding);
    }
}

/* Scores of a few hundred on 12 padded to 14 tokens: masked keys win where they are larger by 100 (see
 * test_window_attention_oracle_f64.c), which a mask of minus infinity, or none, would miss. Every value is a
 * multiple of 1/4 and head_dim is 4, so that scores are exact and rounding decides nothing. */
static void attend_with_large_scores(struct compute *c, const void *chosen, struct results *r)
{
    const struct attention_shape *s = chosen;
    const size_t tokens = (size_t)s->n * s->d * s->h * s->w, channels = (size_t)s->heads * s->head_dim;
    const size_t count = tokens * 3 * channels;
    real *values = random_tensor(1, count, 40), *biases = random_tensor(2, 3 * channels, 40);
    for (size_t k = 0; k < count; k++) {
        values[k] = rintf((float)values[k]) / 4;
    }
    for (size_t k = 0; k < 3 * channels; k++) {
        biases[k] = rintf((float)biases[k]) / 4;
    }
    activation *qkv = given_activations(r, values, count);
    real *qkv_bias = given_reals(r, biases, 3 * channels);
    real *bias_table = given_reals(r, filled_tensor((size_t)relative_table_rows * s->heads, 0.25),
                                   (size_t)relative_table_rows * s->heads);
    activation *out = new_activations(r, "out", tokens * channels, 77);
    real *logsumexp = new_result(r, "logsumexp", tokens * s->heads, 77);
    c->window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, s);
}

static void attention_agrees_where_masked_keys_win(void **state)
{
    (void)state;
    static const struct attention_shape shape = {
        .n = 1, .d = 12, .h = 4, .w = 13, .heads = 2, .head_dim = 4, .window = {7, 4, 7}, .shift = {3, 0, 3}};
    hold_against_reference("window_attention with large scores", attend_with_large_scores, &shape, tolerance);
    hold_bf16_against_reference("window_attention with large scores", attend_with_large_scores, &shape,
                                bf16_tolerance, tolerance);
}

static void apply_gelu(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    activation *inp = given_activations(r, random_tensor(1, count, 2), count);
    activation *dout = given_activations(r, random_tensor(2, count, 1), count);
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    activation *in_place = new_activations(r, "dinp over dout", count, 0);
    memcpy(in_place, dout, count * c->activation_size);
    c->gelu_forward(c, out, inp, count);
    c->gelu_backward(c, dinp, dout, inp, count);
    c->gelu_backward(c, in_place, in_place, inp, count);
}

/* From far left to far right, where a rational or tabulated error function would show. */
static void sweep_gelu(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *values = filled_tensor(count, 0);
    for (size_t k = 0; k < count; k++) {
        values[k] = (real)(-30 + 60 * (double)k / (double)(count - 1));
    }
    activation *inp = given_activations(r, values, count);
    activation *ones = given_activations(r, filled_tensor(count, 1), count);
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    c->gelu_forward(c, out, inp, count);
    c->gelu_backward(c, dinp, ones, inp, count);
}

static void gelus_agree(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 15, 16, 105, 13824UL * 48};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        char name[64];
        snprintf(name, sizeof name, "gelu %zu", counts[i]);
        hold_against_reference(name, apply_gelu, &counts[i], tolerance);
        hold_bf16_against_reference(name, apply_gelu, &counts[i], bf16_tolerance, tolerance);
    }
    hold_against_reference("gelu from -30 to 30", sweep_gelu, &(size_t){6001}, tolerance);
    hold_bf16_against_reference("gelu from -30 to 30", sweep_gelu, &(size_t){6001}, bf16_tolerance,
                                tolerance);
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
    activation *inp = given_activations(r, random_tensor(1, count, 1), count);
    activation *dout = given_activations(r, random_tensor(2, merged, 1), merged);
    activation *out = new_activations(r, "out", merged, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    c->patch_merge_forward(c, out, inp, t->order, t->n, t->d, t->h, t->w, t->channels);
    c->patch_merge_backward(c, dinp, dout, t->order, t->n, t->d, t->h, t->w, t->channels);
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
        hold_bf16_against_reference("patch_merge", merge, &t, bf16_tolerance, tolerance);
    }
}

struct pool {
    int n, space, channels, scaled;
};

/* Inputs in two humps, as in normalise_channels; a residual of one channel lies around 3. */
static void normalise_and_pool(struct compute *c, const void *chosen, struct results *r)
{
    const struct pool *t = chosen;
    const size_t stride = (size_t)t->channels + 4, rows = (size_t)t->n * t->space,
                 moments = (size_t)t->n * t->channels;
    const size_t count = rows * t->channels, residuals = t->scaled ? rows : count;
    real *values = random_tensor(1, count, 0.2), *added = random_tensor(3, residuals, 0.1);
    for (size_t k = 0; k < count; k++) {
        values[k] += k / t->channels % 2 == 0 ? 4 : 2;
    }
    for (size_t k = 0; k < residuals && t->scaled; k++) {
        added[k] += 3;
    }
    activation *inp = given_activations(r, values, count);
    const struct pooled_residual residual = {
        .x = given_activations(r, added, residuals),
        .scale = t->scaled ? given_reals(r, random_tensor(4, moments, 1), moments) : NULL,
        .centre = t->scaled ? given_reals(r, filled_tensor(t->n, 3), t->n) : NULL};
    real *dpooled = given_reals(r, random_tensor(2, t->n * stride, 1), t->n * stride);
    real *mean = new_result(r, "mean", moments, 77), *rstd = new_result(r, "rstd", moments, 77);
    real *pooled = new_result(r, "pooled", t->n * stride, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    activation *dresidual = t->scaled ? NULL : new_activations(r, "dresidual", count, 77);
    real *dscale = t->scaled ? new_result(r, "dscale", moments, 77) : NULL;
    const struct norm_activation norm = {.mean = mean, .rstd = rstd, .slope = (real)0.01};
    c->instance_norm_moments(c, mean, rstd, inp, t->n, t->space, t->channels);
    c->pooled_norm_forward(c, pooled + 3, stride, inp, &norm, &residual, t->n, t->space, t->channels);
    c->pooled_norm_backward(c, dinp, dresidual, dscale, dpooled + 3, stride, inp, &norm, &residual, t->n,
                            t->space, t->channels);
}

static void pooled_norms_agree(void **state)
{
    (void)state;
    static const struct pool cases[] = {{2, 105, 3, 0},   {2, 105, 5, 1},  {1, 110592, 12, 1},
                                        {3, 13824, 6, 0}, {2, 216, 48, 0}, {11, 8, 192, 0},
                                        {2, 5, 5, 1}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char name[64];
        snprintf(name, sizeof name, "pooled_norm %d x %d x %d%s", cases[i].n, cases[i].space,
                 cases[i].channels, cases[i].scaled ? ", scaled residual" : "");
        hold_against_reference(name, normalise_and_pool, &cases[i], tolerance);
        hold_bf16_against_reference(name, normalise_and_pool, &cases[i], bf16_tolerance, bf16_tolerance);
    }
}

struct normed_convolution {
    struct conv3d_shape shape;
    int normed;
};

/* Inputs in two humps, as in normalise_channels. */
static void normalise_and_convolve(struct compute *c, const void *chosen, struct results *r)
{
    const struct normed_convolution *t = chosen;
    const struct conv3d_shape *s = &t->shape;
    const size_t space = (size_t)s->d * s->h * s->w, rows = s->n * space;
    const size_t inputs = rows * s->in_channels, outputs = rows * s->out_channels;
    const size_t weights = (size_t)27 * s->in_channels * s->out_channels;
    real *values = random_tensor(1, inputs, 0.2);
    for (size_t k = 0; k < inputs; k++) {
        values[k] += k / s->in_channels % 2 == 0 ? 1 : -1;
    }
    activation *inp = given_activations(r, values, inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    const real *weight = given_reals(r, random_tensor(3, weights, 0.1), weights);
    activation *work = given_activations(r, filled_tensor(inputs, 77), inputs);
    real *inp_mean = new_result(r, "mean of inp", (size_t)s->n * s->in_channels, 77);
    real *inp_rstd = new_result(r, "rstd of inp", (size_t)s->n * s->in_channels, 77);
    activation *out = new_activations(r, "out", outputs, 77);
    real *mean = new_result(r, "mean", (size_t)s->n * s->out_channels, 77);
    real *rstd = new_result(r, "rstd", (size_t)s->n * s->out_channels, 77);
    activation *dinp = new_activations(r, "dinp", inputs, 77);
    real *dweight = new_result(r, "dweight", weights, accumulated_start);
    const struct norm_activation norm = {.mean = inp_mean, .rstd = inp_rstd, .slope = (real)0.01};
    c->instance_norm_moments(c, inp_mean, inp_rstd, inp, s->n, space, s->in_channels);
    c->normed_conv3d_forward(c, out, mean, rstd, inp, t->normed ? &norm : NULL, work, weight, s);
    c->normed_conv3d_backward(c, dinp, dweight, dout, inp, t->normed ? &norm : NULL, work, weight, s);
    take_off_start(dweight, weights);
}

/* By Winograd's algorithm, by oneDNN and by products over small grids; even and odd sides. */
static void normed_convolutions_agree(void **state)
{
    (void)state;
    static const struct normed_convolution cases[] = {
        {{2, 8, 8, 8, 12, 12, 3, 1}, 1},   {{1, 7, 5, 9, 48, 48, 3, 1}, 1},
        {{3, 6, 6, 6, 20, 33, 3, 1}, 1},   {{2, 7, 6, 5, 16, 12, 3, 1}, 0},
        {{2, 9, 4, 6, 1, 12, 3, 1}, 0},    {{2, 6, 5, 7, 5, 6, 3, 1}, 1},
        {{3, 2, 2, 2, 192, 192, 3, 1}, 1}, {{1, 22, 10, 12, 24, 24, 3, 1}, 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct conv3d_shape *s = &cases[i].shape;
        char name[96];
        snprintf(name, sizeof name, "normed_conv3d %d x (%d %d %d), %d to %d%s", s->n, s->d, s->h, s->w,
                 s->in_channels, s->out_channels, cases[i].normed ? "" : ", no norm");
        hold_against_reference(name, normalise_and_convolve, &cases[i], tolerance);
        hold_bf16_against_reference(name, normalise_and_convolve, &cases[i], 8e-3, 8e-3);
    }
}

static void update(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *param = new_result(r, "param", count, 1);
    real *exp_avg = new_result(r, "exp_avg", count, 0);
    real *exp_avg_sq = new_result(r, "exp_avg_sq", count, 0);
    real *largest = new_result(r, "max_exp_avg_sq", count, 0);
    real *average = new_result(r, "moving_average", count, 2);
    real *previous = new_result(r, "previous average", count, 77);
    real *zeros = new_result(r, "zero", count, 5);
    real *squares = new_result(r, "sum_of_squares", 1, 0);
    for (int step = 1; step <= 4; step++) {
        const struct adamw_settings settings = {.learning_rate = 0.01,
                                                .beta1 = 0.9,
                                                .beta2 = 0.9,
                                                .epsilon = 1e-8,
                                                .weight_decay = 0.01,
                                                .step = step,
                                                .gradient_scale = step == 3 ? 0.37 : 1};
        real *grad = given_reals(r, random_tensor(10 + step, count, step == 1 ? 3 : 0.1), count);
        c->adamw_step(c, param, exp_avg, exp_avg_sq, largest, grad, &settings, count);
        c->moving_average(c, average, step < 4 ? previous : NULL, param, (real)0.9, count);
        squares[0] += (real)c->sum_of_squares(c, grad, count);
        c->zero(c, zeros, count);
    }
}

static void add(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    activation *a = given_activations(r, random_tensor(1, count, 1), count);
    activation *b = given_activations(r, random_tensor(2, count, 1), count);
    activation *sum = new_activations(r, "sum", count, 77),
               *over_sum = new_activations(r, "in place", count, 3);
    c->add(c, sum, a, b, count);
    c->add(c, over_sum, over_sum, b, count);
}

static void optimisers_and_sums_agree(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 7, 105, 100003};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        char name[64];
        snprintf(name, sizeof name, "adamw and sums %zu", counts[i]);
        hold_against_reference(name, update, &counts[i], tolerance);
        hold_against_reference("add", add, &counts[i], 0);
        hold_bf16_against_reference("add", add, &counts[i], bf16_tolerance, tolerance);
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
                c.conv3d_forward(&c, as_activations(out), as_activations(inp), weight, NULL, &shape);
            } else {
                c.linear_forward(&c, as_activations(out), as_activations(inp), weight, NULL, rows, features,
                                 features);
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
        cmocka_unit_test(pooled_norms_agree),
        cmocka_unit_test(normed_convolutions_agree),
        cmocka_unit_test(optimisers_and_sums_agree),
        cmocka_unit_test(sums_of_squares_show_what_is_not_finite),
        cmocka_unit_test(changed_parameters_are_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
