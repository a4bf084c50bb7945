/* The reference's MLP in double: forward against the operations one by one, backward against finite
 * differences. */
#include "finite_difference.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    rows = 5,
    channels = 3,
    hidden = 7,
    size = rows * channels,
    wide = rows * hidden,
    weights = channels * hidden,
    parameters = 6,
};

static const size_t counts[parameters] = {channels, channels, weights, hidden, weights, channels};
static const char *const names[parameters] = {"mlp dnorm_weight", "mlp dnorm_bias", "mlp dweight1",
                                              "mlp dbias1",       "mlp dweight2",   "mlp dbias2"};

struct layers {
    struct compute c;
    real *x, *out, *dout;
    real *parameter[parameters];
    struct mlp mlp;
};

static int open_layers(void **state)
{
    static struct layers t;
    open_implementation(&t.c, "reference", 1);
    t.x = random_tensor(1, size, 1);
    t.out = filled_tensor(size, 77);
    t.dout = random_tensor(2, size, 1);
    for (int k = 0; k < parameters; k++) {
        t.parameter[k] = random_tensor((uint32_t)(3 + k), counts[k], 1);
    }
    t.mlp = (struct mlp){channels,       hidden,         t.parameter[0], t.parameter[1],
                         t.parameter[2], t.parameter[3], t.parameter[4], t.parameter[5]};
    *state = &t;
    return 0;
}

static int close_layers(void **state)
{
    struct layers *t = *state;
    free(t->x);
    free(t->out);
    free(t->dout);
    for (int k = 0; k < parameters; k++) {
        free(t->parameter[k]);
    }
    compute_close(&t->c);
    return 0;
}

static void forward_is_one_operation_after_the_other(void **state)
{
    struct layers *t = *state;
    struct compute *c = &t->c;
    real *normed = filled_tensor(size, 0), *mean = filled_tensor(rows, 0), *rstd = filled_tensor(rows, 0);
    real *linear1 = filled_tensor(wide, 0), *linear2 = filled_tensor(size, 0);
    c->mlp_forward(c, as_activations(t->out), as_activations(t->x), &t->mlp, rows);
    c->layer_norm_forward(c, as_activations(normed), mean, rstd, as_activations(t->x), t->parameter[0],
                          t->parameter[1], rows, channels);
    c->linear_forward(c, as_activations(linear1), as_activations(normed), t->parameter[2], t->parameter[3],
                      rows, channels, hidden);
    c->gelu_forward(c, as_activations(linear1), as_activations(linear1), wide);
    c->linear_forward(c, as_activations(linear2), as_activations(linear1), t->parameter[4], t->parameter[5],
                      rows, hidden, channels);
    require_no_failure(c);
    for (int k = 0; k < size; k++) {
        require_near((double)t->out[k], (double)(t->x[k] + linear2[k]), 1e-13);
    }
    free(normed);
    free(mean);
    free(rstd);
    free(linear1);
    free(linear2);
}

static double loss(void *context)
{
    struct layers *t = context;
    t->c.mlp_forward(&t->c, as_activations(t->out), as_activations(t->x), &t->mlp, rows);
    return inner_product(t->out, t->dout, size);
}

static void backward_is_the_derivative(void **state)
{
    struct layers *t = *state;
    struct compute *c = &t->c;
    real *dx = filled_tensor(size, 77), *g[parameters];
    for (int k = 0; k < parameters; k++) {
        g[k] = accumulator(counts[k]);
    }
    const struct mlp_gradients gradients = {g[0], g[1], g[2], g[3], g[4], g[5]};
    c->mlp_backward(c, as_activations(dx), &gradients, as_activations(t->dout), as_activations(t->x), &t->mlp,
                    rows);
    require_no_failure(c);
    check_gradient("mlp dx", loss, t, t->x, dx, size);
    for (int k = 0; k < parameters; k++) {
        take_off_start(g[k], counts[k]);
        check_gradient(names[k], loss, t, t->parameter[k], g[k], counts[k]);
        free(g[k]);
    }
    free(dx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(forward_is_one_operation_after_the_other, open_layers, close_layers),
        cmocka_unit_test_setup_teardown(backward_is_the_derivative, open_layers, close_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
