/* The kernels of the cuda implementation, run on the processor (cuda_on_host.h), against the reference: the
 * smaller shapes of every operation that is linked. Arguments: a part of a case's name or family, and how
 * much work a case may be at most. */
#include "compute/cuda_agreement.h"
#include "open_cuda_on_host.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct compute float32, bf16;
    const double max_work = argc > 2 ? atof(argv[2]) : 1.2e7;
    open_cuda_on_host(&float32, PRECISION_FLOAT32);
    open_cuda_on_host(&bf16, PRECISION_BF16);
    const int wrong = count_disagreements(&float32, &bf16, NULL, argc > 1 ? argv[1] : NULL, max_work);
    compute_close(&float32);
    compute_close(&bf16);
    return wrong > 0;
}
