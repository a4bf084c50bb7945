/* voco eval: is the encoder learning? Signals on volumes that it has not been trained on. */
#include "base/error.h"
#include "command_line.h"
#include "compute/compute_arena.h"
#include "compute/reals_on_device.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/machine.h"
#include "train/run_folder.h"
#include "train/run_memory.h"
#include "train/volumes.h"

#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct request {
    const char *checkpoint; /* a file, or a run's folder */
    const char *data;
    const char *cache;
    const char *compute;
    const char *precision;
    const char *recipe; /* for a file of weights that does not say how volumes are prepared */
    int threads;
    uint64_t memory; /* 0: most of what the machine has free */
    int draws;
    int all;
    int untrained;
    int json;
};

/* The checkpoint's file, and the folder for prepared volumes: its run's cache, unless another is named. */
static enum voco_status locate(char path[checkpoint_path_size], char cache[checkpoint_path_size],
                               const struct request *request)
{
    struct stat info;
    const enum voco_status status = checkpoint_find(path, request->checkpoint);
    if (status != VOCO_OK) {
        return status;
    }
    if (request->cache != NULL) {
        snprintf(cache, checkpoint_path_size, "%s", request->cache);
        return VOCO_OK;
    }
    char folder[checkpoint_path_size];
    snprintf(folder, sizeof folder, "%s", path);
    if (snprintf(cache, checkpoint_path_size, "%s/cache", dirname(folder)) >= checkpoint_path_size) {
        return fail(VOCO_BAD_INPUT, "%s: the name is too long", path);
    }
    struct run_folder run;
    if (stat(request->checkpoint, &info) == 0 && S_ISDIR(info.st_mode) &&
        run_folder_read(&run, request->checkpoint) == VOCO_OK) {
        snprintf(cache, checkpoint_path_size, "%s", run.cache);
        run_folder_free(&run);
    }
    return VOCO_OK;
}

static enum voco_status measure(struct evaluation results[2], const struct request *request,
                                const struct checkpoint *checkpoint, const struct recipe *recipe,
                                const struct prepared_volumes *volumes)
{
    struct model model = {0};
    struct compute compute = {0};
    struct arena arena = {0};
    float *params = NULL, *on_device = NULL;
    struct evaluation_settings settings = evaluation_settings_of(recipe);
    const struct memory_limit limit = memory_limit_of(request->memory);
    if (request->draws > 0) {
        settings.draws = request->draws;
    }
    enum compute_precision precision = recipe->precision;
    enum voco_status status = model_create(&model, &checkpoint->config);
    if (status == VOCO_OK && request->precision != NULL) {
        status = compute_precision_from_name(&precision, request->precision);
    }
    if (status == VOCO_OK) {
        status = machine_open(&compute, request->compute != NULL ? request->compute : recipe->compute,
                              request->threads, precision);
    }
    if (status == VOCO_OK) {
        status = evaluation_arena_open(&arena, &compute);
    }
    if (status != VOCO_OK) {
        goto done;
    }
    params = calloc(model.table.total, sizeof *params);
    if (params == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for %zu parameters", model.table.total);
        goto done;
    }
    status = checkpoint_read_params(checkpoint, &model.table, params);
    if (status == VOCO_OK) {
        on_device = reals_on_device(&compute, params, model.table.total);
        status = compute_status(&compute);
    }
    if (status == VOCO_OK) {
        status =
            fit_evaluation_memory(&settings, &model, &compute, on_device, volumes->held_out.count, &limit);
    }
    for (int untrained = 0; untrained <= request->untrained && status == VOCO_OK; untrained++) {
        if (untrained) {
            parameters_initialise(params, &model.table, recipe->seed);
            update_reals(&compute, on_device, params, model.table.total);
        }
        status = evaluate(&results[untrained], &model, &compute, &arena, on_device,
                          (const char *const *)volumes->held_out.arrays, volumes->held_out.count, &settings);
    }
done:
    compute_arena_close(&arena, &compute);
    release_reals(&compute, on_device, params);
    free(params);
    compute_close(&compute);
    model_free(&model);
    return status;
}

static json_t *as_json(const struct evaluation *e)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "position_accuracy",
                     e->position_accuracy, "chance", e->chance, "correlation", e->correlation,
                     "feature_spread", e->feature_spread, "effective_rank", e->effective_rank, "loss",
                     e->loss, "intra", e->intra, "inter", e->inter, "reg", e->reg);
}

static void print_json(const struct evaluation results[2], const struct request *request, const char *path,
                       long long step)
{
    json_t *root = json_pack("{s:s, s:I, s:I, s:I, s:o}", "checkpoint", path, "step", (json_int_t)step,
                             "volumes", (json_int_t)results[0].volumes, "positions",
                             (json_int_t)results[0].positions, "trained", as_json(&results[0]));
    if (root != NULL && request->untrained) {
        json_object_set_new(root, "untrained", as_json(&results[1]));
    }
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    if (text != NULL) {
        printf("%s\n", text);
    }
    free(text);
    json_decref(root);
}

static void print_row(const char *name, double chance, double trained, double untrained, int with_untrained)
{
    printf("  %-20s %8.3f", name, trained);
    if (with_untrained) {
        printf("   %8.3f", untrained);
    }
    if (chance > 0.0) {
        printf("   (chance %.3f)", chance);
    }
    printf("\n");
}

