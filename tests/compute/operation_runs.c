#include "operation_runs.h"

#include "tensors.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

void convolve(struct compute *c, const void *chosen, struct results *r)
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

void multiply(struct compute *c, const void *chosen, struct results *r)
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

void multiply_and_more(struct compute *c, const void *chosen, struct results *r)
{
    const struct linear *t = chosen;
    const size_t inputs = t->rows * t->in_features, outputs = t->rows * t->out_features;
    const size_t weights = (size_t)t->in_features * t->out_features;
    activation *inp = given_activations(r, random_tensor(1, inputs, 1), inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    real *weight = given_reals(r, random_tensor(3, weights, 1 / sqrt(t->in_features)), weights);
    real *bias = given_reals(r, random_tensor(4, t->out_features, 1), t->out_features);
    activation *residual = given_activations(r, random_tensor(5, outputs, 1), outputs);
    activation *wide = given_activations(r, random_tensor(6, inputs, 1), inputs);
    activation *out = new_activations(r, "out", outputs, 77);
    activation *activated = new_activations(r, "activated", outputs, 77);
    activation *sum = new_activations(r, "out + residual", outputs, 77);
    real *dweight = new_result(r, "dweight", weights, accumulated_start);
    activation *dwide = t->wants_dinp ? new_activations(r, "dwide", inputs, 77) : NULL;
    real *dbias = t->has_bias ? new_result(r, "dbias", t->out_features, accumulated_start) : NULL;
    c->linear_gelu_forward(c, out, activated, inp, weight, t->has_bias ? bias : NULL, t->rows, t->in_features,
                           t->out_features);
    c->linear_add_forward(c, sum, inp, weight, t->has_bias ? bias : NULL, residual, t->rows, t->in_features,
                          t->out_features);
    c->linear_gelu_backward(c, dwide, dweight, dbias, dout, inp, wide, weight, t->rows, t->in_features,
                            t->out_features);
}

void normalise_and_multiply(struct compute *c, const void *chosen, struct results *r)
{
    if (c->normed_linear_forward == NULL) {
        return;
    }
    const struct normed_linear_of_rows *t = chosen;
    const size_t in = t->in_features, out_features = t->out_features;
    const size_t inputs = t->rows * in, outputs = t->rows * out_features, weights = in * out_features;
    activation *x = given_activations(r, random_tensor(1, inputs, 1), inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    activation *residual = given_activations(r, random_tensor(3, inputs, 1), inputs);
    const struct normed_linear layer = {
        .in_features = t->in_features,
        .out_features = t->out_features,
        .norm_weight = given_reals(r, random_tensor(4, in, 1), in),
        .norm_bias = given_reals(r, random_tensor(5, in, 1), in),
        .weight = given_reals(r, random_tensor(6, weights, 1 / sqrt(t->in_features)), weights),
        .bias = given_reals(r, random_tensor(7, out_features, 1), out_features),
    };
    activation *out = new_activations(r, "out", outputs, 77);
    activation *dx = new_activations(r, "dx", inputs, 77);
    const struct normed_linear_gradients gradients = {
        .norm_weight = new_result(r, "dnorm_weight", in, accumulated_start),
        .norm_bias = new_result(r, "dnorm_bias", in, accumulated_start),
        .weight = new_result(r, "dweight", weights, accumulated_start),
        .bias = new_result(r, "dbias", out_features, accumulated_start),
    };
    c->normed_linear_forward(c, out, x, &layer, t->rows);
    c->normed_linear_backward(c, dx, &gradients, dout, x, residual, &layer, t->rows);
}

void pass_through_mlp(struct compute *c, const void *chosen, struct results *r)
{
    if (c->mlp_forward == NULL) {
        return;
    }
    const struct mlp_of_rows *t = chosen;
    const size_t channels = t->channels, hidden = t->hidden, size = t->rows * channels;
    const size_t weights = channels * hidden;
    activation *x = given_activations(r, random_tensor(1, size, 1), size);
    activation *dout = given_activations(r, random_tensor(2, size, 1), size);
    const struct mlp mlp = {
        .channels = t->channels,
        .hidden = t->hidden,
        .norm_weight = given_reals(r, random_tensor(3, channels, 1), channels),
        .norm_bias = given_reals(r, random_tensor(4, channels, 1), channels),
        .weight1 = given_reals(r, random_tensor(5, weights, 1 / sqrt(t->channels)), weights),
        .bias1 = given_reals(r, random_tensor(6, hidden, 1), hidden),
        .weight2 = given_reals(r, random_tensor(7, weights, 1 / sqrt(t->hidden)), weights),
        .bias2 = given_reals(r, random_tensor(8, channels, 1), channels),
    };
    activation *out = new_activations(r, "out", size, 77);
    activation *dx = new_activations(r, "dx", size, 77);
    const struct mlp_gradients gradients = {
        .norm_weight = new_result(r, "dnorm_weight", channels, accumulated_start),
        .norm_bias = new_result(r, "dnorm_bias", channels, accumulated_start),
        .weight1 = new_result(r, "dweight1", weights, accumulated_start),
        .bias1 = new_result(r, "dbias1", hidden, accumulated_start),
        .weight2 = new_result(r, "dweight2", weights, accumulated_start),
        .bias2 = new_result(r, "dbias2", channels, accumulated_start),
    };
    c->mlp_forward(c, out, x, &mlp, t->rows);
    c->mlp_backward(c, dx, &gradients, dout, x, &mlp, t->rows);
}

void normalise_rows(struct compute *c, const void *chosen, struct results *r)
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
    activation *residual = t->has_residual ? given_activations(r, random_tensor(5, count, 1), count) : NULL;
    if (t->in_place) {
        c->copy(c, dinp, dout, count * c->activation_size);
    }
    c->layer_norm_forward(c, out, mean, rstd, inp, t->affine ? weight : NULL, t->affine ? bias : NULL,
                          t->rows, t->channels);
    c->layer_norm_backward(c, dinp, dweight, dbias, t->in_place ? dinp : dout, inp, mean, rstd,
                           t->affine ? weight : NULL, residual, t->rows, t->channels);
}

/* Inputs in two humps around a mean of 3, so that no argument of the activation lies where rounding decides
 * on its sign. */
void normalise_channels(struct compute *c, const void *chosen, struct results *r)
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
        c->copy(c, dinp, dout, count * c->activation_size);
    }
    c->instance_norm_forward(c, out, mean, rstd, inp, residual, t->slope, t->n, t->space, t->channels);
    c->instance_norm_backward(c, dinp, dresidual, t->in_place ? dinp : dout, t->slope == 1 ? NULL : out, inp,
                              mean, rstd, t->slope, t->n, t->space, t->channels);
}

