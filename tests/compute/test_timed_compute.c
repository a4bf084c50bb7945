/* The compute that keeps account: it passes on everything, and adds up what was done. */
#include "compute/operation_arithmetic.h"
#include "compute/timed_compute.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct compute reference;

static int open_reference(void **state)
{
    (void)state;
    open_implementation(&reference, "reference", 1);
    return 0;
}

static int close_reference(void **state)
{
    (void)state;
    compute_close(&reference);
    return 0;
}

/* One that is added to the interface must be added to timed_compute.c or timed_arithmetic.c, too. */
static void every_operation_is_timed(void **state)
{
    (void)state;
    struct operation_total totals[operation_kinds] = {{0}};
    struct timed_compute timer;
    typedef void (*function)(void);
    timed_compute_open(&timer, &reference, totals);
    const size_t first = offsetof(struct compute, activations_from_reals);
    const size_t last = offsetof(struct compute, parameters_changed);
    for (size_t at = first; at <= last; at += sizeof(function)) {
        function plain, timed, timed_full;
        memcpy(&plain, (const char *)&reference + at, sizeof plain);
        memcpy(&timed, (const char *)&timer.compute + at, sizeof timed);
        memcpy(&timed_full, (const char *)&timer.full + at, sizeof timed_full);
        assert_non_null(plain);
        assert_non_null(timed);
        assert_ptr_not_equal(timed, plain);
        assert_ptr_equal(timed_full, timed);
    }
    assert_null(timer.compute.close);
    assert_string_equal(timer.compute.name, "reference");
    assert_int_equal(timer.compute.activation_size, sizeof(real));
    assert_ptr_equal(timer.compute.full, &timer.compute);
}

/* What a kind must have come to. */
static void require_total(const struct operation_total *total, long long calls, double flops, double bytes)
{
    assert_int_equal(total->calls, calls);
    assert_true(total->flops == flops);
    assert_true(total->bytes == bytes);
    assert_true(calls == 0 ? total->seconds == 0 : total->seconds > 0);
}

enum {
    n = 2,
    d = 3,
    h = 4,
    w = 5,
    channels = 6,
    rows = n * d * h * w,
    size = rows * channels,
    wide = 3 * size,
    pairs = size / 2
};

/* Arrays that are large enough for any operation here; forward and backward write into what nobody reads
 * after. */
struct arrays {
    activation *in[4], *out[2];
    real *weight, *bias, *moments[2], *grads[2], *squares[2];
};

static struct arrays new_arrays(void)
{
    struct arrays a;
    for (int k = 0; k < 4; k++) {
        a.in[k] = as_activations(random_tensor((uint32_t)k, 8 * wide, 1));
    }
    for (int k = 0; k < 2; k++) {
        a.out[k] = as_activations(filled_tensor(8 * wide, 7));
        a.moments[k] = random_tensor((uint32_t)(20 + k), wide, 0.1);
        a.grads[k] = filled_tensor(8 * wide, 0);
        a.squares[k] = filled_tensor(size, 1);
    }
    a.weight = random_tensor(30, 8 * wide, 1);
    a.bias = random_tensor(31, 13 * 13 * 13 * channels, 1);
    return a;
}

static void free_arrays(const struct arrays *a)
{
    for (int k = 0; k < 4; k++) {
        free(a->in[k]);
    }
    for (int k = 0; k < 2; k++) {
        free(a->out[k]);
        free(a->moments[k]);
        free(a->grads[k]);
        free(a->squares[k]);
    }
    free(a->weight);
    free(a->bias);
}

static const struct conv3d_shape convolution = {n, d, h, w, channels, 4, 3, 1};
static const struct conv3d_shape from_one_channel = {n, d,        h, w,
                                                     1, channels, 3, 1}; /* what may come before */
static const struct attention_shape attention = {n, d, h, w, 2, 3, {d, h, w}, {0, 0, 0}};

static const struct contrast_shape contrast = {2, 3, 2, 7};

