/* Recordings of the cuda implementation's operations, whose kernels run on the processor: a replay gives the
 * bits that operations one by one give, also where the forms of weights that they read have become stale, and
 * what has no place in a recording makes it fail and nothing else. */
#include "compute/tensors.h"
#include "open_cuda_on_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct conv3d_shape wide_shape = {1, 4, 4, 5, 48, 48, 3, 1}, shape = {1, 4, 4, 5, 8, 8, 3, 1};
enum { rows = 80, channels = 48, hidden = 192, values = rows * hidden, weights = 27 * channels * channels };

/* Of the operations, in the GPU's memory. */
struct arrays {
    float *x, *params, *gradients, *mean, *rstd;
    activation *inp; /* x */
    activation *out, *dinp, *z, *dz, *full_out, *full_dinp;
};

/* What they leave: the host's. */
struct outcome {
    float gradients[weights], arrays[6][values];
};

static void *new_array(struct compute *c, size_t count)
{
    void *array = c->allocate(c, count * sizeof(float));
    assert_non_null(array);
    c->zero(c, array, count);
    return array;
}

static void fill(struct compute *c, float *array, uint32_t seed, size_t count, double scale)
{
    float *numbers = random_tensor(seed, count, scale);
    c->to_device(c, array, numbers, count * sizeof *numbers);
    c->wait(c);
    free(numbers);
}

static struct arrays new_arrays(struct compute *c)
{
    const struct arrays a = {
        .x = new_array(c, values),
        .params = new_array(c, weights),
        .gradients = new_array(c, weights),
        .mean = new_array(c, channels),
        .rstd = new_array(c, channels),
        .inp = new_array(c, values),
        .out = new_array(c, values),
        .dinp = new_array(c, values),
        .z = new_array(c, values),
        .dz = new_array(c, values),
        .full_out = new_array(c, values),
        .full_dinp = new_array(c, values),
    };
    fill(c, a.x, 3, values, 1);
    c->activations_from_reals(c, a.inp, a.x, values);
    return a;
}

static void free_arrays(struct compute *c, const struct arrays *a)
{
    void *const all[] = {a->x,   a->params, a->gradients, a->mean, a->rstd,     a->inp,
                         a->out, a->dinp,   a->z,         a->dz,   a->full_out, a->full_dinp};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        c->release(c, all[k]);
    }
}

static void change_params(struct compute *c, const struct arrays *a, uint32_t seed)
{
    fill(c, a->params, seed, weights, 0.1);
    c->parameters_changed(c);
}

/* Operations with all the forms of weights, of either precision, with scratch memory and zeroing. */
static void ask_for_all(struct compute *c, const struct arrays *a)
{
    struct compute *full = c->full;
    const activation *x = as_activations(a->x);
    c->zero(c, a->gradients, weights);
    c->normed_conv3d_forward(c, a->out, a->mean, a->rstd, a->inp, NULL, NULL, a->params, &wide_shape);
    c->conv3d_backward(c, a->dinp, a->gradients, NULL, a->out, a->inp, a->params, &wide_shape);
    c->linear_forward(c, a->z, a->inp, a->params, NULL, rows, channels, hidden);
    c->linear_backward(c, a->dz, a->gradients, NULL, a->z, a->inp, a->params, rows, channels, hidden);
    full->conv3d_forward(full, a->full_out, x, a->params, NULL, &shape);
    full->conv3d_backward(full, a->full_dinp, a->gradients, NULL, a->full_out, x, a->params, &shape);
}

static struct outcome *outcome_of(struct compute *c, const struct arrays *a)
{
    struct outcome *outcome = malloc(sizeof *outcome);
    const activation *const arrays[] = {a->out, a->dinp, a->z, a->dz, a->full_out, a->full_dinp};
    assert_non_null(outcome);
    c->to_host(c, outcome->gradients, a->gradients, sizeof outcome->gradients);
    for (int k = 0; k < 6; k++) {
        c->to_host(c, outcome->arrays[k], arrays[k], sizeof outcome->arrays[k]);
    }
    c->wait(c);
    require_no_failure(c);
    return outcome;
}

