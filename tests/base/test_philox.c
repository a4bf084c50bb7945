/* Philox against the known answers that its authors publish with Random123, and the statistics of what is
 * built on it. */
#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void block_function_gives_the_published_answers(void **state)
{
    (void)state;
    static const uint32_t cases[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
         0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        philox4x32_10(out, cases[i], cases[i] + 4);
        assert_memory_equal(out, cases[i] + 6, sizeof out);
    }
}

static void every_part_of_a_place_changes_the_number(void **state)
{
    (void)state;
    const struct random_key base = {.seed = 7, .step = 3, .sample = 2, .crop = 1, .purpose = RANDOM_TEST};
    struct random_key others[8];
    for (int i = 0; i < 8; i++) {
        others[i] = base;
    }
    others[0].seed ^= 1;
    others[1].seed ^= 1ULL << 40;
    others[2].step ^= 1;
    others[3].step ^= 1ULL << 40;
    others[4].sample ^= 1;
    others[5].crop ^= 1;
    others[6].purpose ^= 1;
    for (int i = 0; i < 7; i++) {
        assert_true(random_uniform(&base, 0) != random_uniform(&others[i], 0));
    }
    assert_true(random_uniform(&base, 0) != random_uniform(&base, 1));
    assert_true(random_uniform(&base, 0) != random_uniform(&base, 4));
    assert_true(random_uniform(&base, 5) == random_uniform(&others[7], 5));
}

static void uniform_and_normal_have_their_moments(void **state)
{
    (void)state;
    enum { draws = 200000 };
    const struct random_key key = {.seed = 1, .purpose = RANDOM_TEST};
    double sum = 0.0;
    double squares = 0.0;
    double normal_sum = 0.0;
    double normal_squares = 0.0;
    double normal_fourth = 0.0;
    double product = 0.0;
    double before = 0.0;
    for (uint32_t i = 0; i < draws; i++) {
        const double u = (double)random_uniform(&key, i);
        const double g = (double)random_normal(&key, i);
        assert_true(u >= 0.0 && u < 1.0);
        assert_true(isfinite(g));
        sum += u;
        squares += u * u;
        normal_sum += g;
        normal_squares += g * g;
        normal_fourth += g * g * g * g;
        product += g * before;
        before = g;
    }
    assert_true(fabs(sum / draws - 0.5) < 0.003);
    assert_true(fabs(squares / draws - 1.0 / 3.0) < 0.003);
    assert_true(fabs(normal_sum / draws) < 0.01);
    assert_true(fabs(normal_squares / draws - 1.0) < 0.02);
    assert_true(fabs(normal_fourth / draws - 3.0) < 0.12);
    assert_true(fabs(product / draws) < 0.01);
}

static void below_reaches_every_value_equally(void **state)
{
    (void)state;
    enum { bound = 7, draws = 70000 };
    const struct random_key key = {.seed = 9, .purpose = RANDOM_TEST};
    int counts[bound] = {0};
    for (uint32_t i = 0; i < draws; i++) {
        const uint32_t value = random_below(&key, i, bound);
        assert_true(value < bound);
        counts[value]++;
    }
    for (int i = 0; i < bound; i++) {
        assert_in_range(counts[i], 9600, 10400);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_function_gives_the_published_answers),
        cmocka_unit_test(every_part_of_a_place_changes_the_number),
        cmocka_unit_test(uniform_and_normal_have_their_moments),
        cmocka_unit_test(below_reaches_every_value_equally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
