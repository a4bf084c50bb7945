/* voco pretrain: from volumes to a pre-trained encoder. */
#include "train/pretrain.h"
#include "base/error.h"
#include "base/log.h"
#include "command_line.h"
#include "rank_output.h"
#include "stop_signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the command line says against the recipe; what it does not say is negative or NULL and changes
 * nothing. */
struct overrides {
    const char *recipe;
    int resumed_with_recipe;
    long long steps;
    int batch;
    double learning_rate;
    long long seed;
    long long checkpoint_every;
    int keep;
    const char *preset;
    const char *patch_merging;
    const char *compute;
    const char *precision;
    const char *tensorboard;
    int bits;
    int sync_bn, shard_optimizer; /* flags: 0 changes nothing */
    const char *reduce;
    long long chunk_cache;
    long long memory;
};

/* A resumed run keeps its own recipe; one that is named as well must not ask for another model. */
static enum voco_status compare_models(const struct recipe *own, const char *named)
{
    struct recipe other;
    const enum voco_status status = recipe_load(&other, named);
    if (status != VOCO_OK) {
        return status;
    }
    const struct model_config *a = &own->model;
    const struct model_config *b = &other.model;
    if (a->feature_size != b->feature_size || a->roi != b->roi || a->projector != b->projector ||
        a->patch_merging != b->patch_merging) {
        return fail(
            VOCO_BAD_INPUT,
            "recipe %s has another model size (feature_size %d, roi %d, projector %d, patch_merging %s) than "
            "the run (%d, %d, %d, %s); leave --recipe out to go on",
            named, b->feature_size, b->roi, b->projector, patch_merging_name(b->patch_merging),
            a->feature_size, a->roi, a->projector, patch_merging_name(a->patch_merging));
    }
    return VOCO_OK;
}

static enum voco_status apply(struct recipe *recipe, int resumed, void *context)
{
    const struct overrides *given = context;
    enum voco_status status = VOCO_OK;
    if (resumed && given->recipe != NULL) {
        status = compare_models(recipe, given->recipe);
    }
    if (status == VOCO_OK && given->patch_merging != NULL) {
        const enum patch_merging before = recipe->model.patch_merging;
        status = patch_merging_from_name(&recipe->model.patch_merging, given->patch_merging);
        if (status == VOCO_OK && resumed && recipe->model.patch_merging != before) {
            status = fail(VOCO_BAD_INPUT, "--patch-merging %s: the run was begun with %s",
                          given->patch_merging, patch_merging_name(before));
        }
    }
    if (given->preset != NULL) {
        snprintf(recipe->preset, sizeof recipe->preset, "%s", given->preset);
    }
    if (given->compute != NULL) {
        snprintf(recipe->compute, sizeof recipe->compute, "%s", given->compute);
    }
    if (status == VOCO_OK && given->precision != NULL) {
        status = compute_precision_from_name(&recipe->precision, given->precision);
    }
    recipe->sync_bn |= given->sync_bn;
    recipe->shard_optimizer |= given->shard_optimizer;
    if (status == VOCO_OK && given->reduce != NULL) {
        recipe->reduce = strcmp(given->reduce, "bf16") == 0 ? RANKS_BF16 : RANKS_FLOAT32;
        if (recipe->reduce == RANKS_FLOAT32 && strcmp(given->reduce, "float32") != 0) {
            status = fail(VOCO_BAD_INPUT, "--reduce is float32 or bf16, not \"%s\"", given->reduce);
        }
    }
    if (status == VOCO_OK && given->tensorboard != NULL) {
        recipe->tensorboard = strcmp(given->tensorboard, "yes") == 0;
        if (!recipe->tensorboard && strcmp(given->tensorboard, "no") != 0) {
            status = fail(VOCO_BAD_INPUT, "--tensorboard is yes or no, not \"%s\"", given->tensorboard);
        }
    }
    recipe->steps = given->steps >= 0 ? given->steps : recipe->steps;
    recipe->volumes = given->batch >= 0 ? given->batch : recipe->volumes;
    recipe->learning_rate = given->learning_rate >= 0.0 ? given->learning_rate : recipe->learning_rate;
    recipe->seed = given->seed >= 0 ? (uint64_t)given->seed : recipe->seed;
    recipe->checkpoint_every =
        given->checkpoint_every >= 0 ? given->checkpoint_every : recipe->checkpoint_every;
    recipe->bits = given->bits >= 0 ? given->bits : recipe->bits;
    recipe->chunk_cache = given->chunk_cache >= 0 ? (uint64_t)given->chunk_cache : recipe->chunk_cache;
    recipe->memory = given->memory >= 0 ? (uint64_t)given->memory : recipe->memory;
    recipe->keep = given->keep >= 0 ? given->keep : recipe->keep;
    return status;
}

