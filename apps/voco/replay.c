/* voco replay: exact optimiser steps on a stored batch. */
#include "train/replay.h"
#include "base/error.h"
#include "command_line.h"
#include "json_report.h"

#include <math.h>
#include <stdlib.h>

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *describe_step(int step, const struct step_result *result)
{
    return json_pack(
        "{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "step", step, "loss",
        number(result->loss.total), "intra", number(result->loss.intra), "inter", number(result->loss.inter),
        "reg", number(result->loss.reg), "position_accuracy", number(position_accuracy(&result->positions)),
        "correlation", number(position_correlation(&result->positions)), "feature_spread",
        number(result->embeddings.spread), "effective_rank", number(result->embeddings.effective_rank),
        "gradient_norm", number(result->gradient_norm), "skipped", result->skipped);
}

static enum voco_status print_json(const struct replay_options *options, const struct step_result *results)
{
    json_t *steps = json_array();
    for (int i = 0; i < options->steps; i++) {
        (void)json_array_append_new(steps, describe_step(i, &results[i]));
    }
    json_t *report = json_pack("{s:s, s:o}", "out", options->out, "steps", steps);
    if (report == NULL) {
        return fail(VOCO_NO_MEMORY, "the result cannot be written as JSON");
    }
    json_report_dump(stdout, report);
    json_decref(report);
    return VOCO_OK;
}

static void print_steps(const struct replay_options *options, const struct step_result *results)
{
    for (int i = 0; i < options->steps; i++) {
        const struct step_result *r = &results[i];
        printf("step %d: loss %.6f = intra %.6f + inter %.6f + reg %.6f; gradient norm %.6g%s\n", i,
               r->loss.total, r->loss.intra, r->loss.inter, r->loss.reg, r->gradient_norm,
               r->skipped ? "; not finite, no update" : "");
    }
    printf("wrote %s\n", options->out);
}

static enum voco_status replay_and_report(const struct replay_options *options, int as_json)
{
    struct step_result *results = calloc((size_t)options->steps, sizeof *results);
    if (results == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for %d steps", options->steps);
    }
    enum voco_status status = replay(options, results);
    if (status == VOCO_OK && as_json) {
        status = print_json(options, results);
    } else if (status == VOCO_OK) {
        print_steps(options, results);
    }
    free(results);
    return status;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    struct replay_options options = {
        .steps = 1, .learning_rate = 1e-3, .weight_decay = NAN, .compute = "cpu"};
    int as_json = 0;
    const struct option_description descriptions[] = {
        {"checkpoint", OPTION_TEXT, &options.checkpoint, "CKPT",
         "parameters to begin with: a checkpoint or weights", 0, 0},
        {"out", OPTION_TEXT, &options.out, "FILE", "the file to write", 0, 0},
        {"steps", OPTION_INT, &options.steps, "N", "how many steps", 1, replay_most_steps},
        {"lr", OPTION_REAL, &options.learning_rate, "X", "learning rate of every step", 0, 10},
        {"weight-decay", OPTION_REAL, &options.weight_decay, "X",
         "in place of the checkpoint's; weights alone have 0.01", 0, 1},
        {"gradients", OPTION_TEXT, &options.gradients, "FILE",
         "the optimiser takes step{i}/grad/NAME of this file in place of its own gradients", 0, 0},
        {"memory", OPTION_BYTES, &options.memory, "SIZE",
         "the most that the program takes, such as 16G; 3/4 of what is free where not given", 1, 1e15},
        {"threads", OPTION_INT, &options.threads, "N", "all cores where not given", 1, 4096},
        {"device", OPTION_TEXT, &options.compute, "cpu|cuda", "where to compute; cuda: an NVIDIA GPU", 0, 0},
        {"compute", OPTION_TEXT, &options.compute, "cpu|cuda|reference",
         "the same; reference is plain and slow, for comparison", 0, 0},
        {"precision", OPTION_TEXT, &options.precision, "float32|bf16|tf32",
         "in place of the checkpoint's; weights alone have float32", 0, 0},
        {"json", OPTION_FLAG, &as_json, NULL, "losses and signals as JSON", 0, 0},
        {0},
    };
    const char *positional[1] = {NULL};
    int exit_status = exit_ok;
    if (command_line_parse(verb, descriptions, argc, argv, positional, 1, 1, &exit_status) < 0) {
        return exit_status;
    }
    if (options.checkpoint == NULL || options.out == NULL) {
        (void)fprintf(stderr, "voco: %s: --checkpoint and --out are needed (see: voco %s --help)\n",
                      verb->name, verb->name);
        return exit_usage;
    }
    options.batch = positional[0];
    return report_failure(verb, replay_and_report(&options, as_json));
}

const struct verb verb_replay = {
    .name = "replay",
    .arguments = "BATCH --checkpoint CKPT --out OUT [options]",
    .summary = "exact optimiser steps on a stored batch, for comparison and to look into a bad step",
    .details = "No augmentation, no drop, a constant learning rate. BATCH is a safetensors file with crops "
               "[V, S, R, R, R] and\n"
               "bases [V, K, R, R, R] (float32, or uint8 with voxel = value / 255) and labels [V, S, K], as "
               "voco pretrain\n"
               "--dump-batch writes it. CKPT is a checkpoint of voco pretrain, whose moments are gone on "
               "from, or a file of\n"
               "weights. OUT receives, for every step i, step{i}/loss [total, intra, inter, reg], "
               "step{i}/embedding,\n"
               "step{i}/student, step{i}/teacher, step{i}/grad/NAME, and after the update "
               "step{i}/paramsample/NAME (at most 256\n"
               "values of each) and step{i}/param/NAME.\n",
    .examples = "  voco replay batch.safetensors --checkpoint run/checkpoint-00000100.safetensors --out "
                "step.safetensors\n"
                "  voco replay batch.safetensors --checkpoint weights.safetensors --out own.safetensors "
                "--steps 2 \\\n"
                "      --gradients expected.safetensors\n",
    .run = run,
};