static void require_outcome(struct compute *c, const struct arrays *a, const struct outcome *expected)
{
    struct outcome *found = outcome_of(c, a);
    assert_memory_equal(found, expected, sizeof *found);
    free(found);
}

enum { first_params = 11, other_params };

static void a_replay_is_the_operations_one_by_one(enum compute_precision precision)
{
    struct compute c;
    struct recording *recording = NULL;
    open_cuda_on_host(&c, precision);
    const struct arrays a = new_arrays(&c);
    change_params(&c, &a, other_params);
    ask_for_all(&c, &a);
    struct outcome *other = outcome_of(&c, &a);
    change_params(&c, &a, first_params);
    ask_for_all(&c, &a);
    struct outcome *first = outcome_of(&c, &a);
    assert_memory_not_equal(first, other, sizeof *first);

    change_params(&c, &a, other_params);
    c.record_begin(&c);
    ask_for_all(&c, &a);
    assert_int_equal(c.record_end(&c, &recording), VOCO_OK);
    require_outcome(&c, &a, first); /* nothing was done */
    c.replay(&c, recording);
    require_outcome(&c, &a, other);
    change_params(&c, &a, first_params); /* forms that only a replay asked for */
    c.replay(&c, recording);
    require_outcome(&c, &a, first);
    change_params(&c, &a, other_params);
    c.linear_forward(&c, a.z, a.inp, a.params, NULL, rows, channels, hidden); /* asks for some */
    c.replay(&c, recording);
    require_outcome(&c, &a, other);
    ask_for_all(&c, &a); /* with the forms that the replay left */
    require_outcome(&c, &a, other);
    change_params(&c, &a, first_params);
    ask_for_all(&c, &a);
    require_outcome(&c, &a, first);

    c.recording_free(&c, recording);
    free(first);
    free(other);
    free_arrays(&c, &a);
    compute_close(&c);
}

static void replays_are_the_operations_in_float32(void **unused)
{
    (void)unused;
    a_replay_is_the_operations_one_by_one(PRECISION_FLOAT32);
}

static void replays_are_the_operations_in_bf16(void **unused)
{
    (void)unused;
    a_replay_is_the_operations_one_by_one(PRECISION_BF16);
}

static void ask_for_one(struct compute *c, const struct arrays *a)
{
    c->linear_forward(c, a->z, a->inp, a->params, NULL, rows, channels, hidden);
}

static void what_has_no_place_makes_a_recording_fail(void **unused)
{
    (void)unused;
    struct compute c;
    struct recording *recording = NULL;
    open_cuda_on_host(&c, PRECISION_BF16);
    const struct arrays a = new_arrays(&c);
    change_params(&c, &a, first_params);
    ask_for_one(&c, &a);
    struct outcome *expected = outcome_of(&c, &a);
    for (int what = 0; what < 5; what++) {
        float number = 0;
        c.record_begin(&c);
        ask_for_one(&c, &a);
        switch (what) {
        case 0: /* takes memory for a form that was never asked for */
            c.linear_forward(&c, a.z, a.inp, a.params + 8, NULL, rows, channels, hidden);
            break;
        case 1:
            c.parameters_changed(&c);
            break;
        case 2:
            c.to_host(&c, &number, a.params, sizeof number);
            break;
        case 3:
            c.to_device(&c, a.params, &number, sizeof number);
            break;
        default:
            c.wait(&c);
        }
        assert_int_equal(c.record_end(&c, &recording), VOCO_UNSUPPORTED);
        assert_null(recording);
        ask_for_one(&c, &a);
        require_outcome(&c, &a, expected);
    }
    free(expected);
    free_arrays(&c, &a);
    compute_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_are_the_operations_in_float32),
        cmocka_unit_test(replays_are_the_operations_in_bf16),
        cmocka_unit_test(what_has_no_place_makes_a_recording_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
