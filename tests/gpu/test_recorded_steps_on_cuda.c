/* Steps whose passes are CUDA graphs (train/step_recording.h) on this machine's GPU, beside the same steps
 * asked for operation by operation: the same bits, whatever happens between them. Skipped, with 77, where
 * there is no GPU. */
#include "step_scenario.h"

#include "base/error.h"
#include "base/log.h"
#include "encoder_pass.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Why something was not recorded. */
static void say(enum log_level level, const char *line, void *context)
{
    (void)level;
    (void)context;
    printf("    %s\n", line);
}

/* Returns 1 where something is wrong. A step is three replays. */
static int compare_steps(const char *what, struct compute *c, const struct step_scenario *scenario,
                         int least_replayed)
{
    struct scenario_outcome expected, found;
    struct step_scenario settled = *scenario;
    settled.ahead = 0;
    run_scenario(&expected, c, &settled, 0);
    run_scenario(&found, c, scenario, 1);
    const int same = same_outcome(&found, &expected, scenario->steps);
    const int recorded = found.replays >= 3 * least_replayed;
    printf("    recorded steps %s: %d replays, %d at least; %s%s\n", what, found.replays, 3 * least_replayed,
           same ? "the same bits" : "other bits", same && recorded ? "" : "    WRONG");
    fflush(stdout);
    free_outcome(&expected);
    free_outcome(&found);
    return !same || !recorded;
}

int main(void)
{
    /* The width of `base`, whose convolutions and linear layers have kernels of their own. */
    const struct step_scenario scenario = {.config = {48, 48, 64, PATCH_MERGING_FIXED},
                                           .drop = DROP_FEATURE,
                                           .steps = 17,
                                           .broken = 4,
                                           .resize_before = 5,
                                           .larger_from = 9,
                                           .larger_till = 12};
    /* Where an evaluation takes more memory than steps do, they are recorded anew. */
    const struct step_scenario evaluated = {
        .config = scenario.config, .drop = DROP_CROP, .steps = 7, .evaluate_before = 5};
    const struct step_scenario ahead = {
        .config = scenario.config, .drop = DROP_FEATURE, .steps = 9, .broken = 6, .overflows = 4, .ahead = 1};
    struct compute c;
    int wrong = 0;
    assert_int_equal(unsetenv("VOCO_CUDA_GRAPH"), 0);
    log_set_sink(say, NULL);
    for (int in_bf16 = 0; in_bf16 < 2; in_bf16++) {
        const enum voco_status status =
            compute_open(&c, "cuda", 0, in_bf16 ? PRECISION_BF16 : PRECISION_FLOAT32);
        if (status == VOCO_UNSUPPORTED) {
            printf("skipped: no device: %s\n", voco_error_message());
            return 77;
        }
        require_ok(status);
        wrong += compare_steps(in_bf16 ? "in bf16" : "in float32", &c, &scenario, 4 + 3 + 2 + 4);
        wrong += compare_steps(in_bf16 ? "in bf16, evaluated" : "in float32, evaluated", &c, &evaluated, 5);
        wrong +=
            compare_steps(in_bf16 ? "in bf16, settled later" : "in float32, settled later", &c, &ahead, 8);
        compute_close(&c);
    }
    return wrong;
}