void attend(struct compute *c, const void *chosen, struct results *r)
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

/* Every value is a multiple of 1/4 and head_dim a power of 4, so that scores are exact and rounding decides
 * nothing. The first token's values are `first` times as large as the last one's. */
static void attend_exactly(struct compute *c, const struct attention_shape *s, double first,
                           struct results *r)
{
    const size_t tokens = (size_t)s->n * s->d * s->h * s->w, channels = (size_t)s->heads * s->head_dim;
    const size_t count = tokens * 3 * channels;
    real *values = random_tensor(1, count, 40), *biases = random_tensor(2, 3 * channels, 40);
    for (size_t k = 0; k < count; k++) {
        const size_t token = k / (3 * channels);
        const double passed = (double)token / (double)tokens;
        values[k] = rintf((float)(values[k] * (first + (1 - first) * passed))) / 4;
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

/* Scores of a few hundred on 12 padded to 14 tokens: masked keys win where they are larger by 100 (see
 * test_window_attention_oracle_f64.c), which a mask of minus infinity, or none, would miss. */
void attend_with_large_scores(struct compute *c, const void *chosen, struct results *r)
{
    attend_exactly(c, chosen, 1, r);
}

/* From next to nothing to a few hundred: some queries' exponentials overflow unless the largest score is
 * taken off first, others' do not. */
void attend_with_growing_scores(struct compute *c, const void *chosen, struct results *r)
{
    attend_exactly(c, chosen, 0, r);
}

void apply_gelu(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    activation *inp = given_activations(r, random_tensor(1, count, 2), count);
    activation *dout = given_activations(r, random_tensor(2, count, 1), count);
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    activation *in_place = new_activations(r, "dinp over dout", count, 0);
    c->copy(c, in_place, dout, count * c->activation_size);
    c->gelu_forward(c, out, inp, count);
    c->gelu_backward(c, dinp, dout, inp, count);
    c->gelu_backward(c, in_place, in_place, inp, count);
}

/* From far left to far right, where a rational or tabulated error function would show. */
void sweep_gelu(struct compute *c, const void *chosen, struct results *r)
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

void merge(struct compute *c, const void *chosen, struct results *r)
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

/* Inputs in two humps, as in normalise_channels; a residual of one channel lies around 3. */
void normalise_and_pool(struct compute *c, const void *chosen, struct results *r)
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
    real *bends = new_result(r, "bends", 3 * moments, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    activation *dresidual = t->scaled ? NULL : new_activations(r, "dresidual", count, 77);
    real *dscale = t->scaled ? new_result(r, "dscale", moments, 77) : NULL;
    const struct norm_activation norm = {.mean = mean, .rstd = rstd, .slope = (real)0.01};
    c->instance_norm_moments(c, mean, rstd, inp, t->n, t->space, t->channels);
    c->pooled_norm_forward(c, pooled + 3, stride, bends, inp, &norm, &residual, t->n, t->space, t->channels);
    c->pooled_norm_backward(c, dinp, dresidual, dscale, dpooled + 3, stride, bends, inp, &norm, &residual,
                            t->n, t->space, t->channels);
}

/* Inputs in two humps, as in normalise_channels. */
void normalise_and_convolve(struct compute *c, const void *chosen, struct results *r)
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
    real *dweight = new_sum(r, "dweight", weights);
    const struct norm_activation norm = {.mean = inp_mean, .rstd = inp_rstd, .slope = (real)0.01};
    c->instance_norm_moments(c, inp_mean, inp_rstd, inp, s->n, space, s->in_channels);
    c->normed_conv3d_forward(c, out, mean, rstd, inp, t->normed ? &norm : NULL, work, weight, s);
    c->normed_conv3d_backward(c, dinp, dweight, dout, inp, t->normed ? &norm : NULL, work, weight, s);
}

/* A chessboard with noise, and a first convolution whose middle tap is by far the largest: what it gives is
 * nowhere near its mean, where activations bend. The noise is most of what the norm leaves of dweight1: with
 * much less of it, the reference's own roundings to bf16 would be a larger part than tests allow. */
void convolve_twice_from_one_channel(struct compute *c, const void *chosen, struct results *r)
{
    const struct conv3d_shape *s = chosen;
    const struct conv3d_shape first = {s->n, s->d, s->h, s->w, 1, s->in_channels, 3, 1};
    const size_t rows = (size_t)s->n * s->d * s->h * s->w, between_size = rows * s->in_channels;
    const size_t weights = (size_t)27 * s->in_channels * s->out_channels, outputs = rows * s->out_channels;
    const size_t moments = (size_t)s->n * s->in_channels, first_weights = (size_t)27 * s->in_channels;
    real *values = random_tensor(1, rows, 1), *taps = random_tensor(2, first_weights, 0.03);
    for (size_t k = 0; k < rows; k++) {
        const size_t line = k / s->w, plane = line / s->h;
        const real noise = values[k] > 0 ? (real)0.3 : (real)-0.3; /* so that none is near 1 */
        values[k] = noise + ((k % s->w + line % s->h + plane % s->d) % 2 == 0 ? 2 : 0);
    }
    for (int channel = 0; channel < s->in_channels; channel++) {
        taps[channel * 27 + 13] = channel % 3 == 0 ? -1 : 1;
    }
    const activation *x = given_activations(r, values, rows);
    const real *weight1 = given_reals(r, taps, first_weights);
    const real *weight2 = given_reals(r, random_tensor(3, weights, 0.1), weights);
    const activation *dout = given_activations(r, random_tensor(4, outputs, 1), outputs);
    activation *between = given_activations(r, filled_tensor(between_size, 77), between_size);
    activation *dbetween = given_activations(r, filled_tensor(between_size, 77), between_size);
    activation *work = given_activations(r, filled_tensor(between_size, 77), between_size);
    real *mean = given_reals(r, filled_tensor(moments, 77), moments);
    real *rstd = given_reals(r, filled_tensor(moments, 77), moments);
    real *dweight1 = new_sum(r, "dweight1", first_weights), *dweight2 = new_sum(r, "dweight2", weights);
    const struct norm_activation norm = {.mean = mean, .rstd = rstd, .slope = (real)0.01};
    c->normed_conv3d_forward(c, between, mean, rstd, x, NULL, NULL, weight1, &first);
    c->normed_conv3d_pair_backward(c, dweight1, dweight2, dbetween, dout, between, &norm, work, x, weight1,
                                   weight2, s);
}

void update(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *param = new_result(r, "param", count, 1);
    real *exp_avg = new_result(r, "exp_avg", count, 0);
    real *exp_avg_sq = new_result(r, "exp_avg_sq", count, 0);
    real *largest = new_result(r, "max_exp_avg_sq", count, 0);
    real *average = new_result(r, "moving_average", count, 2);
    real *previous = new_result(r, "previous average", count, 77);
    real *zeros = new_result(r, "zero", count, 5);
    real *squares = new_number(r, "sum_of_squares");
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
        *squares += (real)c->sum_of_squares(c, grad, count);
        c->zero(c, zeros, count);
    }
}

