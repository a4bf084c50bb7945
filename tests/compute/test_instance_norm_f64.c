/* The reference InstanceNorm + residual + leaky ReLU in double: forward against the definition, backward
 * against finite differences away from the kink. */
#include "finite_difference.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct layer {
    struct compute c;
    int n, channels;
    size_t space, count;
    double slope;
    int has_residual;
    real *inp, *residual, *out, *mean, *rstd, *dout;
};

/* Slope 1, 0.01 and 0, with and without residual, over grids of 5 x 3 x 1 and as BatchNorm over 11 crops. */
static const struct layer cases[] = {
    {.n = 2, .channels = 3, .space = 15, .slope = 1, .has_residual = 0},
    {.n = 2, .channels = 3, .space = 15, .slope = 1, .has_residual = 1},
    {.n = 2, .channels = 3, .space = 15, .slope = 0.01, .has_residual = 0},
    {.n = 2, .channels = 5, .space = 15, .slope = 0.01, .has_residual = 1},
    {.n = 1, .channels = 7, .space = 11, .slope = 0, .has_residual = 0},
    {.n = 3, .channels = 1, .space = 2, .slope = 0, .has_residual = 1},
};
enum { case_count = sizeof cases / sizeof *cases };

static void forward(struct layer *t)
{
    t->c.instance_norm_forward(&t->c, as_activations(t->out), t->mean, t->rstd, as_activations(t->inp),
                               as_activations(t->has_residual ? t->residual : NULL), (real)t->slope, t->n,
                               t->space, t->channels);
}

/* The argument of the activation must stay clear of its kink by more than finite differences move it. */
static void require_distance_from_kink(struct layer *t)
{
    const double slope = t->slope;
    t->slope = 1;
    forward(t);
    for (size_t k = 0; k < t->count; k++) {
        assert_true(fabs(t->out[k]) > 0.03);
    }
    t->slope = slope;
}

static void open_layer(struct layer *t, const struct layer *model)
{
    *t = *model;
    open_implementation(&t->c, "reference", 1);
    t->count = t->n * t->space * t->channels;
    t->inp = random_tensor(1, t->count, 0.3);
    t->residual = random_tensor(2, t->count, 1);
    t->out = filled_tensor(t->count, 0);
    t->mean = filled_tensor((size_t)t->n * t->channels, 0);
    t->rstd = filled_tensor((size_t)t->n * t->channels, 0);
    t->dout = random_tensor(4, t->count, 1);
    for (size_t k = 0; k < t->count; k++) { /* two humps, so that little lies near the mean */
        t->inp[k] += k / t->channels % 2 == 0 ? (real)1.5 : (real)-1.5;
        t->residual[k] *= (real)0.1;
    }
    require_distance_from_kink(t);
}

static void close_layer(struct layer *t)
{
    require_no_failure(&t->c);
    real *const tensors[] = {t->inp, t->residual, t->out, t->mean, t->rstd, t->dout};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        free(tensors[k]);
    }
    compute_close(&t->c);
}

static void require_sample_by_definition(const struct layer *t, int sample, int ch)
{
    const size_t first = sample * t->space * t->channels + ch;
    double mean = 0, square = 0;
    for (size_t row = 0; row < t->space; row++) {
        const double x = t->inp[first + row * t->channels];
        mean += x / (double)t->space;
        square += x * x / (double)t->space;
    }
    const double deviation = sqrt(square - mean * mean + 1e-5);
    require_near(t->mean[sample * t->channels + ch], mean, 1e-13);
    require_near(t->rstd[sample * t->channels + ch], 1 / deviation, 1e-12);
    for (size_t row = 0; row < t->space; row++) {
        const size_t k = first + row * t->channels;
        double v = (t->inp[k] - mean) / deviation + (t->has_residual ? t->residual[k] : 0);
        v = v > 0 ? v : t->slope * v;
        require_near(t->out[k], v, 1e-12);
    }
}

static void forward_normalises_adds_and_activates(void **state)
{
    (void)state;
    for (int i = 0; i < case_count; i++) {
        struct layer t;
        open_layer(&t, &cases[i]);
        forward(&t);
        for (int k = 0; k < t.n * t.channels; k++) {
            require_sample_by_definition(&t, k / t.channels, k % t.channels);
        }
        close_layer(&t);
    }
}

static double loss(void *context)
{
    forward(context);
    const struct layer *t = context;
    return inner_product(t->out, t->dout, t->count);
}

static void backward_is_the_derivative_of_forward(void **state)
{
    (void)state;
    for (int i = 0; i < case_count; i++) {
        struct layer t;
        char name[64];
        open_layer(&t, &cases[i]);
        real *dinp = filled_tensor(t.count, 77), *dresidual = filled_tensor(t.count, 77);
        forward(&t);
        t.c.instance_norm_backward(&t.c, as_activations(dinp),
                                   as_activations(t.has_residual ? dresidual : NULL), as_activations(t.dout),
                                   as_activations(t.slope == 1 ? NULL : t.out), as_activations(t.inp), t.mean,
                                   t.rstd, (real)t.slope, t.n, t.space, t.channels);
        snprintf(name, sizeof name, "instance_norm dinp, slope %g", t.slope);
        check_gradient(name, loss, &t, t.inp, dinp, t.count);
        if (t.has_residual) {
            check_gradient("instance_norm dresidual", loss, &t, t.residual, dresidual, t.count);
        }
        free(dinp);
        free(dresidual);
        close_layer(&t);
    }
}

static void backward_may_write_over_dout(void **state)
{
    (void)state;
    struct layer t;
    open_layer(&t, &cases[3]);
    real *dinp = filled_tensor(t.count, 77), *in_place = filled_tensor(t.count, 0);
    real *dresidual = filled_tensor(t.count, 77), *second = filled_tensor(t.count, 77);
    memcpy(in_place, t.dout, t.count * sizeof *in_place);
    forward(&t);
    t.c.instance_norm_backward(&t.c, as_activations(dinp), as_activations(dresidual), as_activations(t.dout),
                               as_activations(t.out), as_activations(t.inp), t.mean, t.rstd, (real)t.slope,
                               t.n, t.space, t.channels);
    t.c.instance_norm_backward(&t.c, as_activations(in_place), as_activations(second),
                               as_activations(in_place), as_activations(t.out), as_activations(t.inp), t.mean,
                               t.rstd, (real)t.slope, t.n, t.space, t.channels);
    assert_true(same_bits(in_place, dinp, t.count));
    assert_true(same_bits(second, dresidual, t.count));
    free(dinp);
    free(in_place);
    free(dresidual);
    free(second);
    close_layer(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_normalises_adds_and_activates),
        cmocka_unit_test(backward_is_the_derivative_of_forward),
        cmocka_unit_test(backward_may_write_over_dout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
