/* Leaves (src/compute/cuda/leaves.cuh) on the machine of cuda_on_host.h: where most of them are put off for
 * as long as may be, the gradients of encoder and projector have the bits that they have where all is done in
 * its order. In bf16, which has more of them. */
#include "gpu/encoder_pass.h"
#include "open_cuda_on_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct pass pass_with(int leaves)
{
    const struct model_config config = {3, 48, 16, PATCH_MERGING_FIXED};
    struct compute c;
    struct pass pass;
    gpu_on_host.leaves = leaves;
    open_cuda_on_host(&c, PRECISION_BF16);
    pass_through(&pass, &c, &config, 1);
    compute_close(&c);
    return pass;
}

static void gradients_are_those_in_order(void **state)
{
    (void)state;
    struct pass in_order = pass_with(0), beside = pass_with(1);
    assert_false(differ_in_bits(&in_order, &beside));
    free_pass(&in_order);
    free_pass(&beside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