static void print_table(const struct evaluation results[2], const struct request *request, const char *path,
                        long long step)
{
    const struct evaluation *a = &results[0];
    const struct evaluation *b = &results[1];
    const int both = request->untrained;
    printf("%s, step %lld, on %zu volumes (%zu positions)\n", path, step, a->volumes, a->positions);
    printf("  %-20s %8s%s\n", "", "trained", both ? "   untrained" : "");
    print_row("position accuracy", a->chance, a->position_accuracy, b->position_accuracy, both);
    print_row("correlation", 0.0, a->correlation, b->correlation, both);
    print_row("feature spread", 0.0, a->feature_spread, b->feature_spread, both);
    print_row("effective rank", 0.0, a->effective_rank, b->effective_rank, both);
    print_row("loss", 0.0, a->loss, b->loss, both);
    print_row("  intra", 0.0, a->intra, b->intra, both);
    print_row("  inter", 0.0, a->inter, b->inter, both);
    print_row("  reg", 0.0, a->reg, b->reg, both);
}

static enum voco_status evaluate_request(const struct request *request)
{
    char path[checkpoint_path_size] = "";
    char cache[checkpoint_path_size] = "";
    struct checkpoint checkpoint = {0};
    struct prepared_volumes volumes = {0};
    struct recipe recipe;
    struct evaluation results[2] = {{0}};
    enum voco_status status = locate(path, cache, request);
    if (status == VOCO_OK) {
        status = checkpoint_open(&checkpoint, path);
    }
    if (status != VOCO_OK) {
        return status;
    }
    checkpoint_warn_of_patch_merging(&checkpoint);
    recipe = checkpoint.recipe;
    if (request->recipe != NULL) {
        status = recipe_load(&recipe, request->recipe);
        recipe.model = checkpoint.config;
        recipe.sampling.roi = checkpoint.config.roi;
    }
    recipe.memory = request->memory; /* that of the training was another machine's */
    if (status == VOCO_OK) {
        status = prepared_volumes_open(&volumes, request->data, cache, &recipe,
                                       request->all ? VOLUMES_ALL : VOLUMES_HELD_OUT, NULL);
    }
    if (status == VOCO_OK) {
        status = measure(results, request, &checkpoint, &recipe, &volumes);
    }
    if (status == VOCO_OK && request->json) {
        print_json(results, request, path, checkpoint.step);
    } else if (status == VOCO_OK) {
        print_table(results, request, path, checkpoint.step);
    }
    prepared_volumes_report(&volumes);
    prepared_volumes_free(&volumes);
    checkpoint_close(&checkpoint);
    return status;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    struct request request = {0};
    const struct option_description descriptions[] = {
        {"all", OPTION_FLAG, &request.all, NULL,
         "measure on every volume of DATA, not only the held-out ones", 0, 0},
        {"untrained", OPTION_FLAG, &request.untrained, NULL,
         "beside it, an untrained encoder of the same size", 0, 0},
        {"draws", OPTION_INT, &request.draws, "N", "how often crops are drawn from each volume", 1, 10000},
        {"recipe", OPTION_TEXT, &request.recipe, "tiny|base|large|huge|FILE",
         "how volumes are prepared, in place of the checkpoint's own", 0, 0},
        {"cache", OPTION_TEXT, &request.cache, "DIR", "prepared volumes; the run's cache where not given", 0,
         0},
        {"memory", OPTION_BYTES, &request.memory, "SIZE",
         "the most that the program takes, such as 16G; 3/4 of what is free where not given", 1, 1e15},
        {"threads", OPTION_INT, &request.threads, "N", "all cores where not given", 1, 4096},
        {"device", OPTION_TEXT, &request.compute, "cpu|cuda", "where to compute; cuda: an NVIDIA GPU", 0, 0},
        {"compute", OPTION_TEXT, &request.compute, "cpu|cuda|reference",
         "the same; reference is plain and slow, for comparison", 0, 0},
        {"precision", OPTION_TEXT, &request.precision, "float32|bf16|tf32", "in place of the checkpoint's", 0,
         0},
        {"json", OPTION_FLAG, &request.json, NULL, "the result as JSON", 0, 0},
        {0},
    };
    const char *positional[2] = {NULL, NULL};
    int exit_status = exit_ok;
    if (command_line_parse(verb, descriptions, argc, argv, positional, 2, 2, &exit_status) < 0) {
        return exit_status;
    }
    request.checkpoint = positional[0];
    request.data = positional[1];
    return report_failure(verb, evaluate_request(&request));
}

const struct verb verb_eval = {
    .name = "eval",
    .arguments = "CKPT|RUN DATA [options]",
    .summary = "is it learning: position accuracy, correlation, collapse, on held-out volumes",
    .details =
        "CKPT is a checkpoint or the folder of a run, or weights with both projectors in safetensors or .pt "
        "under the names of\n"
        "voco or of the published checkpoints; those need --recipe where volumes were prepared otherwise "
        "than for base.\n\n"
        "Position accuracy is how often the base crop most similar to a random crop is the one it "
        "overlaps most; chance\n"
        "is 1 in the number of base crops. Held out are DATA's validation list or, where it has none, "
        "the volumes that\n"
        "training left out. Feature spread and effective rank near 0 and 1 mean that the embeddings "
        "have collapsed.\n",
    .examples = "  voco eval run phantoms --untrained\n"
                "  voco eval VoCo_B_SSL_head.pt ct-folder --all --cache prepared\n"
                "  voco eval run/checkpoint-00002000.safetensors other-ct-folder --all --json\n",
    .run = run,
};
