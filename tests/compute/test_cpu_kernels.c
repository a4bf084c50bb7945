/* What is special to the "cpu" implementation: the choice of instruction set, its own convolution kernels and
 * the limits of its caches, and that a NaN comes through every kernel. */
#include "compute/cpu/kernels/vector.h"
#include "cpu_agreement.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const instruction_sets[] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};
enum { instruction_set_count = sizeof instruction_sets / sizeof *instruction_sets };

/* Opens "cpu" with this instruction set; 0 where the processor lacks it. */
static int open_in(struct compute *c, int isa, enum compute_precision precision)
{
    assert_int_equal(setenv("VOCO_ISA", instruction_sets[isa], 1), 0);
    const enum voco_status status = compute_open(c, "cpu", 2, precision);
    assert_int_equal(unsetenv("VOCO_ISA"), 0);
    return status == VOCO_OK;
}

static int open_with(struct compute *c, int isa)
{
    return open_in(c, isa, PRECISION_FLOAT32);
}

static void instruction_sets_are_chosen_by_name(void **state)
{
    (void)state;
    struct compute c;
    assert_true(open_with(&c, 0));
    compute_close(&c);
    assert_int_equal(setenv("VOCO_ISA", "sse9", 1), 0);
    assert_int_equal(compute_open(&c, "cpu", 1, PRECISION_FLOAT32), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "VOCO_ISA=sse9"));
    assert_int_equal(unsetenv("VOCO_ISA"), 0);
}

static void what_lacks_a_precision_says_so(void **state)
{
    (void)state;
    struct compute c;
    assert_int_equal(compute_open(&c, "cpu", 1, PRECISION_TF32), VOCO_UNSUPPORTED);
    assert_string_equal(
        voco_error_message(),
        "the cpu implementation computes in float32 or bf16, not in tf32, which is for GPUs (cuda)");
    assert_int_equal(compute_open(&c, "reference", 1, PRECISION_TF32), VOCO_UNSUPPORTED);
    assert_string_equal(voco_error_message(),
                        "the reference implementation computes in float32 only, not in tf32");
    assert_int_equal(compute_open(&c, "reference", 1, PRECISION_BF16), VOCO_UNSUPPORTED);
    assert_string_equal(voco_error_message(),
                        "the reference implementation computes in float32 only, not in bf16");
}

static void convolve(struct compute *c, const void *shape, struct results *r)
{
    const struct conv3d_shape *s = shape;
    const size_t rows = (size_t)s->n * s->d * s->h * s->w, taps = (size_t)s->kernel * s->kernel * s->kernel;
    const size_t weights = taps * s->in_channels * s->out_channels;
    activation *inp = given_activations(r, random_tensor(1, rows * s->in_channels, 1), rows * s->in_channels);
    real *weight = given_reals(r, random_tensor(2, weights, 1), weights);
    activation *dout =
        given_activations(r, random_tensor(3, rows * s->out_channels, 1), rows * s->out_channels);
    activation *out = new_activations(r, "out", rows * s->out_channels, 7);
    activation *dinp = new_activations(r, "dinp", rows * s->in_channels, 7);
    real *dweight = new_result(r, "dweight", weights, accumulated_start);
    c->conv3d_forward(c, out, inp, weight, NULL, s);
    c->conv3d_backward(c, dinp, dweight, NULL, dout, inp, weight, s);
    take_off_start(dweight, weights);
}

/* Rows that are no multiple of a tile, and more planes than a slab. */
static void narrow_convolutions_agree(void **state)
{
    (void)state;
    static const struct conv3d_shape shapes[] = {{3, 7, 2, 5, 1, 12, 3, 1},    {1, 13, 3, 31, 12, 12, 3, 1},
                                                 {2, 6, 1, 25, 24, 12, 3, 1},  {1, 5, 7, 13, 12, 24, 3, 1},
                                                 {3, 1, 4, 7, 24, 24, 3, 1},   {1, 8, 3, 48, 1, 24, 3, 1},
                                                 {5, 12, 12, 12, 24, 24, 3, 1}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const struct conv3d_shape *s = &shapes[k];
        char name[96];
        snprintf(name, sizeof name, "%d x (%d %d %d), %d to %d", s->n, s->d, s->h, s->w, s->in_channels,
                 s->out_channels);
        hold_against_reference(name, convolve, s, 1e-5);
        hold_bf16_against_reference(name, convolve, s, winograd_bf16_tolerance, winograd_bf16_tolerance);
    }
}

