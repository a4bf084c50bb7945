/* The encoder and the student's projector on this machine's GPU, there and back: in float32 and bf16 against
 * the reference for a small network, and bf16 against float32 for one of the size of `base`. Skipped, with
 * 77, where there is no GPU. */
#include "encoder_pass.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

static void open_named(struct compute *c, const char *name, enum compute_precision precision)
{
    require_ok(compute_open(c, name, 0, precision));
}

/* A leaky ReLU whose argument rounds to the other side of zero is enough for 1e-2 in one parameter. In bf16,
 * and with parameters as they are at first, the cpu implementation's gradients are as far from those in
 * float32. */
static int against_reference(struct compute *float32, struct compute *bf16)
{
    static const struct allowed in_float32 = {1e-5, 5e-3, 2e-2, 1e-4, 1e-2};
    static const struct allowed in_bf16 = {2.5e-2, 0.45, 1.5, 1, 2};
    const struct model_config config = {12, 48, 16, PATCH_MERGING_FIXED};
    enum { n = 3 };
    struct compute reference;
    struct pass expected, first, again;
    int wrong = 0;
    open_named(&reference, "reference", PRECISION_FLOAT32);
    pass_through(&expected, &reference, &config, n);
    pass_through(&first, float32, &config, n);
    pass_through(&again, float32, &config, n);
    wrong += compare("tiny in float32", &first, &expected, &in_float32);
    wrong += differ_in_bits(&first, &again);
    free_pass(&first);
    free_pass(&again);
    pass_through(&first, bf16, &config, n);
    pass_through(&again, bf16, &config, n);
    wrong += compare("tiny in bf16", &first, &expected, &in_bf16);
    wrong += differ_in_bits(&first, &again);
    free_pass(&first);
    free_pass(&again);
    free_pass(&expected);
    compute_close(&reference);
    return wrong;
}

static int of_base_size(struct compute *float32, struct compute *bf16)
{
    static const struct allowed allowed = {2.5e-2, 0.45, 1.5, 1, 2};
    const struct model_config config = {48, 64, 256, PATCH_MERGING_V2};
    enum { n = 5 };
    struct pass expected, found, again;
    pass_through(&expected, float32, &config, n);
    pass_through(&found, bf16, &config, n);
    pass_through(&again, bf16, &config, n);
    const int wrong =
        compare("base, bf16 against float32", &found, &expected, &allowed) + differ_in_bits(&found, &again);
    free_pass(&expected);
    free_pass(&found);
    free_pass(&again);
    return wrong;
}

int main(int argc, char **argv)
{
    struct compute float32, bf16;
    const enum voco_status status = compute_open(&float32, "cuda", 0, PRECISION_FLOAT32);
    if (status == VOCO_UNSUPPORTED) {
        printf("skipped: no device: %s\n", voco_error_message());
        return 77;
    }
    require_ok(status);
    open_named(&bf16, "cuda", PRECISION_BF16);
    int wrong = against_reference(&float32, &bf16);
    if (argc < 2 || strcmp(argv[1], "small") != 0) {
        wrong += of_base_size(&float32, &bf16);
    }
    compute_close(&float32);
    compute_close(&bf16);
    return wrong > 0;
}
