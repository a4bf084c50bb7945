/* The reference operations that join norms with convolutions and pools, or stand for both, in double:
 * backward against finite differences, away from the kink, and forward against the operations that they join.
 */
#include "finite_difference.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const real slope = 0.01;

/* Two humps at 1 and -1, so that no argument of an activation lies near 0. */
static real *two_humps(uint32_t seed, size_t count, int channels)
{
    real *values = random_tensor(seed, count, 0.1);
    for (size_t k = 0; k < count; k++) {
        values[k] += k / (size_t)channels % 2 == 0 ? 1 : -1;
    }
    return values;
}

enum { n = 2, space = 12, stride = 5, offset = 1 };

struct pool {
    struct compute c;
    int channels, scaled;
    size_t count;
    real *inp, *residual, *scale, *centre, *mean, *rstd, *pooled, *bends, *dpooled;
};

static struct norm_activation norm_of(const struct pool *t)
{
    return (struct norm_activation){.mean = t->mean, .rstd = t->rstd, .slope = slope};
}

static struct pooled_residual residual_of(const struct pool *t)
{
    return (struct pooled_residual){.x = as_activations(t->residual),
                                    .scale = t->scaled ? t->scale : NULL,
                                    .centre = t->scaled ? t->centre : NULL};
}

static double pool_loss(void *context)
{
    const struct pool *t = context;
    struct compute *c = &((struct pool *)context)->c;
    const struct norm_activation norm = norm_of(t);
    const struct pooled_residual residual = residual_of(t);
    c->instance_norm_moments(c, t->mean, t->rstd, as_activations(t->inp), n, space, t->channels);
    c->pooled_norm_forward(c, t->pooled + offset, stride, t->bends, as_activations(t->inp), &norm, &residual,
                           n, space, t->channels);
    return inner_product(t->pooled, t->dpooled, (size_t)n * stride);
}

static void open_pool(struct pool *t, int channels, int scaled)
{
    *t = (struct pool){.channels = channels, .scaled = scaled, .count = (size_t)n * space * (size_t)channels};
    open_implementation(&t->c, "reference", 1);
    t->inp = two_humps(1, t->count, channels);
    t->residual = random_tensor(2, scaled ? (size_t)n * space : t->count, 0.1);
    t->scale = random_tensor(3, (size_t)n * (size_t)channels, 1);
    t->centre = random_tensor(4, n, 0.1);
    t->mean = filled_tensor((size_t)n * (size_t)channels, 0);
    t->rstd = filled_tensor((size_t)n * (size_t)channels, 0);
    t->pooled = filled_tensor((size_t)n * stride, 0);
    t->bends = filled_tensor(3 * (size_t)n * (size_t)channels, 77);
    t->dpooled = random_tensor(5, (size_t)n * stride, 1);
}

static void close_pool(struct pool *t)
{
    require_no_failure(&t->c);
    real *const tensors[] = {t->inp,  t->residual, t->scale, t->centre, t->mean,
                             t->rstd, t->pooled,   t->bends, t->dpooled};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        free(tensors[k]);
    }
    compute_close(&t->c);
}

static void check_pool(int channels, int scaled)
{
    struct pool t;
    open_pool(&t, channels, scaled);
    real *dinp = filled_tensor(t.count, 77), *dresidual = filled_tensor(t.count, 77);
    real *dscale = filled_tensor((size_t)n * (size_t)channels, 77);
    (void)pool_loss(&t);
    const struct norm_activation norm = norm_of(&t);
    const struct pooled_residual residual = residual_of(&t);
    t.c.pooled_norm_backward(&t.c, as_activations(dinp), scaled ? NULL : as_activations(dresidual),
                             scaled ? dscale : NULL, t.dpooled + offset, stride, t.bends,
                             as_activations(t.inp), &norm, &residual, n, space, channels);
    check_gradient("pooled_norm dinp", pool_loss, &t, t.inp, dinp, t.count);
    if (scaled) {
        check_gradient("pooled_norm dscale", pool_loss, &t, t.scale, dscale, (size_t)n * (size_t)channels);
    } else {
        check_gradient("pooled_norm dresidual", pool_loss, &t, t.residual, dresidual, t.count);
    }
    free(dinp);
    free(dresidual);
    free(dscale);
    close_pool(&t);
}

static void pool_backward_is_the_derivative(void **state)
{
    (void)state;
    check_pool(3, 0);
    check_pool(4, 1);
}