void add(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    activation *a = given_activations(r, random_tensor(1, count, 1), count);
    activation *b = given_activations(r, random_tensor(2, count, 1), count);
    activation *sum = new_activations(r, "sum", count, 77),
               *over_sum = new_activations(r, "in place", count, 3);
    c->add(c, sum, a, b, count);
    c->add(c, over_sum, over_sum, b, count);
}

/* A third is masked, whatever it was. */
void mask(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *values = random_tensor(1, count, 1), *factors = filled_tensor(count, 1.25);
    for (size_t k = 0; k < count; k += 3) {
        factors[k] = 0;
        values[k] = k % 2 == 0 ? values[k] : INFINITY;
    }
    real *inp = given_reals(r, values, count), *factor = given_reals(r, factors, count);
    real *out = new_result(r, "masked", count, 77), *over = new_result(r, "in place", count, 3);
    c->apply_mask(c, out, inp, factor, count);
    c->apply_mask(c, over, over, factor, count);
}

/* Rows that lean to one side, so that most cosines are positive, and one of zeros. */
static real *rows_to_compare(uint32_t seed, const struct contrast_shape *s)
{
    const size_t width = (size_t)s->width;
    const size_t rows = (size_t)s->volumes * (size_t)(s->crops + s->bases);
    real *values = random_tensor(seed, rows * width, 1);
    for (size_t k = 0; k < rows * width; k++) {
        values[k] = rows > 6 && k / width == 2 ? 0 : values[k] + (real)0.4;
    }
    return values;
}