static void gradients_on_small_grids_agree(void **state)
{
    (void)state;
    static const struct conv3d_shape shapes[] = {
        {3, 2, 2, 2, 192, 192, 3, 1}, {1, 1, 3, 2, 204, 192, 3, 1}, {2, 4, 4, 4, 192, 192, 3, 1}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        hold_against_reference("small grid", convolve, &shapes[k], 1e-5);
        hold_bf16_against_reference("small grid", convolve, &shapes[k], bf16_tolerance, 1e-5);
    }
}

static int count_nan(struct results *r, const activation *x, size_t count)
{
    int found = 0;
    real *values = filled_tensor(count, 0);
    r->compute->reals_from_activations(r->compute, values, x, count);
    for (size_t k = 0; k < count; k++) {
        found += isnan(values[k]) != 0;
    }
    free(values);
    return found;
}

static void attention_shows_nan(struct compute *c, int column, int expected)
{
    enum { tokens = 27, channels = 12, size = tokens * channels, table_size = relative_table_rows * 3 };
    const struct attention_shape s = {1, 3, 3, 3, 3, 4, {3, 3, 3}, {0, 0, 0}};
    struct results r = {.compute = c};
    real *values = random_tensor(1, (size_t)size * 3, 1);
    values[5 * 3 * channels + column] = (real)NAN;
    activation *qkv = given_activations(&r, values, (size_t)size * 3);
    real *bias = given_reals(&r, random_tensor(2, 3 * channels, 1), 3 * channels);
    real *table = given_reals(&r, random_tensor(3, table_size, 1), table_size);
    activation *out = new_activations(&r, "out", size, 0);
    real logsumexp[tokens * 3];
    c->window_attention_forward(c, out, logsumexp, qkv, bias, table, &s);
    assert_int_equal(count_nan(&r, out, size), expected);
    free_results(&r);
}

static void require_nan_comes_through(struct compute *c)
{
    enum { rows = 216, channels = 12, size = rows * channels, weights = 27 * channels * channels };
    struct results r = {.compute = c};
    real *values = random_tensor(1, size, 1);
    values[40 * channels + 3] = (real)NAN;
    activation *inp = given_activations(&r, values, size);
    activation *dout = given_activations(&r, random_tensor(3, size, 1), size);
    real *weight = given_reals(&r, random_tensor(2, weights, 1), weights);
    activation *out = new_activations(&r, "out", size, 0);
    real mean[rows], rstd[rows];
    c->gelu_forward(c, out, inp, size);
    assert_int_equal(count_nan(&r, out, size), 1);
    c->gelu_backward(c, out, dout, inp, size);
    assert_int_equal(count_nan(&r, out, size), 1);
    c->layer_norm_forward(c, out, mean, rstd, inp, NULL, NULL, rows, channels);
    assert_int_equal(count_nan(&r, out, size), channels);
    c->instance_norm_forward(c, out, mean, rstd, inp, NULL, (real)0.01, 1, rows, channels);
    assert_int_equal(count_nan(&r, out, size), rows);
    const struct conv3d_shape shape = {1, 6, 6, 6, channels, channels, 3, 1};
    c->conv3d_forward(c, out, inp, weight, NULL, &shape);
    /* Voxel (1, 0, 4) has 3 x 2 x 3 neighbours. Winograd's tiles spread it over their 4 rows, and those of
     * AMX also multiply what lies behind a neighbourhood along w, by zero. */
    assert_in_range(count_nan(&r, out, size), 18 * channels, 2 * 18 * channels);
    c->linear_forward(c, out, inp, weight, NULL, rows, channels, channels);
    assert_int_equal(count_nan(&r, out, size), channels);
    free_results(&r);
    attention_shows_nan(c, 2, 4);           /* a query: its own head */
    attention_shows_nan(c, 12 + 2, 27 * 4); /* a key: all queries of the head */
    attention_shows_nan(c, 24 + 2, 27);     /* a value: its column */
    require_no_failure(c);
}

