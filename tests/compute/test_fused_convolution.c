/* 3^3 convolutions of the "cpu" implementation, by Winograd's algorithm and in tiles, of every instruction
 * set that the processor has, against the direct sums of "reference". */
#include "cpu_agreement.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void convolve(struct compute *c, const void *shape, struct results *r)
{
    const struct conv3d_shape *s = shape;
    const size_t rows = (size_t)s->n * s->d * s->h * s->w;
    const size_t weights = (size_t)27 * s->in_channels * s->out_channels;
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

static int processor_has(const char *instruction_set)
{
    struct compute c;
    assert_int_equal(setenv("VOCO_ISA", instruction_set, 1), 0);
    if (compute_open(&c, "cpu", 1, PRECISION_FLOAT32) != VOCO_OK) {
        printf("    skipped: this processor lacks %s\n", instruction_set);
        return 0;
    }
    compute_close(&c);
    return 1;
}

/* Grids of odd sides, whose last tiles are cut; fewer tiles than a block and more; several strips; channels
 * that are no whole vectors, and panels of one, two and three of them; one channel. */
static void hold_convolutions(const char *instruction_set)
{
    static const struct conv3d_shape shapes[] = {
        {1, 2, 61, 35, 48, 20, 3, 1}, {2, 5, 6, 33, 1, 48, 3, 1},   {1, 5, 5, 5, 12, 12, 3, 1},
        {3, 7, 2, 9, 12, 24, 3, 1},   {1, 13, 3, 31, 13, 12, 3, 1}, {2, 1, 1, 125, 48, 17, 3, 1},
        {1, 16, 11, 8, 48, 48, 3, 1}, {2, 6, 5, 7, 37, 96, 3, 1},   {1, 9, 9, 9, 96, 51, 3, 1},
        {5, 4, 8, 4, 20, 144, 3, 1},
    };
    const double rounding = strcmp(instruction_set, "avx512bf16") == 0 ? winograd_bf16_tolerance : 8e-3;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const struct conv3d_shape *s = &shapes[k];
        char name[96];
        snprintf(name, sizeof name, "%s, %d x (%d %d %d), %d to %d", instruction_set, s->n, s->d, s->h, s->w,
                 s->in_channels, s->out_channels);
        hold_against_reference(name, convolve, s, 3e-6);
        hold_bf16_against_reference(name, convolve, s, rounding, rounding);
    }
}

static void convolutions_agree(void **state)
{
    (void)state;
    static const char *const instruction_sets[] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};
    for (size_t k = 0; k < sizeof instruction_sets / sizeof *instruction_sets; k++) {
        if (processor_has(instruction_sets[k])) {
            hold_convolutions(instruction_sets[k]);
        }
    }
    assert_int_equal(unsetenv("VOCO_ISA"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
