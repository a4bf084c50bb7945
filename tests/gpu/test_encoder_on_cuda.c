/* The encoder and the student's projector on this machine's GPU, there and back: in float32, bf16 and TF32
 * against the reference for a small network, and bf16 and TF32 against float32 for one of the size of `base`.
 * Skipped, with 77, where there is no GPU. */
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
static const struct allowed in_float32 = {1e-5, 5e-3, 2e-2, 1e-4, 1e-2};
static const struct allowed in_bf16 = {2.5e-2, 0.45, 1.5, 1, 2};

/* TF32 has 11 significant bits where bf16 has 8: its roundings are 8 times as small, 4 times where bits are
 * cut off, and so are results. As many times fewer leaky ReLUs change sides, whose part in a gradient is, in
 * L2, as the root of how many they are: half of what bf16 may. */
static const struct allowed in_tf32 = {6.3e-3, 0.23, 0.75, 0.25, 2};

struct opened {
    struct compute compute;
    enum compute_precision precision;
    const struct allowed *allowed;
};

static int against_reference(struct opened *opened)
{
    const struct model_config config = {12, 48, 16, PATCH_MERGING_FIXED};
    enum { n = 3 };
    struct compute reference;
    struct pass expected, first, again;
    int wrong = 0;
    open_named(&reference, "reference", PRECISION_FLOAT32);
    pass_through(&expected, &reference, &config, n);
    for (int k = 0; k < compute_precisions; k++) {
        char name[32];
        snprintf(name, sizeof name, "tiny in %s", compute_precision_names[opened[k].precision]);
        pass_through(&first, &opened[k].compute, &config, n);
        pass_through(&again, &opened[k].compute, &config, n);
        wrong += compare(name, &first, &expected, opened[k].allowed);
        wrong += differ_in_bits(&first, &again);
        free_pass(&first);
        free_pass(&again);
    }
    free_pass(&expected);
    compute_close(&reference);
    return wrong;
}

/* opened[0] is in float32. */
static int of_base_size(struct opened *opened)
{
    const struct model_config config = {48, 64, 256, PATCH_MERGING_V2};
    enum { n = 5 };
    struct pass expected, found, again;
    int wrong = 0;
    pass_through(&expected, &opened[0].compute, &config, n);
    for (int k = 1; k < compute_precisions; k++) {
        char name[48];
        snprintf(name, sizeof name, "base, %s against float32", compute_precision_names[opened[k].precision]);
        pass_through(&found, &opened[k].compute, &config, n);
        pass_through(&again, &opened[k].compute, &config, n);
        wrong += compare(name, &found, &expected, opened[k].allowed);
        wrong += differ_in_bits(&found, &again);
        free_pass(&found);
        free_pass(&again);
    }
    free_pass(&expected);
    return wrong;
}

int main(int argc, char **argv)
{
    static struct opened opened[compute_precisions] = {
        {.precision = PRECISION_FLOAT32, .allowed = &in_float32},
        {.precision = PRECISION_BF16, .allowed = &in_bf16},
        {.precision = PRECISION_TF32, .allowed = &in_tf32}};
    const enum voco_status status = compute_open(&opened[0].compute, "cuda", 0, PRECISION_FLOAT32);
    if (status == VOCO_UNSUPPORTED) {
        printf("skipped: no device: %s\n", voco_error_message());
        return 77;
    }
    require_ok(status);
    for (int k = 1; k < compute_precisions; k++) {
        open_named(&opened[k].compute, "cuda", opened[k].precision);
    }
    int wrong = against_reference(opened);
    if (argc < 2 || strcmp(argv[1], "small") != 0) {
        wrong += of_base_size(opened);
    }
    for (int k = 0; k < compute_precisions; k++) {
        compute_close(&opened[k].compute);
    }
    return wrong > 0;
}
