/* The Swin block against finite differences: whole windows, padded axes, shifted windows; with the MLP as one
 * operation, and step by step. */
#include "nn/swin_block.h"

#include "nn/gradient_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct case_of_block {
    struct swin_block block;
    struct token_grid grid;
};

static void forward(const void *layer, const struct layer_run *run, activation *out, const activation *inp)
{
    const struct case_of_block *it = layer;
    swin_block_forward(run, &it->block, out, inp, &it->grid, NULL);
}

static void backward(const void *layer, const struct layer_run *run, activation *out, activation *dinp,
                     activation *dout, const activation *inp)
{
    const struct case_of_block *it = layer;
    struct swin_block_activations kept;
    const struct arena_mark mark = arena_mark(run->arena);
    swin_block_keep(run, &it->block, &it->grid, &kept);
    swin_block_forward(run, &it->block, out, inp, &it->grid, &kept);
    swin_block_backward(run, &it->block, dinp, dout, inp, &it->grid, &kept);
    arena_release(run->arena, mark);
}

static struct linear add_linear(struct checked_layer *checked, const char *name, int in_features,
                                int out_features)
{
    struct linear linear = {.in_features = in_features, .out_features = out_features};
    linear.weight = add_segment(checked, name, (size_t)in_features * (size_t)out_features);
    linear.bias = add_segment(checked, name, (size_t)out_features);
    return linear;
}

static void check(int heads, int head_dim, int odd, struct token_grid grid)
{
    const int channels = heads * head_dim;
    const size_t wide = (size_t)channels;
    struct case_of_block it = {.block = {.channels = channels, .heads = heads, .odd = odd}, .grid = grid};
    struct checked_layer checked = {.forward = forward, .backward = backward, .layer = &it};
    checked.inp = grid_rows(&grid) * wide;
    checked.out = checked.inp;
    it.block.norm1_weight = add_segment(&checked, "norm1.weight", wide);
    it.block.norm1_bias = add_segment(&checked, "norm1.bias", wide);
    it.block.bias_table = add_segment(&checked, "bias table", (size_t)relative_table_rows * (size_t)heads);
    it.block.qkv = add_linear(&checked, "qkv", channels, 3 * channels);
    it.block.proj = add_linear(&checked, "proj", channels, channels);
    it.block.norm2_weight = add_segment(&checked, "norm2.weight", wide);
    it.block.norm2_bias = add_segment(&checked, "norm2.bias", wide);
    it.block.linear1 = add_linear(&checked, "linear1", channels, 4 * channels);
    it.block.linear2 = add_linear(&checked, "linear2", 4 * channels, channels);
    for (int without = 0; without < 2; without++) {
        for (int on_device = 0; on_device < 2; on_device++) {
            checked.without_fusions = without;
            checked.on_device = on_device;
            check_gradients(&checked);
        }
    }
}

static int nothing_fits(struct compute *c, int channels, int hidden)
{
    (void)c, (void)channels, (void)hidden;
    return 0;
}

enum whole_mlp { NO_WHOLE_MLP, WHOLE_MLP_IS_SLOWER, WHOLE_MLP };

/* Elements of what a block keeps of one row of `channels` = heads x head_dim. */
static size_t kept_per_row(enum whole_mlp whole, int on_device, int heads, int head_dim)
{
    struct compute c;
    struct arena arena;
    struct swin_block_activations kept;
    const struct token_grid grid = {4, 4, 4, 4};
    const struct swin_block block = {.channels = heads * head_dim, .heads = heads};
    assert_int_equal(compute_open(&c, "reference", 1, PRECISION_FLOAT32), VOCO_OK);
    assert_int_equal(arena_open(&arena, (size_t)64 << 20), VOCO_OK);
    if (whole == NO_WHOLE_MLP) {
        c.mlp_forward = NULL;
        c.mlp_backward = NULL;
        c.mlp_fits = NULL;
    } else if (whole == WHOLE_MLP_IS_SLOWER) {
        c.mlp_fits = nothing_fits;
    }
    c.separate_memory = on_device;
    const struct layer_run run = {.compute = &c, .arena = &arena};
    swin_block_keep(&run, &block, &grid, &kept);
    const size_t elements = arena_mark(&arena).used / sizeof(real) / grid_rows(&grid);
    assert_true((kept.wide == NULL) == (whole == WHOLE_MLP));
    arena_close(&arena);
    compute_close(&c);
    return elements;
}

static void the_mlp_as_one_operation_keeps_nothing(void **state)
{
    (void)state;
    for (int on_device = 0; on_device < 2; on_device++) {
        assert_int_equal(kept_per_row(WHOLE_MLP, on_device, 2, 8), (3 + 1 + 1) * 16 + 2);
    }
    for (enum whole_mlp whole = NO_WHOLE_MLP; whole < WHOLE_MLP; whole++) {
        assert_int_equal(kept_per_row(whole, 0, 2, 8), (3 + 1 + 1 + 4) * 16 + 2);
        assert_int_equal(kept_per_row(whole, 1, 2, 8), (3 + 1 + 1 + 4) * 16 + 2 + (1 + 4) * 16 + 2);
    }
}

static void one_window_that_holds_the_grid(void **state)
{
    (void)state;
    check(2, 2, 0, (struct token_grid){2, 3, 2, 4});
    check(3, 1, 1, (struct token_grid){1, 4, 4, 4});
}

static void padded_axes_add_to_the_bias_of_qkv(void **state)
{
    (void)state;
    check(1, 3, 0, (struct token_grid){1, 9, 2, 3});
}

static void shifted_windows(void **state)
{
    (void)state;
    check(2, 2, 1, (struct token_grid){1, 2, 9, 2});
    check(1, 2, 1, (struct token_grid){1, 8, 3, 8});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_window_that_holds_the_grid),
        cmocka_unit_test(padded_axes_add_to_the_bias_of_qkv),
        cmocka_unit_test(shifted_windows),
        cmocka_unit_test(the_mlp_as_one_operation_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