/* Of the terms the sums over the volumes. */
void contrast(struct compute *c, const void *chosen, struct results *r)
{
    const struct contrast_shape *s = chosen;
    const size_t pairs = (size_t)s->volumes * (size_t)s->crops * (size_t)s->bases;
    const size_t elements = (size_t)s->volumes * (size_t)(s->crops + s->bases) * (size_t)s->width;
    const size_t count = (size_t)s->volumes * contrast_terms;
    real *shares = random_tensor(3, pairs, 1);
    for (size_t k = 0; k < pairs; k++) {
        shares[k] = shares[k] < 0 ? 0 : shares[k] / 4;
    }
    real *z = given_reals(r, rows_to_compare(1, s), elements);
    real *t = given_reals(r, rows_to_compare(2, s), elements);
    real *labels = given_reals(r, shares, pairs);
    const size_t work_reals = contrast_loss_work(s) * sizeof(double) / sizeof(real);
    const size_t term_reals = count * sizeof(double) / sizeof(real);
    double *work = (double *)given_reals(r, filled_tensor(work_reals, 77), work_reals);
    double *terms = (double *)given_reals(r, filled_tensor(term_reals, 77), term_reals);
    real *dz = new_result(r, "dz", elements, 77), *similarity = new_result(r, "similarity", pairs, 77);
    c->contrast_loss(c, terms, dz, similarity, z, t, (const float *)labels, work, s);
    double *of_volumes = (double *)filled_tensor(term_reals, 0);
    c->to_host(c, of_volumes, terms, count * sizeof *of_volumes);
    c->wait(c);
    static const char *const names[] = {"intra", "inter", "reg"};
    for (int term = 0; term < contrast_terms; term++) {
        double sum = 0;
        for (int i = 0; i < s->volumes; i++) {
            sum += of_volumes[i * contrast_terms + term];
        }
        *new_number(r, names[term]) = (real)sum;
    }
    free(of_volumes);
}

