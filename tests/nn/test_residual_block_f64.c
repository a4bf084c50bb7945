/* The residual block against finite differences, and its forward against the formula, written out with
 * convolutions that copy. */
#include "nn/residual_block.h"

#include "nn/gradient_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct case_of_block {
    struct residual_block block;
    struct token_grid grid;
};

static void forward(const void *layer, const struct layer_run *run, activation *out, const activation *inp)
{
    const struct case_of_block *it = layer;
    residual_block_forward(run, &it->block, out, inp, &it->grid, NULL);
}

static void backward(const void *layer, const struct layer_run *run, activation *out, activation *dinp,
                     activation *dout, const activation *inp)
{
    const struct case_of_block *it = layer;
    struct residual_block_activations kept;
    const struct arena_mark mark = arena_mark(run->arena);
    residual_block_keep(run, &it->block, &it->grid, &kept);
    residual_block_forward(run, &it->block, out, inp, &it->grid, &kept);
    residual_block_backward(run, &it->block, dinp, dout, out, inp, &it->grid, &kept);
    arena_release(run->arena, mark);
}

/* The pool's result is real; so is an activation of the reference implementation. */
static void pooled_forward(const void *layer, const struct layer_run *run, activation *out,
                           const activation *inp)
{
    const struct case_of_block *it = layer;
    pooled_block_forward(run, &it->block, (real *)out, (size_t)it->block.out_channels, inp, &it->grid, NULL);
}

static void pooled_backward(const void *layer, const struct layer_run *run, activation *out, activation *dinp,
                            activation *dout, const activation *inp)
{
    const struct case_of_block *it = layer;
    const size_t stride = (size_t)it->block.out_channels;
    struct residual_block_activations kept;
    const struct arena_mark mark = arena_mark(run->arena);
    residual_block_keep(run, &it->block, &it->grid, &kept);
    pooled_block_forward(run, &it->block, (real *)out, stride, inp, &it->grid, &kept);
    pooled_block_backward(run, &it->block, dinp, (const real *)dout, stride, inp, &it->grid, &kept);
    arena_release(run->arena, mark);
}

static void check(int in_channels, int out_channels, struct token_grid grid, int pooled)
{
    struct case_of_block it = {.block = {.in_channels = in_channels, .out_channels = out_channels},
                               .grid = grid};
    struct checked_layer checked = {.forward = pooled ? pooled_forward : forward,
                                    .backward = pooled ? pooled_backward : backward,
                                    .layer = &it};
    checked.inp = grid_rows(&grid) * (size_t)in_channels;
    checked.out = (pooled ? (size_t)grid.n : grid_rows(&grid)) * (size_t)out_channels;
    checked.without_dinp = in_channels != out_channels;
    it.block.conv1 = add_segment(&checked, "conv1", (size_t)in_channels * (size_t)out_channels * 27);
    it.block.conv2 = add_segment(&checked, "conv2", (size_t)out_channels * (size_t)out_channels * 27);
    if (in_channels != out_channels) {
        it.block.conv3 = add_segment(&checked, "conv3", (size_t)in_channels * (size_t)out_channels);
    }
    check_gradients(&checked);
}

static void a_block_adds_its_input(void **state)
{
    (void)state;
    check(4, 4, (struct token_grid){2, 3, 5, 4}, 0);
    check(3, 3, (struct token_grid){2, 4, 3, 2}, 0);
}

static void a_pooled_block_adds_its_input(void **state)
{
    (void)state;
    check(3, 3, (struct token_grid){2, 4, 3, 2}, 1);
    check(4, 4, (struct token_grid){1, 3, 2, 5}, 1);
}

static void a_block_of_a_crop_adds_conv3_of_it_and_needs_no_gradient(void **state)
{
    (void)state;
    check(1, 6, (struct token_grid){2, 4, 3, 5}, 1);
    check(1, 2, (struct token_grid){1, 2, 2, 3}, 1);
}

/* ---- the formula, with convolutions that copy channels ---- */

enum { space = 24 };

static double leaky(double v)
{
    return v > 0 ? v : 0.01 * v;
}

static void norm(double *values)
{
    double mean = 0;
    double variance = 0;
    for (int i = 0; i < space; i++) {
        mean += values[i] / space;
    }
    for (int i = 0; i < space; i++) {
        variance += (values[i] - mean) * (values[i] - mean) / space;
    }
    for (int i = 0; i < space; i++) {
        values[i] = (values[i] - mean) / sqrt(variance + 1e-5);
    }
}

/* One channel: lrelu(IN(second lrelu(IN(first x))) + r). */
static void formula(double *out, const double *x, double first, double second, const double *residual)
{
    for (int i = 0; i < space; i++) {
        out[i] = first * x[i];
    }
    norm(out);
    for (int i = 0; i < space; i++) {
        out[i] = second * leaky(out[i]);
    }
    norm(out);
    for (int i = 0; i < space; i++) {
        out[i] = leaky(out[i] + residual[i]);
    }
}

static void forward_is_the_formula(void **state)
{
    (void)state;
    const struct token_grid grid = {1, 2, 3, 4};
    /* The middle tap of each 3^3 kernel copies its channel; conv3 maps the one channel to two. */
    const struct residual_block block = {
        .in_channels = 1, .out_channels = 2, .conv1 = 0, .conv2 = 54, .conv3 = 162};
    real params[164] = {0};
    const double first[2] = {0.5, -2};
    const double second[2] = {3, 0.25};
    const double third[2] = {-1.5, 0.75};
    for (int ch = 0; ch < 2; ch++) {
        params[ch * 27 + 13] = (real)first[ch];
        params[54 + (ch * 2 + ch) * 27 + 13] = (real)second[ch];
        params[162 + ch] = (real)third[ch];
    }
    double x[space];
    real inp[space];
    real out[2];
    for (int i = 0; i < space; i++) {
        x[i] = (double)((i * 7) % 11) - 3.5 + 0.01 * i;
        inp[i] = (real)x[i];
    }
    struct compute c;
    struct arena arena;
    assert_int_equal(compute_open(&c, "reference", 1, PRECISION_FLOAT32), VOCO_OK);
    assert_int_equal(arena_open(&arena, 1 << 20), VOCO_OK);
    const struct layer_run run = {.compute = &c, .arena = &arena, .params = params};
    pooled_block_forward(&run, &block, out, 2, as_activations(inp), &grid, NULL);
    assert_int_equal(compute_status(&c), VOCO_OK);
    for (int ch = 0; ch < 2; ch++) {
        double residual[space];
        double expected[space];
        for (int i = 0; i < space; i++) {
            residual[i] = third[ch] * x[i];
        }
        norm(residual);
        formula(expected, x, first[ch], second[ch], residual);
        double mean = 0;
        for (int i = 0; i < space; i++) {
            mean += expected[i] / space;
        }
        assert_true(fabs((double)out[ch] - mean) < 1e-12);
    }
    arena_close(&arena);
    compute_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_formula),
        cmocka_unit_test(a_block_adds_its_input),
        cmocka_unit_test(a_pooled_block_adds_its_input),
        cmocka_unit_test(a_block_of_a_crop_adds_conv3_of_it_and_needs_no_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