static void a_pool_is_the_mean_of_the_norm_in_its_columns(void **state)
{
    (void)state;
    enum { channels = 3, count = n * space * channels };
    struct pool t;
    open_pool(&t, channels, 0);
    real *out = filled_tensor(count, 0);
    (void)pool_loss(&t);
    t.c.instance_norm_forward(&t.c, as_activations(out), t.mean, t.rstd, as_activations(t.inp),
                              as_activations(t.residual), slope, n, space, channels);
    for (int k = 0; k < n * stride; k++) {
        const int ch = k % stride - offset;
        double sum = 0;
        for (int row = 0; row < space && ch >= 0 && ch < channels; row++) {
            sum += out[(k / stride * space + row) * channels + ch] / space;
        }
        require_near(t.pooled[k], sum, 1e-14);
    }
    free(out);
    close_pool(&t);
}

struct convolution {
    struct compute c;
    struct conv3d_shape shape;
    int normed;
    size_t inputs, outputs, weights;
    real *inp, *weight, *work, *inp_mean, *inp_rstd, *out, *mean, *rstd, *dout;
};

static struct norm_activation input_norm(const struct convolution *t)
{
    return (struct norm_activation){.mean = t->inp_mean, .rstd = t->inp_rstd, .slope = slope};
}

static double convolution_loss(void *context)
{
    const struct convolution *t = context;
    struct compute *c = &((struct convolution *)context)->c;
    const struct conv3d_shape *s = &t->shape;
    const struct norm_activation norm = input_norm(t);
    c->instance_norm_moments(c, t->inp_mean, t->inp_rstd, as_activations(t->inp), s->n,
                             (size_t)s->d * (size_t)s->h * (size_t)s->w, s->in_channels);
    c->normed_conv3d_forward(c, as_activations(t->out), t->mean, t->rstd, as_activations(t->inp),
                             t->normed ? &norm : NULL, as_activations(t->work), t->weight, s);
    return inner_product(t->out, t->dout, t->outputs);
}

static void open_convolution(struct convolution *t, int normed)
{
    *t = (struct convolution){.shape = {2, 2, 3, 4, 3, 2, 3, 1}, .normed = normed};
    const struct conv3d_shape *s = &t->shape;
    const size_t rows = (size_t)s->n * (size_t)s->d * (size_t)s->h * (size_t)s->w;
    open_implementation(&t->c, "reference", 1);
    t->inputs = rows * (size_t)s->in_channels;
    t->outputs = rows * (size_t)s->out_channels;
    t->weights = 27 * (size_t)s->in_channels * (size_t)s->out_channels;
    t->inp = two_humps(1, t->inputs, s->in_channels);
    t->weight = random_tensor(2, t->weights, 1);
    t->dout = random_tensor(3, t->outputs, 1);
    t->work = filled_tensor(t->inputs, 0);
    t->out = filled_tensor(t->outputs, 0);
    t->inp_mean = filled_tensor((size_t)s->n * (size_t)s->in_channels, 0);
    t->inp_rstd = filled_tensor((size_t)s->n * (size_t)s->in_channels, 0);
    t->mean = filled_tensor((size_t)s->n * (size_t)s->out_channels, 0);
    t->rstd = filled_tensor((size_t)s->n * (size_t)s->out_channels, 0);
}

static void close_convolution(struct convolution *t)
{
    require_no_failure(&t->c);
    real *const tensors[] = {t->inp,      t->weight,   t->dout, t->work, t->out,
                             t->inp_mean, t->inp_rstd, t->mean, t->rstd};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        free(tensors[k]);
    }
    compute_close(&t->c);
}

static void convolution_backward_is_the_derivative(void **state)
{
    (void)state;
    for (int normed = 0; normed < 2; normed++) {
        struct convolution t;
        open_convolution(&t, normed);
        real *dinp = filled_tensor(t.inputs, 77), *dweight = accumulator(t.weights);
        const struct norm_activation norm = input_norm(&t);
        (void)convolution_loss(&t);
        t.c.normed_conv3d_backward(&t.c, as_activations(dinp), dweight, as_activations(t.dout),
                                   as_activations(t.inp), normed ? &norm : NULL, as_activations(t.work),
                                   t.weight, &t.shape);
        take_off_start(dweight, t.weights);
        check_gradient("normed_conv3d dinp", convolution_loss, &t, t.inp, dinp, t.inputs);
        check_gradient("normed_conv3d dweight", convolution_loss, &t, t.weight, dweight, t.weights);
        free(dinp);
        free(dweight);
        close_convolution(&t);
    }
}