static void convolve_and_multiply(struct compute *c, const struct arrays *a)
{
    c->conv3d_forward(c, a->out[0], a->in[0], a->weight, NULL, &convolution);
    c->conv3d_backward(c, NULL, a->grads[0], NULL, a->in[1], a->in[0], a->weight, &convolution);
    c->conv3d_backward(c, a->out[1], a->grads[0], NULL, a->in[1], a->in[0], a->weight, &convolution);
    const struct norm_activation norm = {.mean = a->bias, .rstd = a->weight, .slope = 1};
    assert_true(c->normed_conv3d_work(c, &convolution) == size);
    c->normed_conv3d_forward(c, a->out[0], a->moments[0], a->moments[1], a->in[0], &norm, a->in[2], a->weight,
                             &convolution);
    c->normed_conv3d_backward(c, NULL, a->grads[0], a->in[1], a->in[0], NULL, NULL, a->weight, &convolution);
    c->normed_conv3d_backward(c, a->out[1], a->grads[0], a->in[1], a->in[0], &norm, a->in[2], a->weight,
                              &convolution);
    c->normed_conv3d_pair_backward(c, a->grads[0], a->grads[1], a->out[1], a->in[1], a->in[0], &norm,
                                   a->in[2], a->in[3], a->weight, a->weight, &convolution);
    c->linear_forward(c, a->out[0], a->in[0], a->weight, a->bias, rows, channels, 5);
    c->linear_backward(c, a->out[1], a->grads[0], a->grads[1], a->in[1], a->in[0], a->weight, rows, channels,
                       5);
    c->linear_backward(c, NULL, a->grads[0], a->grads[1], a->in[1], a->in[0], a->weight, rows, channels, 5);
    c->linear_gelu_forward(c, a->out[0], a->out[1], a->in[0], a->weight, a->bias, rows, channels, 5);
    c->linear_gelu_backward(c, a->out[1], a->grads[0], a->grads[1], a->in[1], a->in[0], a->in[2], a->weight,
                            rows, channels, 5);
    c->linear_gelu_backward(c, NULL, a->grads[0], NULL, a->in[1], a->in[0], a->in[2], a->weight, rows,
                            channels, 5);
    c->linear_add_forward(c, a->out[0], a->in[0], a->weight, NULL, a->in[3], rows, channels, 5);
    const struct mlp mlp = {channels, 5, a->bias, a->bias, a->weight, a->bias, a->weight, a->bias};
    real *grads = a->grads[0];
    const struct mlp_gradients gradients = {grads, grads, grads, grads, grads, grads};
    c->mlp_forward(c, a->out[0], a->in[0], &mlp, rows);
    c->mlp_backward(c, a->out[1], &gradients, a->in[1], a->in[0], &mlp, rows);
    const struct normed_linear layer = {channels, 5, a->bias, a->bias, a->weight, a->bias};
    const struct normed_linear_gradients of_layer = {grads, grads, grads, grads};
    c->normed_linear_forward(c, a->out[0], a->in[0], &layer, rows);
    c->normed_linear_backward(c, a->out[1], &of_layer, a->in[1], a->in[0], a->in[2], &layer, rows);
    c->window_attention_forward(c, a->out[0], a->moments[0], a->in[0], a->weight, a->bias, &attention);
    c->window_attention_backward(c, a->out[1], a->grads[0], a->grads[1], a->in[1], a->out[0], a->moments[0],
                                 a->in[0], a->weight, a->bias, &attention);
}