static void print_result(const struct pretrain_report *report)
{
    if (report->evaluated) {
        const struct evaluation *e = &report->evaluation;
        printf("held out: %zu volumes, position accuracy %.3f (chance %.3f), correlation %.3f, effective "
               "rank %.1f\n",
               e->volumes, e->position_accuracy, e->chance, e->correlation, e->effective_rank);
    }
    if (report->skipped > 0) {
        printf("%lld steps were skipped, because their loss or gradient was not finite\n", report->skipped);
    }
    printf("%lld steps done, checkpoint: %s\n", report->steps, report->checkpoint);
}

static int run_rank(const struct verb *verb, int argc, char **argv, const struct ranks *ranks)
{
    int log_all = 0;
    struct overrides given = {.steps = -1,
                              .batch = -1,
                              .learning_rate = -1,
                              .seed = -1,
                              .checkpoint_every = -1,
                              .keep = -1,
                              .bits = -1,
                              .chunk_cache = -1,
                              .memory = -1};
    struct pretrain_options options = {.dump_batch = -1, .stop = &stop_asked, .ranks = ranks};
    const struct option_description descriptions[] = {
        {"out", OPTION_TEXT, &options.out, "RUN", "the run's folder: checkpoints, metrics.jsonl, cache", 0,
         0},
        {"recipe", OPTION_TEXT, &given.recipe, "tiny|base|large|huge|FILE",
         "one that voco has, or a YAML file with every setting [base]", 0, 0},
        {"steps", OPTION_LONG, &given.steps, "N", "optimiser steps in all", 1, 1e12},
        {"batch", OPTION_INT, &given.batch, "V", "volumes per step, over all processes", 1, 65536},
        {"lr", OPTION_REAL, &given.learning_rate, "X", "the highest learning rate", 0, 10},
        {"seed", OPTION_LONG, &given.seed, "N", "of everything random", 0, 9e18},
        {"preset", OPTION_TEXT, &given.preset, "abdomen|chest|headneck|mr",
         "how volumes are prepared (see voco prepare); the recipe's else", 0, 0},
        {"patch-merging", OPTION_TEXT, &given.patch_merging, "legacy|fixed|v2",
         "order in which patch merging gathers (see voco convert); the recipe's else", 0, 0},
        {"threads", OPTION_INT, &options.threads, "N", "of the computation; all cores where not given", 1,
         4096},
        {"checkpoint-every", OPTION_LONG, &given.checkpoint_every, "N", "steps; 0: only at the end", 0, 1e12},
        {"keep", OPTION_INT, &given.keep, "N", "how many checkpoints stay", 1, 100000},
        {"cache", OPTION_TEXT, &options.cache, "DIR", "prepared volumes; RUN/cache where not given", 0, 0},
        {"bits", OPTION_INT, &given.bits, "8|12|16", "per voxel in the cache; the recipe's else", 8, 16},
        {"tensorboard", OPTION_TEXT, &given.tensorboard, "yes|no",
         "event files for tensorboard --logdir RUN; the recipe's else", 0, 0},
        {"memory", OPTION_BYTES, &given.memory, "SIZE",
         "the most that the program takes, such as 16G (of the GPU's with --device cuda); 0: 3/4 of what is "
         "free",
         0, 1e15},
        {"chunk-cache", OPTION_BYTES, &given.chunk_cache, "SIZE",
         "of that, for decoded parts of volumes, such as 4G; 0: none", 0, 1e15},
        {"device", OPTION_TEXT, &given.compute, "cpu|cuda",
         "where to compute; cuda: an NVIDIA GPU, of several processes one for each", 0, 0},
        {"compute", OPTION_TEXT, &given.compute, "cpu|cuda|reference",
         "the same; reference is plain and slow, for comparison", 0, 0},
        {"precision", OPTION_TEXT, &given.precision, "float32|bf16|tf32",
         "bf16: half the memory for activations, faster where the processor multiplies it; tf32: float32 "
         "with products on a GPU's tensor cores",
         0, 0},
        {"sync-bn", OPTION_FLAG, &given.sync_bn, NULL,
         "of several processes: BatchNorm and loss over all their volumes, as in one process", 0, 0},
        {"reduce", OPTION_TEXT, &given.reduce, "float32|bf16",
         "how gradients travel between processes; bf16: half the bytes", 0, 0},
        {"shard-optimizer", OPTION_FLAG, &given.shard_optimizer, NULL,
         "each process keeps its part of the optimiser's moments: less memory", 0, 0},
        {"log-all-ranks", OPTION_FLAG, &log_all, NULL, "what every process has to say, not only the first", 0,
         0},
        {"init", OPTION_TEXT, &options.init, "CKPT",
         "begin with these weights: any file that voco convert reads; moments 0, step 0", 0, 0},
        {"init-partial", OPTION_FLAG, &options.init_partial, NULL,
         "take what CKPT has; what it lacks is drawn anew", 0, 0},
        {"resume", OPTION_FLAG, &options.resume, NULL, "go on where RUN stopped; begin where there is none",
         0, 0},
        {"dump-batch", OPTION_LONG, &options.dump_batch, "STEP",
         "write that step's batch for voco replay, and end", 0, 1e15},
        {0},
    };
    int exit_status = exit_ok;
    rank_output_of(ranks, 0);
    if (command_line_parse(verb, descriptions, argc, argv, &options.data, 0, 1, &exit_status) < 0) {
        return exit_status;
    }
    rank_output_of(ranks, log_all);
    if (options.out == NULL) {
        (void)fail(VOCO_BAD_INPUT,
                   "--out RUN is missing: where should checkpoints go? (see: voco pretrain --help)");
        (void)report_failure(verb, VOCO_BAD_INPUT);
        return exit_usage;
    }
    enum voco_status status = recipe_load(&options.recipe, given.recipe != NULL ? given.recipe : "base");
    if (status != VOCO_OK) {
        return report_failure(verb, status);
    }
    options.override = apply;
    options.context = &given;
    catch_stop_signals();
    struct pretrain_report report;
    status = pretrain(&options, &report);
    if (status == VOCO_STOPPED) {
        log_line(LOG_INFO, "%s; checkpoint: %s", voco_error_message(),
                 report.checkpoint[0] != '\0' ? report.checkpoint : "none yet");
        log_line(LOG_INFO, "to go on: voco pretrain --out %s --resume", options.out);
        return exit_ok;
    }
    if (status != VOCO_OK) {
        return report_failure(verb, status);
    }
    if (options.dump_batch >= 0) {
        printf("%s\n", report.checkpoint);
    } else {
        print_result(&report);
    }
    return exit_ok;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    struct ranks ranks;
    const enum voco_status status = ranks_open(&ranks);
    if (status != VOCO_OK) {
        return report_failure(verb, status);
    }
    const int exit_status = run_rank(verb, argc, argv, &ranks);
    (void)fflush(stdout);
    ranks_close(&ranks); /* all have said what they had to say */
    return exit_status;
}