/* Bits 0 to 2 of k are flips, bit 3 is a turn. */
static struct crop_transform transform_of(int k, int side)
{
    const int plane = side * side, turned = k >> 3 & 1;
    struct crop_transform t = {.step = {turned ? side : plane, turned ? plane : side, 1},
                               .scale = 1.0F / (float)(200 + k),
                               .shift = 0.01F * (float)(k % 5 - 2)};
    for (int axis = 0; axis < 3; axis++) {
        if (k >> axis & 1) {
            t.origin += (side - 1) * t.step[axis];
            t.step[axis] = -t.step[axis];
        }
    }
    return t;
}

void transform(struct compute *c, const void *chosen, struct results *r)
{
    const struct stored_crops *s = chosen;
    const size_t count = (size_t)s->n * s->side * s->side * s->side, bytes = count * s->voxel_bytes;
    const size_t transform_bytes = s->n * sizeof(struct crop_transform);
    unsigned char *voxels = (unsigned char *)filled_tensor(bytes / sizeof(real) + 1, 0);
    struct crop_transform *transforms =
        (struct crop_transform *)filled_tensor(transform_bytes / sizeof(real), 0);
    for (size_t k = 0; k < bytes; k++) {
        voxels[k] = (unsigned char)(k * 2654435761U >> 13);
    }
    for (int k = 0; k < s->n; k++) {
        transforms[k] = transform_of(k, s->side);
    }
    const void *stored = given_bytes(r, voxels, bytes);
    const struct crop_transform *given = given_bytes(r, transforms, transform_bytes);
    c->transform_crops(c, new_result(r, "crops", count, 77), stored, s->voxel_bytes, given, s->n, s->side);
}

void add_parts(struct compute *c, const void *chosen, struct results *r)
{
    const struct parts *t = chosen;
    activation *parts =
        given_activations(r, random_tensor(1, (size_t)t->n * t->count, 1), (size_t)t->n * t->count);
    real *sum = new_result(r, "sum of parts", t->count, 77), *half = new_result(r, "half", t->count, 3);
    c->sum_in_order(c, sum, parts, t->n, t->count, 1);
    c->sum_in_order(c, half, parts, t->n, t->count, (real)0.5);
}

/* The moments alone, and the norm from moments that are given. */
void normalise_in_two_steps(struct compute *c, const void *chosen, struct results *r)
{
    const struct instance_norm *t = chosen;
    const size_t count = (size_t)t->n * t->space * t->channels, moments = (size_t)t->n * t->channels;
    real *values = random_tensor(1, count, 0.2), *rstds = random_tensor(5, moments, 0.2);
    for (size_t k = 0; k < count; k++) {
        values[k] += k / t->channels % 2 == 0 ? 4 : 2;
    }
    for (size_t k = 0; k < moments; k++) {
        rstds[k] = (real)1 + (real)fabs((double)rstds[k]);
    }
    activation *inp = given_activations(r, values, count);
    activation *residual = t->has_residual ? given_activations(r, random_tensor(3, count, 0.1), count) : NULL;
    const struct norm_activation norm = {.mean = given_reals(r, filled_tensor(moments, 3), moments),
                                         .rstd = given_reals(r, rstds, moments),
                                         .slope = t->slope};
    activation *out = new_activations(r, "out", count, 77);
    real *mean = new_result(r, "mean", moments, 77), *rstd = new_result(r, "rstd", moments, 77);
    c->instance_norm_moments(c, mean, rstd, inp, t->n, t->space, t->channels);
    c->instance_norm_apply(c, out, inp, &norm, residual, t->n, t->space, t->channels);
}

