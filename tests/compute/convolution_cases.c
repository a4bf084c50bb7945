#include "case_list.h"

#include "tensors.h"

#include <stddef.h>

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

static int has_conv3d(const struct compute *c)
{
    return c->conv3d_forward != NULL && c->conv3d_backward != NULL;
}

static void list_convolutions(struct case_list *list)
{
    static const struct convolution shapes[] = {
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
        {{1, 4, 5, 6, 16, 24, 3, 1}, 0, 1},    {{2, 3, 3, 2, 48, 48, 3, 1}, 0, 1},
        {{1, 5, 4, 3, 32, 16, 1, 1}, 0, 1},
    };
    static const struct convolution large[] = {
        {{2, 64, 64, 64, 1, 48, 2, 2}, 1, 0},  {{1, 64, 64, 64, 1, 48, 3, 1}, 0, 0},
        {{1, 64, 64, 64, 1, 48, 1, 1}, 0, 0},  {{1, 32, 32, 32, 48, 48, 3, 1}, 0, 1},
        {{2, 16, 16, 16, 96, 96, 3, 1}, 0, 1}, {{3, 8, 8, 8, 192, 192, 3, 1}, 0, 1},
        {{3, 4, 4, 4, 384, 384, 3, 1}, 0, 1},  {{5, 2, 2, 2, 768, 768, 3, 1}, 0, 1},
        {{3, 2, 2, 2, 768, 384, 1, 1}, 0, 1},  {{1, 64, 16, 16, 48, 48, 3, 1}, 0, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct convolution *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const struct conv3d_shape *s = &t->shape;
        const int d = s->d / s->stride, h = s->h / s->stride, w = s->w / s->stride;
        const double work =
            3.0 * s->n * d * h * w * s->in_channels * s->out_channels * s->kernel * s->kernel * s->kernel;
        struct operation_case *it = append_case(list, "conv3d", convolve, t, work, is_large);
        name_case(it, "conv3d %d^3 /%d, %d x (%d %d %d), %d to %d", s->kernel, s->stride, s->n, s->d, s->h,
                  s->w, s->in_channels, s->out_channels);
        it->is_there = has_conv3d;
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
    real *dweight = new_sum(r, "dweight", weights);
    const struct norm_activation norm = {.mean = inp_mean, .rstd = inp_rstd, .slope = (real)0.01};
    c->instance_norm_moments(c, inp_mean, inp_rstd, inp, s->n, space, s->in_channels);
    c->normed_conv3d_forward(c, out, mean, rstd, inp, t->normed ? &norm : NULL, work, weight, s);
    c->normed_conv3d_backward(c, dinp, dweight, dout, inp, t->normed ? &norm : NULL, work, weight, s);
}

static int has_normed_conv3d(const struct compute *c)
{
    return c->normed_conv3d_forward != NULL && c->normed_conv3d_backward != NULL &&
           c->instance_norm_moments != NULL;
}

/* By Winograd's algorithm, by oneDNN and by products over small grids; even and odd sides. */
static void list_normed_convolutions(struct case_list *list)
{
    static const struct normed_convolution shapes[] = {
        {{2, 8, 8, 8, 12, 12, 3, 1}, 1},   {{1, 7, 5, 9, 48, 48, 3, 1}, 1},
        {{3, 6, 6, 6, 20, 33, 3, 1}, 1},   {{2, 7, 6, 5, 16, 12, 3, 1}, 0},
        {{2, 9, 4, 6, 1, 12, 3, 1}, 0},    {{2, 6, 5, 7, 5, 6, 3, 1}, 1},
        {{3, 2, 2, 2, 192, 192, 3, 1}, 1}, {{1, 22, 10, 12, 24, 24, 3, 1}, 1},
        {{2, 5, 3, 4, 16, 32, 3, 1}, 1},   {{1, 3, 4, 5, 48, 48, 3, 1}, 1},
        {{2, 7, 9, 11, 1, 48, 3, 1}, 0},   {{1, 4, 5, 71, 1, 96, 3, 1}, 0},
        {{1, 3, 2, 2, 96, 96, 3, 1}, 1},   {{1, 2, 3, 3, 96, 16, 3, 1}, 1},
    };
    static const struct normed_convolution large[] = {
        {{1, 64, 64, 64, 1, 48, 3, 1}, 0},  {{1, 32, 32, 32, 48, 48, 3, 1}, 1},
        {{2, 16, 16, 16, 96, 96, 3, 1}, 1}, {{3, 8, 8, 8, 192, 192, 3, 1}, 1},
        {{3, 4, 4, 4, 384, 384, 3, 1}, 1},  {{5, 2, 2, 2, 768, 768, 3, 1}, 1},
        {{1, 48, 48, 48, 12, 12, 3, 1}, 1}, {{2, 24, 24, 24, 12, 12, 3, 1}, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct normed_convolution *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const struct conv3d_shape *s = &t->shape;
        const double work = 81.0 * s->n * s->d * s->h * s->w * s->in_channels * s->out_channels;
        struct operation_case *it =
            append_case(list, "normed_conv3d", normalise_and_convolve, t, work, is_large);
        name_case(it, "normed_conv3d %d x (%d %d %d), %d to %d%s", s->n, s->d, s->h, s->w, s->in_channels,
                  s->out_channels, t->normed ? "" : ", no norm");
        it->is_there = has_normed_conv3d;
    }
}

/* A chessboard with noise, and a first convolution whose middle tap is by far the largest: what it gives is
 * nowhere near its mean, where activations bend. The noise is most of what the norm leaves of dweight1: with
 * much less of it, the reference's own roundings to bf16 would be a larger part than tests allow. */
static void convolve_twice_from_one_channel(struct compute *c, const void *chosen, struct results *r)
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

static int has_normed_conv3d_pair(const struct compute *c)
{
    return has_normed_conv3d(c) && c->normed_conv3d_pair_backward != NULL;
}

/* The second one's. */
static void list_pairs_of_convolutions(struct case_list *list)
{
    static const struct conv3d_shape shapes[] = {
        {2, 2, 3, 5, 48, 48, 3, 1},    {1, 7, 3, 3, 48, 48, 3, 1},    {1, 1, 3, 20, 48, 48, 3, 1},
        {1, 16, 2, 2, 48, 48, 3, 1},   {1, 2, 1, 71, 48, 16, 3, 1},   {3, 2, 9, 3, 48, 16, 3, 1},
        {2, 3, 4, 5, 12, 12, 3, 1},    {1, 5, 4, 3, 20, 33, 3, 1},    {1, 64, 64, 64, 48, 48, 3, 1},
        {3, 21, 33, 70, 48, 48, 3, 1}, {1, 24, 16, 16, 96, 96, 3, 1}, {2, 24, 24, 24, 12, 12, 3, 1},
    };
    enum { first_large = 8 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct conv3d_shape *s = &shapes[i];
        const double work = 81.0 * s->n * s->d * s->h * s->w * s->in_channels * s->out_channels;
        struct operation_case *it =
            append_case(list, "normed_conv3d", convolve_twice_from_one_channel, s, work, i >= first_large);
        name_case(it, "two convolutions %d x (%d %d %d), 1 to %d to %d", s->n, s->d, s->h, s->w,
                  s->in_channels, s->out_channels);
        it->is_there = has_normed_conv3d_pair;
    }
}

void list_convolution_cases(struct case_list *list)
{
    list_convolutions(list);
    list_normed_convolutions(list);
    list_pairs_of_convolutions(list);
}
