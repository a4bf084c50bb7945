/* Where the input's gradient leaves act(norm(inp)) for the weights' gradient, the latter is bit for bit that
 * of a convolution which reads act(norm(inp)) as an array. */
#include "compute/tensors.h"
#include "open_cuda_on_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static activation *new_activations(struct compute *c, uint32_t seed, size_t count, double scale)
{
    real *numbers = random_tensor(seed, count, scale);
    float *reals = c->allocate(c, count * sizeof *reals);
    activation *array = c->allocate(c, count * sizeof(float));
    c->to_device(c, reals, numbers, count * sizeof *reals);
    c->activations_from_reals(c, array, reals, count);
    c->release(c, reals);
    free(numbers);
    return array;
}

static float *new_zeros(struct compute *c, size_t count)
{
    float *array = c->allocate(c, count * sizeof *array);
    c->zero(c, array, count);
    return array;
}

static void check(struct compute *c, const struct conv3d_shape *s)
{
    const size_t space = (size_t)s->d * s->h * s->w, ins = s->n * space * s->in_channels;
    const size_t outs = s->n * space * s->out_channels, moments = (size_t)s->n * s->in_channels;
    const size_t weights = (size_t)27 * s->in_channels * s->out_channels;
    activation *inp = new_activations(c, 1, ins, 1), *dout = new_activations(c, 2, outs, 1);
    activation *dinp = new_activations(c, 3, ins, 1), *work = new_activations(c, 4, ins, 1);
    activation *read = new_activations(c, 5, ins, 1);
    float *weight = new_zeros(c, weights), *mean = new_zeros(c, moments), *rstd = new_zeros(c, moments);
    float *found = new_zeros(c, weights), *expected = new_zeros(c, weights);
    float *host = malloc(2 * weights * sizeof *host);
    const struct norm_activation norm = {.mean = mean, .rstd = rstd, .slope = 0.01f};
    assert_non_null(host);
    c->instance_norm_moments(c, mean, rstd, inp, s->n, space, s->in_channels);
    c->instance_norm_apply(c, read, inp, &norm, NULL, s->n, space, s->in_channels);
    c->normed_conv3d_backward(c, NULL, expected, dout, read, NULL, NULL, weight, s);
    c->normed_conv3d_backward(c, dinp, found, dout, inp, &norm, work, weight, s);
    c->to_host(c, host, found, weights * sizeof *host);
    c->to_host(c, host + weights, expected, weights * sizeof *host);
    c->wait(c);
    require_no_failure(c);
    assert_true(same_bits(host, host + weights, weights));
    void *const all[] = {inp, dout, dinp, work, read, weight, mean, rstd, found, expected};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        c->release(c, all[k]);
    }
    free(host);
}

static void weights_gradient_reads_what_the_inputs_leaves(void **state)
{
    /* columns and rows of several tiles, several planes for each block, slices of channels */
    static const struct conv3d_shape shapes[] = {
        {1, 7, 3, 2, 48, 48, 3, 1}, {2, 2, 1, 18, 48, 48, 3, 1}, {1, 1, 17, 3, 48, 48, 3, 1},
        {1, 2, 2, 2, 96, 96, 3, 1}, {1, 3, 2, 3, 16, 16, 3, 1},
    };
    struct compute c;
    (void)state;
    open_cuda_on_host(&c, PRECISION_BF16);
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        check(&c, &shapes[k]);
    }
    compute_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_gradient_reads_what_the_inputs_leaves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
