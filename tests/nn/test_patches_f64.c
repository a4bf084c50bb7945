/* Patch embedding, patch merging and the norm of hidden states against finite differences. */
#include "nn/hidden_norm.h"
#include "nn/patch_embed.h"
#include "nn/patch_merging.h"

#include "nn/gradient_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct case_of_embed {
    struct patch_embed embed;
    struct token_grid grid;
};

static void embed_forward(const void *layer, const struct layer_run *run, activation *out,
                          const activation *inp)
{
    const struct case_of_embed *it = layer;
    const struct arena_mark mark = arena_mark(run->arena);
    real *scratch = push_reals(run, 1); /* so that exhaustion has something to meet */
    (void)scratch;
    patch_embed_forward(run, &it->embed, out, inp, &it->grid);
    arena_release(run->arena, mark);
}

static void embed_backward(const void *layer, const struct layer_run *run, activation *out, activation *dinp,
                           activation *dout, const activation *inp)
{
    const struct case_of_embed *it = layer;
    (void)dinp;
    embed_forward(layer, run, out, inp);
    patch_embed_backward(run, &it->embed, dout, inp, &it->grid);
}

static void patch_embedding(void **state)
{
    (void)state;
    struct case_of_embed it = {.embed = {.channels = 5}, .grid = {2, 4, 6, 2}};
    struct checked_layer checked = {.forward = embed_forward, .backward = embed_backward, .layer = &it};
    checked.inp = grid_rows(&it.grid);
    checked.out = checked.inp / 8 * 5;
    checked.without_dinp = 1;
    it.embed.weight = add_segment(&checked, "weight", 5 * 8);
    it.embed.bias = add_segment(&checked, "bias", 5);
    check_gradients(&checked);
}

struct case_of_merging {
    struct patch_merging_layer merging;
    struct token_grid grid;
};

static void merging_forward(const void *layer, const struct layer_run *run, activation *out,
                            const activation *inp)
{
    const struct case_of_merging *it = layer;
    patch_merging_forward(run, &it->merging, out, inp, &it->grid, NULL);
}

static void merging_backward(const void *layer, const struct layer_run *run, activation *out,
                             activation *dinp, activation *dout, const activation *inp)
{
    const struct case_of_merging *it = layer;
    struct patch_merging_activations kept;
    const struct arena_mark mark = arena_mark(run->arena);
    patch_merging_keep(run, &it->merging, &it->grid, &kept);
    patch_merging_forward(run, &it->merging, out, inp, &it->grid, &kept);
    patch_merging_backward(run, &it->merging, dinp, dout, inp, &it->grid, &kept);
    arena_release(run->arena, mark);
}

static void patch_merging_in_every_order(void **state)
{
    (void)state;
    const enum patch_merging orders[] = {PATCH_MERGING_LEGACY, PATCH_MERGING_FIXED, PATCH_MERGING_V2};
    for (int i = 0; i < 3; i++) {
        struct case_of_merging it = {.merging = {.channels = 3, .order = orders[i]}, .grid = {2, 4, 3, 5}};
        const struct token_grid merged = merged_grid(&it.grid);
        assert_int_equal(grid_rows(&merged), 2 * 2 * 2 * 3);
        struct checked_layer checked = {
            .forward = merging_forward, .backward = merging_backward, .layer = &it};
        checked.inp = grid_rows(&it.grid) * 3;
        checked.out = grid_rows(&merged) * 6;
        it.merging.norm_weight = add_segment(&checked, "norm.weight", 24);
        it.merging.norm_bias = add_segment(&checked, "norm.bias", 24);
        it.merging.reduction = add_segment(&checked, "reduction", (size_t)6 * 24);
        for (int on_device = 0; on_device < 2; on_device++) {
            checked.on_device = on_device;
            check_gradients(&checked);
        }
    }
}

static const struct token_grid norm_grid = {2, 3, 2, 5};
enum { norm_channels = 7 };

static struct normed_tokens norm_into(const struct layer_run *run, activation *out)
{
    return (struct normed_tokens){out, push_reals(run, grid_rows(&norm_grid)),
                                  push_reals(run, grid_rows(&norm_grid))};
}

static void norm_forward(const void *layer, const struct layer_run *run, activation *out,
                         const activation *inp)
{
    (void)layer;
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens normed = norm_into(run, out);
    (void)hidden_norm_forward(run, inp, norm_channels, &norm_grid, &normed);
    arena_release(run->arena, mark);
}

static void norm_backward(const void *layer, const struct layer_run *run, activation *out, activation *dinp,
                          activation *dout, const activation *inp)
{
    (void)layer;
    const struct arena_mark mark = arena_mark(run->arena);
    const struct normed_tokens normed = norm_into(run, out);
    (void)hidden_norm_forward(run, inp, norm_channels, &norm_grid, &normed);
    hidden_norm_backward(run, dinp, dout, inp, &normed, NULL, norm_channels, &norm_grid);
    arena_release(run->arena, mark);
}

static void norm_of_hidden_states(void **state)
{
    (void)state;
    struct checked_layer checked = {.forward = norm_forward, .backward = norm_backward};
    checked.inp = grid_rows(&norm_grid) * norm_channels;
    checked.out = checked.inp;
    check_gradients(&checked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patch_embedding),
        cmocka_unit_test(patch_merging_in_every_order),
        cmocka_unit_test(norm_of_hidden_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
