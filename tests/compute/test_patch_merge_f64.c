/* Patch merging: which neighbours are read, in each of the three orders, and what flows back to them. */
#include "finite_difference.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* voco.md section 2, item 6, as d h w digits. */
static const int legacy[8] = {0, 100, 10, 1, 101, 10, 1, 111};
static const int fixed[8] = {0, 100, 10, 1, 110, 101, 11, 111};
static const int v2[8] = {0, 1, 10, 11, 100, 101, 110, 111};
static const int *const digits[3] = {
    [PATCH_MERGING_LEGACY] = legacy, [PATCH_MERGING_FIXED] = fixed, [PATCH_MERGING_V2] = v2};

struct grid {
    int n, d, h, w, channels;
};
static const struct grid grids[] = {{1, 2, 2, 2, 1}, {2, 5, 3, 7, 3}, {2, 4, 1, 6, 2}};
enum { grid_count = sizeof grids / sizeof *grids };

static size_t elements(const struct grid *g)
{
    return (size_t)g->n * g->d * g->h * g->w * g->channels;
}

static size_t merged_elements(const struct grid *g)
{
    return (size_t)g->n * ((g->d + 1) / 2) * ((g->h + 1) / 2) * ((g->w + 1) / 2) * 8 * g->channels;
}

static void merged_channels_come_from_the_listed_neighbours(void **state)
{
    (void)state;
    struct compute c;
    open_implementation(&c, "reference", 1);
    for (int i = 0; i < grid_count * 3; i++) {
        const struct grid *g = &grids[i / 3];
        const int ch = g->channels;
        real *inp = random_tensor(1, elements(g), 1), *out = filled_tensor(merged_elements(g), 77);
        c.patch_merge_forward(&c, as_activations(out), as_activations(inp), (enum patch_merging)(i % 3), g->n,
                              g->d, g->h, g->w, ch);
        for (size_t k = 0; k < merged_elements(g); k++) {
            const int offset = digits[i % 3][k / ch % 8];
            const size_t token = k / ch / 8;
            const int half_d = (g->d + 1) / 2, half_h = (g->h + 1) / 2, half_w = (g->w + 1) / 2;
            const int w = (int)(token % half_w) * 2 + offset % 10;
            const int h = (int)(token / half_w % half_h) * 2 + offset / 10 % 10;
            const int d = (int)(token / half_w / half_h % half_d) * 2 + offset / 100;
            const size_t n = token / half_w / half_h / half_d;
            const int inside = d < g->d && h < g->h && w < g->w;
            const size_t from = (((n * g->d + d) * g->h + h) * g->w + w) * ch + k % ch;
            assert_true(out[k] == (inside ? inp[from] : 0));
        }
        free(inp);
        free(out);
    }
    compute_close(&c);
}

struct merging {
    struct compute c;
    struct grid g;
    enum patch_merging order;
    real *inp, *out, *dout;
};

static double loss(void *context)
{
    struct merging *t = context;
    const struct grid *g = &t->g;
    t->c.patch_merge_forward(&t->c, as_activations(t->out), as_activations(t->inp), t->order, g->n, g->d,
                             g->h, g->w, g->channels);
    return inner_product(t->out, t->dout, merged_elements(g));
}

static void backward_is_the_derivative_of_forward(void **state)
{
    (void)state;
    for (int i = 0; i < grid_count * 3; i++) {
        struct merging t = {.g = grids[i / 3], .order = (enum patch_merging)(i % 3)};
        const struct grid *g = &t.g;
        open_implementation(&t.c, "reference", 1);
        t.inp = random_tensor(1, elements(g), 1);
        t.out = filled_tensor(merged_elements(g), 0);
        t.dout = random_tensor(2, merged_elements(g), 1);
        real *dinp = filled_tensor(elements(g), 77);
        t.c.patch_merge_backward(&t.c, as_activations(dinp), as_activations(t.dout), t.order, g->n, g->d,
                                 g->h, g->w, g->channels);
        check_gradient("patch_merge dinp", loss, &t, t.inp, dinp, elements(g));
        free(t.inp);
        free(t.out);
        free(t.dout);
        free(dinp);
        compute_close(&t.c);
    }
}

static void legacy_reads_two_neighbours_twice_and_two_never(void **state)
{
    (void)state;
    struct compute c;
    open_implementation(&c, "reference", 1);
    const real dout[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const real expected[8] = {1, 8 + 64, 4 + 32, 0,
                              2, 16,     0,      128}; /* by d h w digits 000 001 010 011 100 ... */
    real dinp[8];
    c.patch_merge_backward(&c, as_activations(dinp), as_activations(dout), PATCH_MERGING_LEGACY, 1, 2, 2, 2,
                           1);
    for (int k = 0; k < 8; k++) {
        assert_true(dinp[k] == expected[k]);
    }
    compute_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_channels_come_from_the_listed_neighbours),
        cmocka_unit_test(backward_is_the_derivative_of_forward),
        cmocka_unit_test(legacy_reads_two_neighbours_twice_and_two_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