static void normalise(struct compute *c, const struct arrays *a)
{
    const size_t space = d * h * w;
    c->layer_norm_forward(c, a->out[0], a->moments[0], a->moments[1], a->in[0], NULL, NULL, rows, channels);
    c->layer_norm_backward(c, a->out[1], NULL, NULL, a->in[1], a->in[0], a->moments[0], a->moments[1], NULL,
                           NULL, rows, channels);
    c->layer_norm_backward(c, a->out[1], NULL, NULL, a->in[1], a->in[0], a->moments[0], a->moments[1], NULL,
                           a->in[2], rows, channels);
    c->instance_norm_forward(c, a->out[0], a->moments[0], a->moments[1], a->in[0], NULL, 1, n, space,
                             channels);
    c->instance_norm_forward(c, a->out[0], a->moments[0], a->moments[1], a->in[0], a->in[2], 0, n, space,
                             channels);
    c->instance_norm_backward(c, a->out[1], NULL, a->in[1], NULL, a->in[0], a->moments[0], a->moments[1], 1,
                              n, space, channels);
    c->instance_norm_backward(c, a->out[1], a->in[3], a->in[1], a->out[0], a->in[0], a->moments[0],
                              a->moments[1], 0, n, space, channels);
    const struct norm_activation norm = {.mean = a->moments[0], .rstd = a->moments[1], .slope = 1};
    const struct pooled_residual residual = {.x = a->in[2]};
    const struct pooled_residual scaled = {.x = a->in[2], .scale = a->weight, .centre = a->bias};
    c->instance_norm_moments(c, a->moments[0], a->moments[1], a->in[0], n, space, channels);
    c->instance_norm_apply(c, a->out[0], a->in[0], &norm, NULL, n, space, channels);
    c->instance_norm_apply(c, a->out[0], a->in[0], &norm, a->in[2], n, space, channels);
    c->pooled_norm_forward(c, a->grads[1], channels, a->grads[0], a->in[0], &norm, &residual, n, space,
                           channels);
    c->pooled_norm_forward(c, a->grads[1], channels, a->grads[0], a->in[0], &norm, &scaled, n, space,
                           channels);
    c->pooled_norm_backward(c, a->out[0], a->out[1], NULL, a->weight, channels, a->grads[0], a->in[0], &norm,
                            &residual, n, space, channels);
    c->pooled_norm_backward(c, a->out[0], NULL, a->grads[1], a->weight, channels, a->grads[0], a->in[0],
                            &norm, &scaled, n, space, channels);
}

static void work_elementwise(struct compute *c, const struct arrays *a)
{
    c->activations_from_reals(c, a->out[0], a->weight, size);
    c->reals_from_activations(c, a->grads[0], a->in[0], size);
    c->gelu_forward(c, a->out[0], a->in[0], size);
    c->gelu_backward(c, a->out[1], a->in[1], a->in[0], size);
    c->patch_merge_forward(c, a->out[0], a->in[0], PATCH_MERGING_FIXED, n, d, h, w, channels);
    c->patch_merge_backward(c, a->out[1], a->in[1], PATCH_MERGING_FIXED, n, d, h, w, channels);
    c->add(c, a->out[0], a->out[0], a->in[1], size);
    c->sum_in_order(c, a->grads[0], a->in[0], 2, pairs, 1);
    c->apply_mask(c, a->grads[0], a->grads[0], a->weight, size);
    const struct crop_transform transforms[2] = {{0, {25, 5, 1}, 1, 0}, {124, {-25, -5, -1}, 2, 1}};
    c->transform_crops(c, a->grads[0], a->in[0], 2, transforms, 2, 5);
    double terms[2 * contrast_terms];
    double *work = calloc(contrast_loss_work(&contrast), sizeof *work);
    assert_non_null(work);
    c->contrast_loss(c, terms, a->grads[0], a->squares[0], a->weight, a->bias, a->bias, work, &contrast);
    free(work);
}

static double optimise(struct compute *c, const struct arrays *a)
{
    const struct adamw_settings settings = {
        .learning_rate = 0.1, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1, .step = 1};
    double squares = 0;
    c->sum_of_squares(c, &squares, a->weight, size);
    c->adamw_step(c, a->weight, a->moments[0], a->squares[0], a->squares[1], a->bias, &squares, &settings,
                  size);
    c->undo_if_skipped(c, a->weight, a->bias, &squares, size);
    c->moving_average(c, a->weight, NULL, a->bias, (real)0.9, size);
    c->zero(c, a->grads[1], size);
    c->parameters_changed(c);
    return squares;
}

static double do_everything(struct compute *c, const struct arrays *a)
{
    convolve_and_multiply(c, a);
    normalise(c, a);
    work_elementwise(c, a);
    return optimise(c, a);
}