static void nan_comes_through(void **state)
{
    (void)state;
    for (int isa = 0; isa < instruction_set_count; isa++) {
        for (int precision = PRECISION_FLOAT32; precision <= PRECISION_BF16; precision++) {
            struct compute c;
            if (!open_in(&c, isa, precision)) {
                printf("    skipped: this processor lacks %s\n", instruction_sets[isa]);
                continue;
            }
            require_nan_comes_through(&c);
            compute_close(&c);
        }
    }
}

/* bf16 keeps 8 significant bits: halfway between two neighbours the even one wins. */
static void bf16_is_rounded_to_the_nearest_even(void **state)
{
    (void)state;
    static const real given[] = {0,
                                 (real)-0.0,
                                 1,
                                 1 + 0x1p-8F,
                                 1 + 0x1.8p-7F,
                                 1 + 0x1.02p-8F,
                                 -1 - 0x1.fep-9F,
                                 0x1.ffp100F,
                                 0x1.fffffep127F,
                                 (real)-INFINITY,
                                 0x1.04p-126F};
    static const real expected[] = {0,
                                    (real)-0.0,
                                    1,
                                    1,
                                    1 + 0x1p-6F,
                                    1 + 0x1p-7F,
                                    -1,
                                    0x1p101F,
                                    (real)INFINITY,
                                    (real)-INFINITY,
                                    0x1.04p-126F};
    enum { count = sizeof given / sizeof *given, long_enough = 3 * count };
    for (int isa = 0; isa < instruction_set_count; isa++) {
        struct compute c;
        if (!open_in(&c, isa, PRECISION_BF16)) {
            continue;
        }
        real inp[long_enough + 1], out[long_enough + 1];
        uint16_t bits[long_enough + 1];
        for (int k = 0; k < long_enough; k++) {
            inp[k] = given[k % count];
        }
        inp[long_enough] = (real)NAN;
        assert_int_equal(c.activation_size, sizeof *bits);
        c.activations_from_reals(&c, (activation *)bits, inp, long_enough + 1);
        c.reals_from_activations(&c, out, (activation *)bits, long_enough + 1);
        for (int k = 0; k < long_enough; k++) {
            assert_true(same_bits(&out[k], &expected[k % count], 1));
        }
        assert_true(isnan(out[long_enough]));
        assert_ptr_equal(c.full->full, c.full);
        c.full->activations_from_reals(c.full, as_activations(out), inp, long_enough + 1);
        assert_true(same_bits(out, inp, long_enough + 1));
        require_no_failure(&c);
        compute_close(&c);
    }
}

/* Point for point, in the tails too. */
static void gelu_is_accurate(void **state)
{
    (void)state;
    enum { count = 4001 };
    real x[count], one[count], y[count], slope[count];
    for (int k = 0; k < count; k++) {
        x[k] = (real)(k - 2000) / 100;
        one[k] = 1;
    }
    for (int isa = 0; isa < instruction_set_count; isa++) {
        struct compute c;
        if (!open_with(&c, isa)) {
            continue;
        }
        c.gelu_forward(&c, as_activations(y), as_activations(x), count);
        c.gelu_backward(&c, as_activations(slope), as_activations(one), as_activations(x), count);
        for (int k = 0; k < count; k++) {
            const double v = x[k], distribution = 0.5 * erfc(-v * 0.70710678118654752);
            const double exact_slope = distribution + v * exp(-v * v / 2) * 0.39894228040143268;
            /* v^2 / 2, rounded, is the exponent. */
            require_near(y[k], v * distribution, (1e-6 + 1e-7 * v * v) * fabs(v * distribution) + 1e-30);
            require_near(slope[k], exact_slope, 1e-6);
        }
        compute_close(&c);
    }
}

/* Numbers of very different sizes: each product sum errs by a few roundings of its own terms, and by nothing
 * that a larger factor elsewhere, or a factor of bf16, would bring. */
