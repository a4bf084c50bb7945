/* The reference linear layer in double: forward against the definition, backward against finite differences.
 */
#include "finite_difference.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { rows = 5, in_features = 7, out_features = 3 };

struct layer {
    struct compute c;
    real *inp, *weight, *bias, *out, *dout;
};

static int open_layer(void **state)
{
    static struct layer t;
    open_implementation(&t.c, "reference", 1);
    t.inp = random_tensor(1, rows * in_features, 1);
    t.weight = random_tensor(2, in_features * out_features, 0.5);
    t.bias = random_tensor(3, out_features, 1);
    t.out = filled_tensor(rows * out_features, 0);
    t.dout = random_tensor(4, rows * out_features, 1);
    *state = &t;
    return 0;
}

static int close_layer(void **state)
{
    struct layer *t = *state;
    free(t->inp);
    free(t->weight);
    free(t->bias);
    free(t->out);
    free(t->dout);
    compute_close(&t->c);
    return 0;
}

static void forward_is_inp_times_weight_transposed(void **state)
{
    struct layer *t = *state;
    for (int with_bias = 0; with_bias < 2; with_bias++) {
        t->c.linear_forward(&t->c, as_activations(t->out), as_activations(t->inp), t->weight,
                            with_bias ? t->bias : NULL, rows, in_features, out_features);
        for (int k = 0; k < rows * out_features; k++) {
            const int row = k / out_features, o = k % out_features;
            const double expected =
                inner_product(t->inp + row * in_features, t->weight + o * in_features, in_features);
            require_near(t->out[k], expected + with_bias * t->bias[o], 1e-13);
        }
    }
}

static double loss(void *context)
{
    struct layer *t = context;
    t->c.linear_forward(&t->c, as_activations(t->out), as_activations(t->inp), t->weight, t->bias, rows,
                        in_features, out_features);
    return inner_product(t->out, t->dout, rows * out_features);
}

static void backward_is_the_derivative_of_forward(void **state)
{
    struct layer *t = *state;
    real *dinp = filled_tensor(rows * in_features, 77);
    real *dweight = accumulator(in_features * out_features), *dbias = accumulator(out_features);
    t->c.linear_backward(&t->c, as_activations(dinp), dweight, dbias, as_activations(t->dout),
                         as_activations(t->inp), t->weight, rows, in_features, out_features);
    take_off_start(dweight, in_features * out_features);
    take_off_start(dbias, out_features);
    check_gradient("linear dinp", loss, t, t->inp, dinp, rows * in_features);
    check_gradient("linear dweight", loss, t, t->weight, dweight, in_features * out_features);
    check_gradient("linear dbias", loss, t, t->bias, dbias, out_features);
    free(dinp);
    free(dweight);
    free(dbias);
}

static void each_gradient_may_be_left_out(void **state)
{
    struct layer *t = *state;
    const size_t counts[3] = {rows * in_features, in_features * out_features, out_features};
    real *all[3], *alone[3];
    for (int i = 0; i < 3; i++) {
        all[i] = accumulator(counts[i]);
        alone[i] = accumulator(counts[i]);
    }
    struct compute *c = &t->c;
    c->linear_backward(c, as_activations(all[0]), all[1], all[2], as_activations(t->dout),
                       as_activations(t->inp), t->weight, rows, in_features, out_features);
    c->linear_backward(c, as_activations(alone[0]), NULL, NULL, as_activations(t->dout),
                       as_activations(t->inp), t->weight, rows, in_features, out_features);
    c->linear_backward(c, NULL, alone[1], NULL, as_activations(t->dout), as_activations(t->inp), t->weight,
                       rows, in_features, out_features);
    c->linear_backward(c, NULL, NULL, alone[2], as_activations(t->dout), as_activations(t->inp), t->weight,
                       rows, in_features, out_features);
    for (int i = 0; i < 3; i++) {
        assert_true(same_bits(alone[i], all[i], counts[i]));
        free(all[i]);
        free(alone[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(forward_is_inp_times_weight_transposed, open_layer, close_layer),
        cmocka_unit_test_setup_teardown(backward_is_the_derivative_of_forward, open_layer, close_layer),
        cmocka_unit_test_setup_teardown(each_gradient_may_be_left_out, open_layer, close_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
