#include "cpu_agreement.h"

#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* How "cpu" is opened. VOCO_ISA chooses among its builds of the kernels; "" leaves it the best one, or the
 * one that the environment names: then the others are not tested. */
struct setting {
    const char *isa;
    int threads;
};
static const struct setting settings[] = {{"", 1}, {"", 2}, {"avx512", 1}, {"avx2", 1}, {"portable", 3}};

/* Whether "cpu" could be opened; a processor may lack an instruction set that is asked for by name. */
static int open_cpu(struct compute *c, const struct setting *setting, enum compute_precision precision)
{
    const char *outer = getenv("VOCO_ISA");
    char kept[32];
    snprintf(kept, sizeof kept, "%s", outer != NULL ? outer : "");
    setenv("VOCO_ISA", *setting->isa != '\0' ? setting->isa : kept, 1);
    const enum voco_status status = compute_open(c, "cpu", setting->threads, precision);
    setenv("VOCO_ISA", kept, 1);
    assert_true(status == VOCO_OK || strncmp(setting->isa, "avx", 3) == 0);
    return status == VOCO_OK;
}

const double bf16_tolerance = 4e-3;
const double winograd_bf16_tolerance = 1.6e-2;

static int is_named_outside(void)
{
    const char *outer = getenv("VOCO_ISA");
    return outer != NULL && *outer != '\0';
}

static void hold(const char *name, operation run, const void *shape, enum compute_precision precision,
                 const struct tolerance *tolerance)
{
    struct compute reference, cpu;
    struct results expected, first, again;
    double worst[results_max] = {0};
    const int in_bf16 = precision == PRECISION_BF16;
    open_implementation(&reference, "reference", 1);
    compute_results(&reference, run, shape, in_bf16, &expected);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if ((*settings[i].isa != '\0' && is_named_outside()) || !open_cpu(&cpu, &settings[i], precision)) {
            continue;
        }
        compute_results(&cpu, run, shape, in_bf16, &first);
        raise_differences(worst, &first, &expected);
        if (settings[i].threads == 2) {
            compute_results(&cpu, run, shape, in_bf16, &again);
            require_same_bits(name, &first, &again);
            free_results(&again);
        }
        free_results(&first);
        compute_close(&cpu);
    }
    print_differences(name, precision, worst, &expected);
    const struct result *wrong = beyond_tolerance(worst, &expected, tolerance);
    if (wrong != NULL) {
        fail_msg("%s: %s of cpu and reference differ by %g", name, wrong->name,
                 worst[wrong - expected.result]);
    }
    free_results(&expected);
    compute_close(&reference);
}

void hold_against_reference(const char *name, operation run, const void *shape, double tolerance)
{
    hold(name, run, shape, PRECISION_FLOAT32, &(struct tolerance){tolerance, tolerance});
}

void hold_bf16_against_reference(const char *name, operation run, const void *shape,
                                 double tolerance_of_activations, double tolerance_of_reals)
{
    hold(name, run, shape, PRECISION_BF16, &(struct tolerance){tolerance_of_activations, tolerance_of_reals});
}
