/* The residual block against finite differences, and against its formula by hand where that is short. */
#include "nn/residual_block.h"

#include "nn/gradient_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct case_of_block {
    struct residual_block block;
    struct token_grid grid;
    int keep_out; /* backward is given forward's result */
};

static void forward(const void *layer, const struct layer_run *run, real *out, const real *inp)
{
    const struct case_of_block *it = layer;
    residual_block_forward(run, &it->block, out, inp, &it->grid, NULL);
}

static void backward(const void *layer, const struct layer_run *run, real *out, real *dinp, real *dout,
                     const real *inp)
{
    const struct case_of_block *it = layer;
    struct residual_block_activations kept;
    const size_t mark = arena_mark(run->arena);
    residual_block_keep(run, &it->block, &it->grid, &kept);
    residual_block_forward(run, &it->block, out, inp, &it->grid, &kept);
    residual_block_backward(run, &it->block, dinp, dout, it->keep_out ? out : NULL, inp, &it->grid, &kept);
    arena_release(run->arena, mark);
}

static void check(int in_channels, int out_channels, struct token_grid grid, int keep_out, int without_dinp)
{
    struct case_of_block it = {.block = {.in_channels = in_channels, .out_channels = out_channels},
                               .grid = grid,
                               .keep_out = keep_out};
    struct checked_layer checked = {.forward = forward, .backward = backward, .layer = &it};
    checked.inp = grid_rows(&grid) * (size_t)in_channels;
    checked.out = grid_rows(&grid) * (size_t)out_channels;
    checked.without_dinp = without_dinp;
    it.block.conv1 = add_segment(&checked, "conv1", (size_t)in_channels * (size_t)out_channels * 27);
    it.block.conv2 = add_segment(&checked, "conv2", (size_t)out_channels * (size_t)out_channels * 27);
    if (in_channels != out_channels) {
        it.block.conv3 = add_segment(&checked, "conv3", (size_t)in_channels * (size_t)out_channels);
    }
    check_gradients(&checked);
}

static void equal_channels_add_the_input(void **state)
{
    (void)state;
    check(4, 4, (struct token_grid){2, 3, 5, 4}, 0, 0);
}

static void a_kept_result_serves_backward(void **state)
{
    (void)state;
    check(3, 3, (struct token_grid){2, 4, 3, 2}, 1, 0);
}

static void other_channels_add_conv3_of_the_input(void **state)
{
    (void)state;
    check(3, 5, (struct token_grid){2, 3, 4, 3}, 0, 0);
    check(5, 2, (struct token_grid){1, 3, 4, 3}, 1, 0);
}

static void a_crop_needs_no_gradient(void **state)
{
    (void)state;
    check(1, 6, (struct token_grid){2, 4, 3, 5}, 0, 1);
    check(3, 3, (struct token_grid){1, 2, 2, 2}, 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_channels_add_the_input),
        cmocka_unit_test(a_kept_result_serves_backward),
        cmocka_unit_test(other_channels_add_conv3_of_the_input),
        cmocka_unit_test(a_crop_needs_no_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
