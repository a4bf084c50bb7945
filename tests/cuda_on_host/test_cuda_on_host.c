/* The kernels of the cuda implementation, run on the processor (cuda_on_host.h), against the reference: the
 * smaller shapes of every operation that is linked. Arguments: a part of a case's name or family, and how
 * much work a case may be at most. */
#include "compute/cuda_agreement.h"
#include "open_cuda_on_host.h"

#include <stdio.h>
#include <stdlib.h>

static int count_wrong(const char *filter, double max_work)
{
    struct compute float32, bf16;
    open_cuda_on_host(&float32, PRECISION_FLOAT32);
    open_cuda_on_host(&bf16, PRECISION_BF16);
    const int wrong = count_disagreements(&float32, &bf16, NULL, filter, max_work);
    compute_close(&float32);
    compute_close(&bf16);
    return wrong;
}

/* On one multiprocessor a block has many tiles of rows; before Hopper others of the kernels are at work. */
static int count_wrong_mlps(void)
{
    int wrong = 0;
    for (int major = 9; major >= 8; major--) {
        gpu_on_host.major = major;
        printf("compute capability %d.0, one multiprocessor\n", major);
        wrong += count_wrong("x 48, 192 hidden", 6e7);
    }
    return wrong;
}

/* There a block also has more windows than lie in its shared memory at once, least of all where it is small.
 */
static int count_wrong_attentions(void)
{
    static const size_t shared[] = {227 << 10, 99 << 10};
    int wrong = 0;
    for (int k = 0; k < 2; k++) {
        gpu_on_host.shared_per_block = shared[k];
        printf("%zu KiB of shared memory, one multiprocessor\n", shared[k] >> 10);
        wrong += count_wrong("heads of 16", 2e7) + count_wrong("3 x (4 4 4)", 1e7);
    }
    return wrong;
}

static int count_wrong_on_one(int (*count)(void))
{
    const struct gpu_on_host usual = gpu_on_host;
    gpu_on_host.multiprocessors = 1;
    const int wrong = count();
    gpu_on_host = usual;
    return wrong;
}

int main(int argc, char **argv)
{
    const double max_work = argc > 2 ? atof(argv[2]) : 1.2e7;
    const int wrong = count_wrong(argc > 1 ? argv[1] : NULL, max_work);
    const int on_one =
        argc > 1 ? 0 : count_wrong_on_one(count_wrong_mlps) + count_wrong_on_one(count_wrong_attentions);
    return wrong + on_one > 0;
}
