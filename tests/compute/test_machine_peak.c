/* The yardstick: that the loops compute what they are counted for, in every build, and that they are
 * measured. */
#include "compute/cpu/machine_peak.h"
#include "compute/cpu/peak/peak_loops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { chains = 12, flops_per_product = 2 };

/* The loops of an instruction set; 0 where the processor lacks it. */
static int loops_of_isa(struct peak_loops *loops, enum isa wanted)
{
    enum isa isa;
    assert_int_equal(setenv("VOCO_ISA", isa_name(wanted), 1), 0);
    const enum voco_status status = isa_choose(&isa);
    assert_int_equal(unsetenv("VOCO_ISA"), 0);
    if (status == VOCO_OK) {
        *loops = peak_loops_of(isa);
    }
    return status == VOCO_OK;
}

/* Every chain of every lane: x <- 0.999 x + 0.001, from 0.1 k. So the sum also says how many sums there are.
 */
static void float32_rounds_are_multiply_adds(void **state)
{
    (void)state;
    for (enum isa isa = ISA_PORTABLE; isa < isa_count; isa++) {
        struct peak_loops loops;
        if (!loops_of_isa(&loops, isa)) {
            continue;
        }
        for (size_t rounds = 0; rounds < 3000; rounds = 3 * rounds + 7) {
            double expected = 0;
            for (int k = 0; k < chains; k++) {
                expected += 1 + (0.1 * k - 1) * pow(0.999, (double)rounds);
            }
            const double sums = loops.float32_flops / flops_per_product;
            expected *= sums / chains;
            assert_true(fabs(loops.float32(rounds) - expected) < 1e-4 * expected);
        }
    }
}

/* Every sum takes 0.5 0.25 twice a round. */
static void bf16_rounds_are_products(void **state)
{
    (void)state;
    struct peak_loops loops = {0};
    if (loops_of_isa(&loops, ISA_AVX512)) {
        assert_null(loops.bf16); /* a processor without AVX512_BF16 must not be sent there */
    }
    if (!loops_of_isa(&loops, ISA_AVX512BF16)) {
        skip();
        return;
    }
    for (size_t rounds = 0; rounds < 3000; rounds = 3 * rounds + 7) {
        const double products = (double)rounds * loops.bf16_flops / flops_per_product;
        const double start = 16 * 0.1 * (chains - 1) * chains / 2.0;
        const double expected = start + products * 0.5 * 0.25;
        assert_true(fabs(loops.bf16(rounds) - expected) < 1e-5 * expected);
    }
}

/* The result is the first sum of the first tile: 32 products of a round, of the bf16 that is 0x3C3C. */
static void tile_rounds_are_products(void **state)
{
    (void)state;
    struct peak_loops loops = {0};
    if (!loops_of_isa(&loops, ISA_AMX)) {
        skip();
        return;
    }
    const double tiles = loops.bf16_flops / flops_per_product / (16 * 16 * 32), factor = 0.01147460938;
    assert_true(tiles == 4);
    for (size_t rounds = 0; rounds < 3000; rounds = 3 * rounds + 7) {
        const double expected = (double)rounds * 32 * factor * factor;
        assert_true(fabs(loops.bf16(rounds) - expected) <= 1e-4 * expected);
    }
}

static void triad_adds_a_multiple(void **state)
{
    (void)state;
    enum { most = 1031 };
    static float a[most], b[most], c[most];
    for (enum isa isa = ISA_PORTABLE; isa < isa_count; isa++) {
        struct peak_loops loops;
        if (!loops_of_isa(&loops, isa)) {
            continue;
        }
        for (int i = 0; i < most; i++) {
            a[i] = -1;
            b[i] = (float)i;
            c[i] = (float)(i % 7);
        }
        loops.triad(a, b, c, 3, most - 1);
        for (int i = 0; i < most - 1; i++) {
            assert_true(a[i] == (float)(i + 3 * (i % 7)));
        }
        assert_true(a[most - 1] == -1);
    }
}

/* Within what any machine of these years does: a wrong count of flops or bytes is off by more. */
static void rates_are_those_of_a_machine(void **state)
{
    (void)state;
    struct machine_peak peak;
    assert_int_equal(machine_peak_measure(&peak, 1), VOCO_OK);
    printf("%s, %d thread: %.1f GFLOP/s float32, %.1f GFLOP/s bf16, %.1f GB/s\n", peak.isa, peak.threads,
           peak.float32_flops * 1e-9, peak.bf16_flops * 1e-9, peak.bytes_per_second * 1e-9);
    assert_int_equal(peak.threads, 1);
    assert_true(peak.float32_flops > 0.2e9 && peak.float32_flops < 2000e9);
    assert_true(peak.bf16_flops == 0 || (peak.bf16_flops > 0.5e9 && peak.bf16_flops < 8000e9));
    assert_true(peak.bytes_per_second > 0.1e9 && peak.bytes_per_second < 1000e9);
}

static void an_unknown_instruction_set_is_refused(void **state)
{
    (void)state;
    struct machine_peak peak;
    assert_int_equal(setenv("VOCO_ISA", "sse9", 1), 0);
    assert_int_equal(machine_peak_measure(&peak, 1), VOCO_BAD_INPUT);
    assert_int_equal(unsetenv("VOCO_ISA"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float32_rounds_are_multiply_adds),
        cmocka_unit_test(bf16_rounds_are_products),
        cmocka_unit_test(tile_rounds_are_products),
        cmocka_unit_test(triad_adds_a_multiple),
        cmocka_unit_test(rates_are_those_of_a_machine),
        cmocka_unit_test(an_unknown_instruction_set_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