static void results_are_the_same_bits(void **state)
{
    (void)state;
    struct operation_total totals[operation_kinds] = {{0}};
    struct timed_compute timer;
    timed_compute_open(&timer, &reference, totals);
    const struct arrays plain = new_arrays(), timed = new_arrays();
    assert_true(do_everything(&reference, &plain) == do_everything(&timer.compute, &timed));
    require_no_failure(&timer.compute);
    for (int k = 0; k < 2; k++) {
        assert_memory_equal(plain.out[k], timed.out[k], 8 * wide * sizeof(real));
        assert_memory_equal(plain.grads[k], timed.grads[k], 8 * wide * sizeof(real));
        assert_memory_equal(plain.squares[k], timed.squares[k], size * sizeof(real));
        assert_memory_equal(plain.moments[k], timed.moments[k], wide * sizeof(real));
    }
    assert_memory_equal(plain.weight, timed.weight, 8 * wide * sizeof(real));
    assert_memory_equal(plain.in[3], timed.in[3], 8 * wide * sizeof(real));
    free_arrays(&plain);
    free_arrays(&timed);
}

static void operations_are_added_to_their_kind(void **state)
{
    (void)state;
    struct operation_total totals[operation_kinds] = {{0}};
    struct timed_compute timer;
    const struct arrays a = new_arrays();
    timed_compute_open(&timer, &reference, totals);
    (void)do_everything(&timer.compute, &a);
    require_total(&totals[OPERATION_CONVOLUTION], 7,
                  (2 * (1 + 1 + 2) + 2) * conv3d_flops(&convolution) + conv3d_flops(&from_one_channel), 0);
    /* The MLP: two layers forward, and twice as much backward. */
    require_total(&totals[OPERATION_LINEAR], 11,
                  (1 + 2 + 1 + 1 + 2 + 1 + 1 + 2 + 4 + 1 + 2) * linear_flops(rows, channels, 5), 0);
    require_total(&totals[OPERATION_ATTENTION], 2, (2 + 4) * attention_product_flops(&attention), 0);
    /* Layer norm: in, out; out, two in; the same and a residual. Instance norm: in, out; the same and a
     * residual; out, two in; out twice, three in. Moments: in. Apply: in, out; the same and a residual.
     * Pools: in and residual; in; and their gradients as well. */
    const int arrays = (2 + 3 + 4 + 2 + 3 + 3 + 5) + (1 + 2 + 3) + (2 + 1 + 4 + 2);
    require_total(&totals[OPERATION_NORM], 14, 0, arrays * size * (double)sizeof(real));
    /* 2 x 2 x 3 merged tokens of 8 channels each. */
    const double merging = size + n * 2 * 2 * 3 * 8 * channels;
    /* The mask: three arrays. The loss: 10 rows of two arrays in, one out. The crops: two bytes in, a real
     * out. */
    require_total(&totals[OPERATION_ELEMENTWISE], 11, 0,
                  ((2 + 2 + 2 + 3 + 3 + 3) * size + 2 * merging + 3 * pairs + 3 * 10 * 7 + 2 * 125) *
                          (double)sizeof(real) +
                      2 * 125 * 2);
    require_total(&totals[OPERATION_OPTIMISER], 5, 0, (9 + 3 + 1 + 1) * size * (double)sizeof(real));
    free_arrays(&a);
}

static void totals_can_change_between_operations(void **state)
{
    (void)state;
    struct operation_total first[operation_kinds] = {{0}}, second[operation_kinds] = {{0}};
    struct timed_compute timer;
    const struct arrays a = new_arrays();
    timed_compute_open(&timer, &reference, first);
    struct compute *c = &timer.compute;
    c->add(c, a.out[0], a.in[0], a.in[1], 10);
    timer.totals = second;
    c->add(c, a.out[0], a.in[0], a.in[1], 20);
    c->add(c, a.out[0], a.in[0], a.in[1], 20);
    require_total(&first[OPERATION_ELEMENTWISE], 1, 0, 30.0 * sizeof(real));
    require_total(&second[OPERATION_ELEMENTWISE], 2, 0, 120.0 * sizeof(real));
    require_total(&second[OPERATION_NORM], 0, 0, 0);
    free_arrays(&a);
}

