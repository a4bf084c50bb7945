/* The project's own golden set, made with PyTorch and MONAI: patch merging v2, three volumes. */
#include "golden_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void two_steps_agree_with_pytorch(void **state)
{
    (void)state;
    check_own_gradients(VOCO_TEST_DATA, "own_v2");
}

static void a_step_with_pytorchs_gradients_agrees_sharply(void **state)
{
    (void)state;
    check_given_gradients(VOCO_TEST_DATA, "own_v2");
}

static void bf16_stays_near_pytorch_and_repeats_itself(void **state)
{
    (void)state;
    check_bf16(VOCO_TEST_DATA, "own_v2", 3e-2, 1e-1); /* 6 channels */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_steps_agree_with_pytorch),
        cmocka_unit_test(a_step_with_pytorchs_gradients_agrees_sharply),
        cmocka_unit_test(bf16_stays_near_pytorch_and_repeats_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