static void linear_layers_keep_the_digits_of_floats(void **state)
{
    (void)state;
    enum { rows = 70, in = 44, out = 20 };
    static real x[rows * in], weight[out * in], y[rows * out];
    const real *mantissa = random_tensor(1, rows * in, 1), *factor = random_tensor(2, out * in, 1);
    for (int k = 0; k < rows * in; k++) {
        x[k] = ldexpf(mantissa[k], k * 7 % 41 - 20);
    }
    for (int k = 0; k < out * in; k++) {
        weight[k] = ldexpf(factor[k], k * 5 % 61 - 30);
    }
    for (int isa = 0; isa < instruction_set_count; isa++) {
        struct compute c;
        if (!open_with(&c, isa)) {
            continue;
        }
        c.linear_forward(&c, as_activations(y), as_activations(x), weight, NULL, rows, in, out);
        for (int k = 0; k < rows * out; k++) {
            double exact = 0, size = 0;
            for (int i = 0; i < in; i++) {
                const double term = (double)x[k / out * in + i] * weight[k % out * in + i];
                exact += term;
                size += fabs(term);
            }
            require_near(y[k], exact, 8 * 0x1p-24 * size);
        }
        require_no_failure(&c);
        compute_close(&c);
    }
    free((void *)mantissa);
    free((void *)factor);
}

/* One MLP after the other, with equal weights in places of their own: what a kernel keeps of them in an order
 * that it wants becomes much, and each time it is at work with two. */
static void weights_stay_while_an_operation_is_at_work(void **state)
{
    (void)state;
    enum { rows = 64, channels = 24, hidden = 96, size = rows * channels, weight = channels * hidden };
    enum { layers = 600 };
    static real weights[layers][2][weight], out[2][size];
    real *x = random_tensor(1, size, 1), *bias = filled_tensor(hidden, 0.5),
         *values = random_tensor(2, weight, 1);
    for (int k = 0; k < 2 * layers; k++) {
        memcpy(weights[k / 2][k % 2], values, weight * sizeof *values);
    }
    for (int isa = 0; isa < instruction_set_count; isa++) {
        struct compute c;
        if (!open_with(&c, isa)) {
            continue;
        }
        c.linear_forward(&c, as_activations(out[0]), as_activations(x), values, NULL, rows, channels,
                         channels);
        for (int k = 0; k < layers && c.mlp_forward != NULL; k++) {
            const struct mlp mlp = {channels, hidden, bias, bias, weights[k][0], bias, weights[k][1], bias};
            c.mlp_forward(&c, as_activations(out[k > 0]), as_activations(x), &mlp, rows);
            assert_true(same_bits(out[k > 0], out[0], size));
        }
        require_no_failure(&c);
        compute_close(&c);
    }
    free(values);
    free(bias);
    free(x);
}

static void powers_and_logarithms_are_accurate(void **state)
{
    (void)state;
    for (int k = -12500; k < 12600; k++) {
        const float x = (float)k / 100;
        const float power = exp2_of(broadcast(x))[1], exact = exp2f(x);
        require_near(power / exact, 1, 1.3e-7);
        require_near(log2_of(broadcast(exact))[0], x, 1.5e-7 * fmaxf(1, fabsf(x)));
    }
    require_near(exp2_of(broadcast(-1e30F))[0], 0, 0);
    require_near(exp2_of(broadcast(-126))[0], 0x1p-126, 0);
    require_near(exp2_of(broadcast(-126.5F))[0], 0, 0); /* it would be subnormal */
    assert_true(isnan(exp2_of(broadcast(NAN))[0]));
    assert_true(isnan(log2_of(broadcast(NAN))[0]));
}