/* nn/swin_block.c asks whether it is there. */
static void an_operation_that_is_not_there_is_not_timed(void **state)
{
    (void)state;
    struct operation_total totals[operation_kinds] = {{0}};
    struct compute without = reference;
    struct timed_compute timer;
    without.full = &without;
    without.mlp_forward = NULL;
    without.mlp_backward = NULL;
    without.mlp_fits = NULL;
    without.normed_linear_forward = NULL;
    without.normed_linear_backward = NULL;
    without.normed_linear_fits = NULL;
    timed_compute_open(&timer, &without, totals);
    assert_null(timer.compute.mlp_forward);
    assert_null(timer.compute.mlp_backward);
    assert_null(timer.compute.mlp_fits);
    assert_null(timer.compute.normed_linear_forward);
    assert_null(timer.compute.normed_linear_backward);
    assert_null(timer.compute.normed_linear_fits);
}

static int fits_three_and_five(struct compute *c, int in, int out)
{
    return strcmp(c->name, "choosy") == 0 && in == 3 && out == 5;
}

static void a_question_reaches_the_implementation(void **state)
{
    (void)state;
    struct operation_total totals[operation_kinds] = {{0}};
    struct compute choosy = {
        .name = "choosy", .mlp_fits = fits_three_and_five, .normed_linear_fits = fits_three_and_five};
    struct timed_compute timer;
    choosy.full = &choosy;
    timed_compute_open(&timer, &choosy, totals);
    assert_true(timer.compute.mlp_fits(&timer.compute, 3, 5));
    assert_false(timer.compute.mlp_fits(&timer.compute, 5, 3));
    assert_true(timer.compute.normed_linear_fits(&timer.compute, 3, 5));
    assert_false(timer.compute.normed_linear_fits(&timer.compute, 5, 3));
    require_total(&totals[OPERATION_LINEAR], 0, 0, 0);
}

/* ---- an implementation with two forms of activations, of which one cannot add ---- */

static void add_nothing(struct compute *c, activation *out, const activation *a, const activation *b,
                        size_t count)
{
    (void)c, (void)out, (void)a, (void)b, (void)count;
}

static void fail_to_add(struct compute *c, activation *out, const activation *a, const activation *b,
                        size_t count)
{
    add_nothing(c, out, a, b, count);
    compute_failed(c, VOCO_NO_MEMORY, "no room to add");
}

static void the_full_form_is_counted_and_fails_too(void **state)
{
    (void)state;
    struct operation_total totals[operation_kinds] = {{0}};
    struct compute full = {.name = "full", .activation_size = 4, .add = fail_to_add};
    struct compute half = {.name = "half", .activation_size = 2, .full = &full, .add = add_nothing};
    struct timed_compute timer;
    full.full = &full;
    timed_compute_open(&timer, &half, totals);
    struct compute *c = &timer.compute;
    c->add(c, NULL, NULL, NULL, 10);
    assert_int_equal(compute_status(c), VOCO_OK);
    assert_true(totals[OPERATION_ELEMENTWISE].bytes == 3 * 10 * 2);
    c->full->add(c->full, NULL, NULL, NULL, 10);
    assert_true(totals[OPERATION_ELEMENTWISE].bytes == 3 * 10 * 2 + 3 * 10 * 4);
    assert_int_equal(compute_status(c), VOCO_NO_MEMORY);
    assert_string_equal(voco_error_message(), "full: no room to add");
    assert_int_equal(compute_status(c), VOCO_OK);
    assert_int_equal(full.status, VOCO_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_is_timed),
        cmocka_unit_test(results_are_the_same_bits),
        cmocka_unit_test(operations_are_added_to_their_kind),
        cmocka_unit_test(totals_can_change_between_operations),
        cmocka_unit_test(an_operation_that_is_not_there_is_not_timed),
        cmocka_unit_test(a_question_reaches_the_implementation),
        cmocka_unit_test(the_full_form_is_counted_and_fails_too),
    };
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
