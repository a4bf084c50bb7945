/* Every operation of the cuda implementation on this machine's GPU against the reference, forward and
 * backward, in float32, bf16 and TF32, on odd sizes and on those of the network, twice for equal bits.
 * Skipped, with 77, where there is no GPU. Arguments: a part of a case's name or family, and how much work a
 * case may be at most. */
#include "compute/cuda_agreement.h"

#include "base/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Whether it is open; else *result is what the program ends with. */
static int open_cuda(struct compute *c, enum compute_precision precision, int *result)
{
    const enum voco_status status = compute_open(c, "cuda", 0, precision);
    if (status == VOCO_UNSUPPORTED) {
        printf("skipped: no device: %s\n", voco_error_message());
    } else if (status != VOCO_OK) {
        printf("cannot open cuda: %s\n", voco_error_message());
    }
    *result = status == VOCO_UNSUPPORTED ? 77 : 1;
    return status == VOCO_OK;
}

int main(int argc, char **argv)
{
    struct compute float32, bf16, tf32;
    int result;
    const double max_work = argc > 2 ? atof(argv[2]) : INFINITY;
    if (!open_cuda(&float32, PRECISION_FLOAT32, &result) || !open_cuda(&bf16, PRECISION_BF16, &result) ||
        !open_cuda(&tf32, PRECISION_TF32, &result)) {
        return result;
    }
    result = count_disagreements(&float32, &bf16, &tf32, argc > 1 ? argv[1] : NULL, max_work) > 0;
    compute_close(&float32);
    compute_close(&bf16);
    compute_close(&tf32);
    return result;
}