const struct verb verb_pretrain = {
    .name = "pretrain",
    .arguments = "DATA --out RUN [options]\n       voco pretrain --out RUN --resume [options]",
    .summary = "pre-train an encoder on unlabelled volumes",
    .details =
        "DATA is a folder of .nii and .nii.gz files, a MSD/decathlon dataset.json, a text file of paths, one "
        "volume, a\n"
        "corpus YAML of several data sets, or a cache that `voco cache` has filled.\n"
        "Volumes are prepared once and kept in the cache. A bad one is skipped and listed at the end. Where "
        "DATA has no\n"
        "validation list, a part of the volumes is held out and the encoder is measured on it at the end.\n\n"
        "SIGTERM, SIGINT and SIGUSR1 end the run after the step, with a checkpoint; a second SIGINT ends it "
        "at once.\n"
        "Started by mpirun or srun, several processes share a run: each takes its part of the batch, and the "
        "first one\n"
        "writes and prints. A run may go on with another number of processes. With --device cuda each takes "
        "a GPU of "
        "its own;\n"
        "NCCL carries the gradients where it is installed (libnccl.so.2, or VOCO_NCCL=FILE).\n"
        "With --resume a run goes on exactly, from its newest whole checkpoint, with its own recipe; flags "
        "given then\n"
        "override it.\n",
    .examples =
        "  voco pretrain ct-folder --out run --recipe base --preset chest\n"
        "  voco pretrain Task07/dataset.json --out run --recipe mine.yaml --steps 20000 --batch 4\n"
        "  voco pretrain ct-folder --out run --init VoCo_B_SSL_head.pt --patch-merging legacy\n"
        "  voco pretrain --out run --resume\n"
        "  mpirun -n 8 voco pretrain ct-folder --out run --batch 16\n"
        "  mpirun -n 8 voco pretrain ct-folder --out run --batch 16 --device cuda --precision bf16\n"
        "  voco pretrain --out run --resume --dump-batch 1234     a step to look into with voco replay\n",
    .run = run,
};