static void a_convolution_gives_the_moments_of_its_result(void **state)
{
    (void)state;
    struct convolution t;
    open_convolution(&t, 1);
    const struct conv3d_shape *s = &t.shape;
    real *mean = filled_tensor((size_t)s->n * (size_t)s->out_channels, 0),
         *rstd = filled_tensor((size_t)s->n * (size_t)s->out_channels, 0);
    (void)convolution_loss(&t);
    t.c.instance_norm_moments(&t.c, mean, rstd, as_activations(t.out), s->n,
                              (size_t)s->d * (size_t)s->h * (size_t)s->w, s->out_channels);
    for (int k = 0; k < s->n * s->out_channels; k++) {
        require_near(t.mean[k], mean[k], 1e-15);
        require_near(t.rstd[k], rstd[k], 1e-15);
    }
    free(mean);
    free(rstd);
    close_convolution(&t);
}

/* One channel scaled by each weight. */
struct scaling {
    struct compute c;
    int channels;
    real *weight, *rstd, *scale, *dscale_dweight, *dscale;
};

static double scale_loss(void *context)
{
    struct scaling *t = context;
    t->c.channel_scale_forward(&t->c, t->scale, t->dscale_dweight, t->weight, t->rstd, n, t->channels);
    return inner_product(t->scale, t->dscale, (size_t)n * (size_t)t->channels);
}

static void open_scaling(struct scaling *t, int channels)
{
    const size_t count = (size_t)n * (size_t)channels;
    *t = (struct scaling){.channels = channels};
    open_implementation(&t->c, "reference", 1);
    t->weight = random_tensor(1, (size_t)channels, 1);
    t->rstd = filled_tensor(n, 0);
    t->scale = filled_tensor(count, 77);
    t->dscale_dweight = filled_tensor(count, 77);
    t->dscale = random_tensor(2, count, 1);
}

static void close_scaling(struct scaling *t)
{
    require_no_failure(&t->c);
    free(t->weight);
    free(t->rstd);
    free(t->scale);
    free(t->dscale_dweight);
    free(t->dscale);
    compute_close(&t->c);
}

/* Of samples that vary so little that epsilon counts: elsewhere there is no gradient. */
static void scale_backward_is_the_derivative(void **state)
{
    (void)state;
    enum { channels = 5 };
    struct scaling t;
    open_scaling(&t, channels);
    t.rstd[0] = (real)(1 / sqrt(3e-5 + normalisation_epsilon));
    t.rstd[1] = (real)(1 / sqrt(2e-6 + normalisation_epsilon));
    real *dweight = accumulator(channels);
    (void)scale_loss(&t);
    t.c.channel_scale_backward(&t.c, dweight, t.dscale, t.dscale_dweight, n, channels);
    take_off_start(dweight, channels);
    check_gradient("channel_scale dweight", scale_loss, &t, t.weight, dweight, channels);
    free(dweight);
    close_scaling(&t);
}

static void a_scaled_channel_is_the_norm_of_its_multiple(void **state)
{
    (void)state;
    enum { channels = 4, count = n * space * channels };
    struct scaling t;
    open_scaling(&t, channels);
    real *x = random_tensor(3, (size_t)n * space, 0.01), *mean = filled_tensor(n, 0);
    real *multiples = filled_tensor(count, 0), *normed = filled_tensor(count, 0);
    real *means = filled_tensor((size_t)n * channels, 0), *rstds = filled_tensor((size_t)n * channels, 0);
    for (int k = 0; k < count; k++) {
        multiples[k] = t.weight[k % channels] * x[k / channels];
    }
    t.c.instance_norm_moments(&t.c, mean, t.rstd, as_activations(x), n, space, 1);
    t.c.channel_scale_forward(&t.c, t.scale, t.dscale_dweight, t.weight, t.rstd, n, channels);
    t.c.instance_norm_forward(&t.c, as_activations(normed), means, rstds, as_activations(multiples), NULL, 1,
                              n, space, channels);
    for (int k = 0; k < count; k++) {
        const int row = k / channels, sample = row / space;
        require_near(t.scale[sample * channels + k % channels] * (x[row] - mean[sample]), normed[k], 1e-12);
    }
    free(x);
    free(mean);
    free(multiples);
    free(normed);
    free(means);
    free(rstds);
    close_scaling(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_backward_is_the_derivative),
        cmocka_unit_test(a_pool_is_the_mean_of_the_norm_in_its_columns),
        cmocka_unit_test(convolution_backward_is_the_derivative),
        cmocka_unit_test(a_convolution_gives_the_moments_of_its_result),
        cmocka_unit_test(scale_backward_is_the_derivative),
        cmocka_unit_test(a_scaled_channel_is_the_norm_of_its_multiple),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
