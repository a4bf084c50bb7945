/* The reference convolution in double: forward against the definition, backward against finite differences.
 */
#include "finite_difference.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct convolution {
    struct compute c;
    struct conv3d_shape shape;
    size_t inputs, outputs, weights;
    real *inp, *weight, *bias, *out, *dout;
};

static const struct conv3d_shape shapes[] = {
    {.n = 2, .d = 5, .h = 3, .w = 7, .in_channels = 3, .out_channels = 2, .kernel = 3, .stride = 1},
    {.n = 1, .d = 1, .h = 2, .w = 5, .in_channels = 2, .out_channels = 5, .kernel = 3, .stride = 1},
    {.n = 2, .d = 5, .h = 3, .w = 7, .in_channels = 4, .out_channels = 3, .kernel = 1, .stride = 1},
    {.n = 2, .d = 6, .h = 2, .w = 4, .in_channels = 1, .out_channels = 6, .kernel = 2, .stride = 2},
    {.n = 1, .d = 3, .h = 6, .w = 9, .in_channels = 2, .out_channels = 3, .kernel = 3, .stride = 3},
};
enum { shape_count = sizeof shapes / sizeof *shapes };

static void open_convolution(struct convolution *t, const struct conv3d_shape *s)
{
    const int stride = s->stride;
    open_implementation(&t->c, "reference", 1);
    t->shape = *s;
    t->inputs = (size_t)s->n * s->d * s->h * s->w * s->in_channels;
    t->outputs = (size_t)s->n * (s->d / stride) * (s->h / stride) * (s->w / stride) * s->out_channels;
    t->weights = (size_t)s->out_channels * s->in_channels * s->kernel * s->kernel * s->kernel;
    t->inp = random_tensor(1, t->inputs, 1);
    t->weight = random_tensor(2, t->weights, 0.3);
    t->bias = random_tensor(3, s->out_channels, 1);
    t->out = filled_tensor(t->outputs, 0);
    t->dout = random_tensor(4, t->outputs, 1);
}

static void close_convolution(struct convolution *t)
{
    require_no_failure(&t->c);
    free(t->inp);
    free(t->weight);
    free(t->bias);
    free(t->out);
    free(t->dout);
    compute_close(&t->c);
}

/* One output element by the definition of a cross-correlation over a zero-padded input. */
static double output_by_definition(const struct convolution *t, int n, int d, int h, int w, int o)
{
    const struct conv3d_shape *s = &t->shape;
    const int k = s->kernel, padding = s->stride == 1 ? k / 2 : 0;
    double sum = t->bias[o];
    for (int i = 0; i < s->in_channels; i++) {
        for (int tap = 0; tap < k * k * k; tap++) {
            const int z = d * s->stride + tap / (k * k) - padding;
            const int y = h * s->stride + tap / k % k - padding;
            const int x = w * s->stride + tap % k - padding;
            if (z >= 0 && z < s->d && y >= 0 && y < s->h && x >= 0 && x < s->w) {
                const size_t voxel = (((size_t)n * s->d + z) * s->h + y) * s->w + x;
                sum += t->inp[voxel * s->in_channels + i] *
                       t->weight[(((size_t)o * s->in_channels + i) * k * k * k) + tap];
            }
        }
    }
    return sum;
}

static void forward_is_a_cross_correlation_with_same_padding(void **state)
{
    (void)state;
    for (int i = 0; i < shape_count; i++) {
        struct convolution t;
        open_convolution(&t, &shapes[i]);
        const struct conv3d_shape *s = &t.shape;
        const int od = s->d / s->stride, oh = s->h / s->stride, ow = s->w / s->stride;
        t.c.conv3d_forward(&t.c, as_activations(t.out), as_activations(t.inp), t.weight, t.bias, s);
        for (size_t k = 0; k < t.outputs; k++) {
            const int o = (int)(k % s->out_channels);
            const size_t voxel = k / s->out_channels;
            const double expected =
                output_by_definition(&t, (int)(voxel / ow / oh / od), (int)(voxel / ow / oh % od),
                                     (int)(voxel / ow % oh), (int)(voxel % ow), o);
            require_near(t.out[k], expected, 1e-12);
        }
        close_convolution(&t);
    }
}

