/* The reference's linear layers with what stands next to them, in double: forward against the operations one
 * by one, backward against finite differences. */
#include "finite_difference.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    rows = 5,
    in_features = 7,
    out_features = 3,
    inputs = rows * in_features,
    outputs = rows * out_features,
    weights = in_features * out_features
};

struct layer {
    struct compute c;
    real *inp, *weight, *bias, *residual, *wide, *activated, *out, *dout;
};

static int open_layer(void **state)
{
    static struct layer t;
    open_implementation(&t.c, "reference", 1);
    t.inp = random_tensor(1, inputs, 1);
    t.weight = random_tensor(2, weights, 0.5);
    t.bias = random_tensor(3, out_features, 1);
    t.residual = random_tensor(4, outputs, 1);
    t.wide = random_tensor(5, inputs, 1);
    t.activated = filled_tensor(inputs, 0);
    t.out = filled_tensor(outputs, 0);
    t.dout = random_tensor(6, outputs, 1);
    *state = &t;
    return 0;
}

static int close_layer(void **state)
{
    struct layer *t = *state;
    real *const tensors[] = {t->inp, t->weight, t->bias, t->residual, t->wide, t->activated, t->out, t->dout};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        free(tensors[k]);
    }
    compute_close(&t->c);
    return 0;
}

static void forward_is_one_operation_after_the_other(void **state)
{
    struct layer *t = *state;
    struct compute *c = &t->c;
    for (int with_bias = 0; with_bias < 2; with_bias++) {
        const real *bias = with_bias ? t->bias : NULL;
        real *out = filled_tensor(outputs, 77), *activated = filled_tensor(outputs, 77),
             *sum = filled_tensor(outputs, 77), *gelu = filled_tensor(outputs, 77);
        c->linear_forward(c, as_activations(t->out), as_activations(t->inp), t->weight, bias, rows,
                          in_features, out_features);
        c->gelu_forward(c, as_activations(gelu), as_activations(t->out), outputs);
        c->linear_gelu_forward(c, as_activations(out), as_activations(activated), as_activations(t->inp),
                               t->weight, bias, rows, in_features, out_features);
        c->linear_add_forward(c, as_activations(sum), as_activations(t->inp), t->weight, bias,
                              as_activations(t->residual), rows, in_features, out_features);
        for (int k = 0; k < outputs; k++) {
            require_near(out[k], t->out[k], 1e-13);
            require_near(activated[k], gelu[k], 1e-13);
            require_near(sum[k], t->out[k] + t->residual[k], 1e-13);
        }
        free(out);
        free(activated);
        free(sum);
        free(gelu);
    }
}

static double loss(void *context)
{
    struct layer *t = context;
    struct compute *c = &t->c;
    c->gelu_forward(c, as_activations(t->activated), as_activations(t->wide), inputs);
    c->linear_forward(c, as_activations(t->out), as_activations(t->activated), t->weight, t->bias, rows,
                      in_features, out_features);
    return inner_product(t->out, t->dout, outputs);
}

static void backward_is_the_derivative_of_gelu_and_layer(void **state)
{
    struct layer *t = *state;
    struct compute *c = &t->c;
    real *dwide = filled_tensor(inputs, 77);
    real *dweight = accumulator(weights), *dbias = accumulator(out_features);
    c->gelu_forward(c, as_activations(t->activated), as_activations(t->wide), inputs);
    c->linear_gelu_backward(c, as_activations(dwide), dweight, dbias, as_activations(t->dout),
                            as_activations(t->activated), as_activations(t->wide), t->weight, rows,
                            in_features, out_features);
    take_off_start(dweight, weights);
    take_off_start(dbias, out_features);
    check_gradient("linear_gelu dwide", loss, t, t->wide, dwide, inputs);
    check_gradient("linear_gelu dweight", loss, t, t->weight, dweight, weights);
    check_gradient("linear_gelu dbias", loss, t, t->bias, dbias, out_features);
    free(dwide);
    free(dweight);
    free(dbias);
}

static void each_gradient_may_be_left_out(void **state)
{
    struct layer *t = *state;
    struct compute *c = &t->c;
    const size_t counts[3] = {inputs, weights, out_features};
    real *all[3], *alone[3];
    for (int i = 0; i < 3; i++) {
        all[i] = accumulator(counts[i]);
        alone[i] = accumulator(counts[i]);
    }
    c->linear_gelu_backward(c, as_activations(all[0]), all[1], all[2], as_activations(t->dout),
                            as_activations(t->inp), as_activations(t->wide), t->weight, rows, in_features,
                            out_features);
    for (int i = 0; i < 3; i++) {
        c->linear_gelu_backward(c, i == 0 ? as_activations(alone[0]) : NULL, i == 1 ? alone[1] : NULL,
                                i == 2 ? alone[2] : NULL, as_activations(t->dout), as_activations(t->inp),
                                as_activations(t->wide), t->weight, rows, in_features, out_features);
        assert_true(same_bits(alone[i], all[i], counts[i]));
        free(all[i]);
        free(alone[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(forward_is_one_operation_after_the_other, open_layer, close_layer),
        cmocka_unit_test_setup_teardown(backward_is_the_derivative_of_gelu_and_layer, open_layer,
                                        close_layer),
        cmocka_unit_test_setup_teardown(each_gradient_may_be_left_out, open_layer, close_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