static void failures_stay_until_they_are_asked_for(void **state)
{
    (void)state;
    struct compute c;
    open_implementation(&c, "cpu", 1);
    real inp[8] = {1}, weight[8] = {1}, out[8] = {0};
    const struct conv3d_shape refused = {1, 2, 2, 2, 1, 1, 2, 1}, good = {1, 2, 2, 2, 1, 1, 1, 1};
    c.conv3d_forward(&c, as_activations(out), as_activations(inp), weight, NULL, &refused);
    c.conv3d_forward(&c, as_activations(out), as_activations(inp), weight, NULL, &good);
    require_near(out[0], 0, 0);
    assert_int_equal(compute_status(&c), VOCO_UNSUPPORTED);
    assert_non_null(strstr(voco_error_message(), "cpu: convolution"));
    c.conv3d_forward(&c, as_activations(out), as_activations(inp), weight, NULL, &good);
    require_near(out[0], 1, 0);
    require_no_failure(&c);
    compute_close(&c);
}

/* More shapes than are kept: the first one is made anew and gives the same. */
static void forgotten_convolutions_are_made_again(void **state)
{
    (void)state;
    enum { channels = 16, longest = 520 };
    struct compute c;
    open_implementation(&c, "cpu", 1);
    real *inp = random_tensor(1, (size_t)longest * channels, 1),
         *weight = random_tensor(2, channels * channels, 1);
    real *out = filled_tensor((size_t)longest * channels, 0),
         *whole = filled_tensor((size_t)longest * channels, 0);
    for (int w = longest; w > 0; w--) {
        const struct conv3d_shape shape = {1, 1, 1, w, channels, channels, 1, 1};
        c.conv3d_forward(&c, as_activations(w == longest ? whole : out), as_activations(inp), weight, NULL,
                         &shape);
    }
    const struct conv3d_shape shape = {1, 1, 1, longest, channels, channels, 1, 1};
    c.conv3d_forward(&c, as_activations(out), as_activations(inp), weight, NULL, &shape);
    require_no_failure(&c);
    assert_true(same_bits(out, whole, (size_t)longest * channels));
    free(inp);
    free(weight);
    free(out);
    free(whole);
    compute_close(&c);
}

/* Weights that changed without a word are read again. */
static void nothing_is_left_of_what_was_before_a_restart(void **state)
{
    (void)state;
    enum { channels = 16, side = 6, count = side * side * side * channels };
    const struct conv3d_shape shape = {1, side, side, side, channels, channels, 1, 1};
    struct compute c, fresh;
    real *inp = random_tensor(1, count, 1), *weight = random_tensor(2, channels * channels, 1);
    real *out = filled_tensor(count, 0), *expected = filled_tensor(count, 0);
    open_implementation(&c, "cpu", 3);
    c.conv3d_forward(&c, as_activations(out), as_activations(inp), weight, NULL, &shape);
    weight[0] += 1;
    compute_failed(&c, VOCO_UNSUPPORTED, "something");
    assert_int_equal(compute_restart(&c), VOCO_OK);
    require_no_failure(&c);
    assert_string_equal(c.name, "cpu");
    assert_int_equal(c.threads, 3);
    c.conv3d_forward(&c, as_activations(out), as_activations(inp), weight, NULL, &shape);
    open_implementation(&fresh, "cpu", 3);
    fresh.conv3d_forward(&fresh, as_activations(expected), as_activations(inp), weight, NULL, &shape);
    require_no_failure(&c);
    assert_true(same_bits(out, expected, count));
    compute_close(&fresh);
    compute_close(&c);
    free(expected);
    free(out);
    free(weight);
    free(inp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instruction_sets_are_chosen_by_name),
        cmocka_unit_test(what_lacks_a_precision_says_so),
        cmocka_unit_test(narrow_convolutions_agree),
        cmocka_unit_test(gradients_on_small_grids_agree),
        cmocka_unit_test(nan_comes_through),
        cmocka_unit_test(bf16_is_rounded_to_the_nearest_even),
        cmocka_unit_test(gelu_is_accurate),
        cmocka_unit_test(linear_layers_keep_the_digits_of_floats),
        cmocka_unit_test(weights_stay_while_an_operation_is_at_work),
        cmocka_unit_test(powers_and_logarithms_are_accurate),
        cmocka_unit_test(failures_stay_until_they_are_asked_for),
        cmocka_unit_test(forgotten_convolutions_are_made_again),
        cmocka_unit_test(nothing_is_left_of_what_was_before_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
