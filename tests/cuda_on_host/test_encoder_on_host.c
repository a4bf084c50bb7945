/* The whole encoder and a projector on the kernels of the cuda implementation, run on the processor, against
 * the reference: the smallest network that there is. In float32; with the argument "bf16" in bf16. */
#include "gpu/encoder_pass.h"
#include "open_cuda_on_host.h"

#include "base/error.h"

#include <string.h>

int main(int argc, char **argv)
{
    /* A leaky ReLU whose argument rounds to the other side of zero is enough for 1e-2 in one parameter. In
     * bf16 the cpu implementation's gradients are as far from those in float32. The projector computes in
     * float32 either way, here from the same embeddings as the reference. */
    static const struct allowed exact = {1e-5, 5e-3, 2e-2, 1e-5, 1e-3},
                                rounded = {2.5e-2, 0.6, 2, 1e-5, 1e-3};
    const struct model_config config = {3, 48, 16, PATCH_MERGING_FIXED};
    const int in_bf16 = argc > 1 && strcmp(argv[1], "bf16") == 0;
    enum { n = 2 };
    struct compute reference, cuda;
    struct pass expected, found;
    require_ok(compute_open(&reference, "reference", 1, PRECISION_FLOAT32));
    pass_through(&expected, &reference, &config, n);
    open_cuda_on_host(&cuda, in_bf16 ? PRECISION_BF16 : PRECISION_FLOAT32);
    pass_through(&found, &cuda, &config, n);
    project_same_embeddings(&expected, &reference, &config, n, &found);
    const int wrong =
        compare(in_bf16 ? "in bf16" : "in float32", &found, &expected, in_bf16 ? &rounded : &exact);
    free_pass(&found);
    compute_close(&cuda);
    free_pass(&expected);
    compute_close(&reference);
    return wrong;
}