void scale_channels(struct compute *c, const void *chosen, struct results *r)
{
    const struct channel_scale *t = chosen;
    const size_t count = (size_t)t->n * t->channels;
    real *rstds = random_tensor(2, t->n, 1);
    for (int i = 0; i < t->n; i++) {
        rstds[i] = (real)exp(3 * (double)rstds[i]); /* deviations from far above to far below 1 */
    }
    real *weight = given_reals(r, random_tensor(1, t->channels, 1), t->channels);
    real *rstd = given_reals(r, rstds, t->n);
    real *dscale = given_reals(r, random_tensor(3, count, 1), count);
    real *scale = new_result(r, "scale", count, 77);
    real *dscale_dweight = new_result(r, "dscale_dweight", count, 77);
    real *dweight = new_sum(r, "dweight", t->channels);
    c->channel_scale_forward(c, scale, dscale_dweight, weight, rstd, t->n, t->channels);
    c->channel_scale_backward(c, dweight, dscale, dscale_dweight, t->n, t->channels);
}

void sum_what_is_not_finite(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *x = given_reals(r, random_tensor(1, count, 1), count);
    real *large = new_number(r, "of 1e30"), *infinite = new_number(r, "infinite"),
         *nan = new_number(r, "NaN");
    const real values[] = {(real)1e30, (real)-INFINITY, (real)NAN, 1};
    c->to_device(c, x, &values[0], sizeof(real));
    *large = (real)(c->sum_of_squares(c, x, count) / 1e60);
    c->to_device(c, x, &values[3], sizeof(real));
    for (size_t k = 0; k < count; k += 1 + count / 6) {
        c->to_device(c, x + k, &values[1], sizeof(real));
        *infinite += (real)(isinf(c->sum_of_squares(c, x, count)) != 0);
        c->to_device(c, x + k, &values[2], sizeof(real));
        *nan += (real)(isnan(c->sum_of_squares(c, x, count)) != 0);
        c->to_device(c, x + k, &values[3], sizeof(real));
    }
    c->wait(c);
}

void change_parameters(struct compute *c, const void *chosen, struct results *r)
{
    enum { rows = 8, features = 48, count = features * features };
    const struct conv3d_shape patches = {rows, 2, 2, 2, 1, features, 2, 2};
    const struct conv3d_shape grid = {1, 2, 2, 2, features, features, 1, 1};
    static const char *const names[2][3] = {{"linear", "patches", "1^3"},
                                            {"linear, changed", "patches, changed", "1^3, changed"}};
    (void)chosen;
    activation *inp =
        given_activations(r, random_tensor(1, (size_t)rows * features, 1), (size_t)rows * features);
    activation *voxels = given_activations(r, random_tensor(3, rows * 8, 1), rows * 8);
    real *weight = given_reals(r, random_tensor(2, count, 1), count);
    real *patch_weight = given_reals(r, random_tensor(4, 8 * features, 1), 8 * features);
    for (int turn = 0; turn < 2; turn++) {
        activation *out[3];
        for (int k = 0; k < 3; k++) {
            out[k] = new_activations(r, names[turn][k], (size_t)rows * features, 77);
        }
        c->linear_forward(c, out[0], inp, weight, NULL, rows, features, features);
        c->conv3d_forward(c, out[1], voxels, patch_weight, NULL, &patches);
        c->conv3d_forward(c, out[2], inp, weight, NULL, &grid);
        change_reals(r, weight, random_tensor(5, count, 1), count);
        change_reals(r, patch_weight, random_tensor(6, 8 * features, 1), 8 * features);
        c->parameters_changed(c);
    }
}