static void without_bias_is_with_a_bias_of_zero(void **state)
{
    (void)state;
    struct convolution t;
    open_convolution(&t, &shapes[0]);
    real *zero = filled_tensor(t.shape.out_channels, 0), *out = filled_tensor(t.outputs, 1);
    t.c.conv3d_forward(&t.c, as_activations(t.out), as_activations(t.inp), t.weight, NULL, &t.shape);
    t.c.conv3d_forward(&t.c, as_activations(out), as_activations(t.inp), t.weight, zero, &t.shape);
    assert_true(same_bits(out, t.out, t.outputs));
    free(zero);
    free(out);
    close_convolution(&t);
}

static double loss(void *context)
{
    struct convolution *t = context;
    t->c.conv3d_forward(&t->c, as_activations(t->out), as_activations(t->inp), t->weight, t->bias, &t->shape);
    return inner_product(t->out, t->dout, t->outputs);
}

static void backward_is_the_derivative_of_forward(void **state)
{
    (void)state;
    for (int i = 0; i < shape_count; i++) {
        struct convolution t;
        open_convolution(&t, &shapes[i]);
        real *dinp = filled_tensor(t.inputs, 77);
        real *dweight = accumulator(t.weights), *dbias = accumulator(t.shape.out_channels);
        t.c.conv3d_backward(&t.c, as_activations(dinp), dweight, dbias, as_activations(t.dout),
                            as_activations(t.inp), t.weight, &t.shape);
        take_off_start(dweight, t.weights);
        take_off_start(dbias, t.shape.out_channels);
        check_gradient("conv3d dinp", loss, &t, t.inp, dinp, t.inputs);
        check_gradient("conv3d dweight", loss, &t, t.weight, dweight, t.weights);
        check_gradient("conv3d dbias", loss, &t, t.bias, dbias, t.shape.out_channels);
        free(dinp);
        free(dweight);
        free(dbias);
        close_convolution(&t);
    }
}

/* Each gradient alone, with NULL for the others, must be what the full call gives. */
static void each_gradient_may_be_left_out(void **state)
{
    (void)state;
    struct convolution t;
    open_convolution(&t, &shapes[0]);
    const size_t counts[3] = {t.inputs, t.weights, (size_t)t.shape.out_channels};
    real *all[3], *alone[3];
    for (int i = 0; i < 3; i++) {
        all[i] = accumulator(counts[i]);
        alone[i] = accumulator(counts[i]);
    }
    t.c.conv3d_backward(&t.c, as_activations(all[0]), all[1], all[2], as_activations(t.dout),
                        as_activations(t.inp), t.weight, &t.shape);
    t.c.conv3d_backward(&t.c, as_activations(alone[0]), NULL, NULL, as_activations(t.dout),
                        as_activations(t.inp), t.weight, &t.shape);
    t.c.conv3d_backward(&t.c, NULL, alone[1], NULL, as_activations(t.dout), as_activations(t.inp), t.weight,
                        &t.shape);
    t.c.conv3d_backward(&t.c, NULL, NULL, alone[2], as_activations(t.dout), as_activations(t.inp), t.weight,
                        &t.shape);
    t.c.conv3d_backward(&t.c, NULL, NULL, NULL, as_activations(t.dout), as_activations(t.inp), t.weight,
                        &t.shape);
    for (int i = 0; i < 3; i++) {
        assert_true(same_bits(alone[i], all[i], counts[i]));
        free(all[i]);
        free(alone[i]);
    }
    close_convolution(&t);
}

static void an_unsupported_kernel_is_reported_and_stops_what_follows(void **state)
{
    (void)state;
    struct convolution t;
    open_convolution(&t, &shapes[0]);
    struct conv3d_shape odd = t.shape;
    odd.kernel = 5;
    t.c.conv3d_forward(&t.c, as_activations(t.out), as_activations(t.inp), t.weight, t.bias, &odd);
    t.c.conv3d_forward(&t.c, as_activations(t.out), as_activations(t.inp), t.weight, t.bias, &t.shape);
    for (size_t k = 0; k < t.outputs; k++) {
        assert_true(t.out[k] == 0);
    }
    assert_int_equal(compute_status(&t.c), VOCO_UNSUPPORTED);
    assert_non_null(voco_error_message());
    assert_int_equal(compute_status(&t.c), VOCO_OK);
    close_convolution(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_a_cross_correlation_with_same_padding),
        cmocka_unit_test(without_bias_is_with_a_bias_of_zero),
        cmocka_unit_test(backward_is_the_derivative_of_forward),
        cmocka_unit_test(each_gradient_may_be_left_out),
        cmocka_unit_test(an_unsupported_kernel_is_reported_and_stops_what_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
