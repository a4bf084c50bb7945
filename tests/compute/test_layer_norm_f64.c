/* The reference LayerNorm in double: forward against the definition, backward against finite differences. */
#include "finite_difference.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { rows = 5, channels = 7, count = rows * channels };

struct layer {
    struct compute c;
    int affine;
    real *inp, *weight, *bias, *out, *mean, *rstd, *dout;
};

static int open_layer(void **state)
{
    static struct layer t;
    open_implementation(&t.c, "reference", 1);
    t.inp = random_tensor(1, count, 2);
    t.weight = random_tensor(2, channels, 1);
    t.bias = random_tensor(3, channels, 1);
    t.out = filled_tensor(count, 0);
    t.mean = filled_tensor(rows, 0);
    t.rstd = filled_tensor(rows, 0);
    t.dout = random_tensor(4, count, 1);
    *state = &t;
    return 0;
}

static int close_layer(void **state)
{
    struct layer *t = *state;
    real *const tensors[] = {t->inp, t->weight, t->bias, t->out, t->mean, t->rstd, t->dout};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        free(tensors[k]);
    }
    compute_close(&t->c);
    return 0;
}

static void forward(struct layer *t)
{
    t->c.layer_norm_forward(&t->c, as_activations(t->out), t->mean, t->rstd, as_activations(t->inp),
                            t->affine ? t->weight : NULL, t->affine ? t->bias : NULL, rows, channels);
}

static double loss(void *context)
{
    forward(context);
    const struct layer *t = context;
    return inner_product(t->out, t->dout, count);
}

static void forward_takes_the_mean_off_and_divides_by_the_biased_deviation(void **state)
{
    struct layer *t = *state;
    for (t->affine = 0; t->affine < 2; t->affine++) {
        forward(t);
        for (int row = 0; row < rows; row++) {
            const real *x = t->inp + row * channels;
            double mean = 0, square = 0;
            for (int ch = 0; ch < channels; ch++) {
                mean += x[ch] / channels;
                square += x[ch] * x[ch] / channels;
            }
            const double deviation = sqrt(square - mean * mean + 1e-5);
            require_near(t->mean[row], mean, 1e-13);
            require_near(t->rstd[row], 1 / deviation, 1e-12);
            for (int ch = 0; ch < channels; ch++) {
                const double normal = (x[ch] - mean) / deviation;
                const double expected = t->affine ? normal * t->weight[ch] + t->bias[ch] : normal;
                require_near(t->out[row * channels + ch], expected, 1e-12);
            }
        }
    }
}

static void backward_is_the_derivative_of_forward(void **state)
{
    struct layer *t = *state;
    for (t->affine = 0; t->affine < 2; t->affine++) {
        real *dinp = filled_tensor(count, 77), *dweight = accumulator(channels),
             *dbias = accumulator(channels);
        forward(t);
        t->c.layer_norm_backward(&t->c, as_activations(dinp), t->affine ? dweight : NULL,
                                 t->affine ? dbias : NULL, as_activations(t->dout), as_activations(t->inp),
                                 t->mean, t->rstd, t->affine ? t->weight : NULL, NULL, rows, channels);
        check_gradient(t->affine ? "layer_norm dinp, affine" : "layer_norm dinp", loss, t, t->inp, dinp,
                       count);
        if (t->affine) {
            take_off_start(dweight, channels);
            take_off_start(dbias, channels);
            check_gradient("layer_norm dweight", loss, t, t->weight, dweight, channels);
            check_gradient("layer_norm dbias", loss, t, t->bias, dbias, channels);
        }
        free(dinp);
        free(dweight);
        free(dbias);
    }
}

static void backward_may_write_over_dout(void **state)
{
    struct layer *t = *state;
    real *dinp = filled_tensor(count, 77), *in_place = filled_tensor(count, 0);
    memcpy(in_place, t->dout, count * sizeof *in_place);
    t->affine = 0;
    forward(t);
    t->c.layer_norm_backward(&t->c, as_activations(dinp), NULL, NULL, as_activations(t->dout),
                             as_activations(t->inp), t->mean, t->rstd, NULL, NULL, rows, channels);
    t->c.layer_norm_backward(&t->c, as_activations(in_place), NULL, NULL, as_activations(in_place),
                             as_activations(t->inp), t->mean, t->rstd, NULL, NULL, rows, channels);
    assert_true(same_bits(in_place, dinp, count));
    free(dinp);
    free(in_place);
}

static void backward_adds_a_residual(void **state)
{
    struct layer *t = *state;
    real *dinp = filled_tensor(count, 77), *sum = filled_tensor(count, 77),
         *residual = random_tensor(5, count, 1);
    t->affine = 0;
    forward(t);
    t->c.layer_norm_backward(&t->c, as_activations(dinp), NULL, NULL, as_activations(t->dout),
                             as_activations(t->inp), t->mean, t->rstd, NULL, NULL, rows, channels);
    memcpy(sum, t->dout, count * sizeof *sum);
    t->c.layer_norm_backward(&t->c, as_activations(sum), NULL, NULL, as_activations(sum),
                             as_activations(t->inp), t->mean, t->rstd, NULL, as_activations(residual), rows,
                             channels);
    for (int k = 0; k < count; k++) {
        require_near(sum[k], dinp[k] + residual[k], 1e-13);
    }
    free(dinp);
    free(sum);
    free(residual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(forward_takes_the_mean_off_and_divides_by_the_biased_deviation,
                                        open_layer, close_layer),
        cmocka_unit_test_setup_teardown(backward_is_the_derivative_of_forward, open_layer, close_layer),
        cmocka_unit_test_setup_teardown(backward_may_write_over_dout, open_layer, close_layer),
        cmocka_unit_test_setup_teardown(backward_adds_a_residual, open_layer, close_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
