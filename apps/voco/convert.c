/* voco convert: checkpoints between formats, names, orders of patch merging and numbers of channels. */
#include "base/error.h"
#include "command_line.h"
#include "json_report.h"
#include "train/checkpoint.h"
#include "train/conversion.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct request {
    struct conversion_options options;
    const char *paths[2]; /* IN, OUT */
    const char *format;   /* NULL: by the name of OUT */
    int force, verbose, as_json;
};

static int ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name);
    const size_t tail = strlen(ending);
    return length > tail && strcasecmp(name + length - tail, ending) == 0;
}

static enum voco_status choose_format(enum tensor_file_format *format, const struct request *request)
{
    const char *out = request->paths[1];
    if (request->format != NULL) {
        *format = strcmp(request->format, "pt") == 0 ? TENSOR_FILE_PT : TENSOR_FILE_SAFETENSORS;
        return strcmp(request->format, "pt") == 0 || strcmp(request->format, "safetensors") == 0
                   ? VOCO_OK
                   : fail(VOCO_BAD_INPUT, "no format is called \"%s\" (there are: safetensors, pt)",
                          request->format);
    }
    *format = ends_with(out, ".safetensors") ? TENSOR_FILE_SAFETENSORS : TENSOR_FILE_PT;
    return *format == TENSOR_FILE_SAFETENSORS || ends_with(out, ".pt") || ends_with(out, ".pth")
               ? VOCO_OK
               : fail(VOCO_BAD_INPUT,
                      "%s: the name to write must end with .safetensors, .pt or .pth, or --format says which",
                      out);
}

/* A run's folder stands for its newest checkpoint. */
static enum voco_status find_input(char path[checkpoint_path_size], const char *in)
{
    struct stat info;
    if (stat(in, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return snprintf(path, checkpoint_path_size, "%s", in) < checkpoint_path_size
                   ? VOCO_OK
                   : fail(VOCO_BAD_INPUT, "%s: the name is too long", in);
    }
    const enum voco_status status = checkpoint_newest(path, in);
    return status == VOCO_OK && path[0] == '\0' ? fail(VOCO_BAD_INPUT, "%s: holds no checkpoint", in)
                                                : status;
}

static json_t *name_list(const char *const *names, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_string(names[i]));
    }
    return list;
}

/* Which SwinUNETR(use_v2=True) computes with these weights what was trained; MONAI's pull request 8285
 * changed what downsample="merging" gathers. */
static const char *monai_of(enum patch_merging order)
{
    switch (order) {
    case PATCH_MERGING_LEGACY:
        return "MONAI up to 1.4, downsample=\"merging\"; later ones gather in another order";
    case PATCH_MERGING_FIXED:
        return "MONAI from 1.5 on, downsample=\"merging\"";
    case PATCH_MERGING_V2:
        return "MONAI, downsample=\"mergingv2\"";
    }
    return "";
}

static void report_as_json(const struct request *request, const struct conversion *c,
                           enum tensor_file_format format)
{
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:b, s:b, s:i, s:i, s:o, s:o, s:o}", "in", c->from.path,
        "out", request->paths[1], "format", format == TENSOR_FILE_PT ? "pt" : "safetensors", "names",
        name_space_name(c->names), "feature_size", c->from.config.feature_size, "in_channels", c->in_channels,
        "patch_merging", patch_merging_name(c->to_order), "patch_merging_before",
        patch_merging_name(c->from_order), "patch_merging_assumed", c->order_assumed, "resumes", c->resumes,
        "loaded", c->loaded, "left_out", c->left_out, "missing", name_list(c->missing, c->missing_count),
        "unexpected", name_list(c->unexpected, c->unexpected_count), "reshaped",
        name_list(c->reshaped, c->reshaped_count));
    if (report != NULL) {
        json_report_dump(stdout, report);
        json_decref(report);
    }
}

/* Names from files may hold anything; what would move a terminal's cursor is shown as a question mark. */
static void show_names(const char *label, const char *const *names, size_t count, int all)
{
    enum { shown_unasked = 10 };
    if (count == 0) {
        return;
    }
    printf("  %-12s %zu\n", label, count);
    for (size_t i = 0; i < count && (all || i < shown_unasked); i++) {
        printf("      ");
        for (const char *p = names[i]; *p != '\0'; p++) {
            (void)putchar((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p);
        }
        (void)putchar('\n');
    }
    if (!all && count > shown_unasked) {
        printf("      ... (--verbose shows all)\n");
    }
}

static void report_in_words(const struct request *request, const struct conversion *c,
                            enum tensor_file_format format)
{
    printf("%s: %s of feature size %d, %s, names as %s has them, patch merging %s%s\n", request->paths[1],
           c->resumes               ? "training checkpoint"
           : c->names == NAMES_VOCO ? "weights"
                                    : "encoder",
           c->from.config.feature_size, format == TENSOR_FILE_PT ? ".pt" : "safetensors",
           c->names == NAMES_VOCO ? "voco" : "MONAI", patch_merging_name(c->to_order),
           c->change == ORDER_KEPT ? "" : " (rewritten, the same function)");
    if (c->order_assumed) {
        printf("  note: the file does not say its order of patch merging; legacy, that of the published "
               "checkpoints,\n        is assumed. --trained-with says otherwise.\n");
    }
    if (c->names == NAMES_MONAI) {
        printf("  for %s\n", monai_of(c->to_order));
    }
    printf("  %-12s %d\n", "loaded", c->loaded);
    if (c->left_out > 0) {
        printf("  %-12s %d (projectors, moments)\n", "left out", c->left_out);
    }
    show_names("missing", c->missing, c->missing_count, request->verbose);
    show_names("unexpected", c->unexpected, c->unexpected_count, request->verbose);
    show_names("reshaped", c->reshaped, c->reshaped_count, request->verbose);
}

static enum voco_status convert(const struct request *request, enum tensor_file_format format)
{
    char in[checkpoint_path_size];
    const char *out = request->paths[1];
    struct conversion conversion = {0};
    if (!request->force && access(out, F_OK) == 0) {
        return fail(VOCO_BAD_INPUT, "%s: is there already; --force replaces it", out);
    }
    enum voco_status status = find_input(in, request->paths[0]);
    if (status == VOCO_OK) {
        status = conversion_open(&conversion, in, &request->options);
    }
    if (status == VOCO_OK) {
        status = conversion_write(&conversion, out, format);
    }
    if (status == VOCO_OK && request->as_json) {
        report_as_json(request, &conversion, format);
    } else if (status == VOCO_OK) {
        report_in_words(request, &conversion, format);
    }
    conversion_close(&conversion);
    return status;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    struct request request = {0};
    struct conversion_options *options = &request.options;
    const struct option_description descriptions[] = {
        {"names", OPTION_TEXT, &options->names, "voco|monai",
         "monai: the encoder alone; as in IN where not given", 0, 0},
        {"format", OPTION_TEXT, &request.format, "safetensors|pt", "by the name of OUT where not given", 0,
         0},
        {"patch-merging", OPTION_TEXT, &options->merging, "legacy|fixed|v2",
         "the order that OUT is to have, if the function can be kept", 0, 0},
        {"trained-with", OPTION_TEXT, &options->trained_with, "legacy|fixed|v2",
         "the order that IN was trained with, where it does not say; legacy where not given", 0, 0},
        {"in-channels", OPTION_INT, &options->in_channels, "N",
         "repeat the first layers for images of N channels, divided by N", 1, 64},
        {"prefix", OPTION_TEXT, &options->prefix, "TEXT",
         "take the names that begin so, where IN holds several networks", 0, 0},
        {"weights-only", OPTION_FLAG, &options->weights_only, NULL, "leave moments and recipe out", 0, 0},
        {"partial", OPTION_FLAG, &options->partial, NULL, "convert what is there of the encoder", 0, 0},
        {"force", OPTION_FLAG, &request.force, NULL, "replace OUT", 0, 0},
        {"verbose", OPTION_FLAG, &request.verbose, NULL, "all names that are missing, unexpected or reshaped",
         0, 0},
        {"json", OPTION_FLAG, &request.as_json, NULL, "for scripts: one JSON object", 0, 0},
        {0},
    };
    int exit_status = exit_ok;
    if (command_line_parse(verb, descriptions, argc, argv, request.paths, 2, 2, &exit_status) < 0) {
        return exit_status;
    }
    enum tensor_file_format format = TENSOR_FILE_SAFETENSORS;
    const enum voco_status status = choose_format(&format, &request);
    if (status != VOCO_OK) {
        (void)report_failure(verb, status);
        return exit_usage;
    }
    return report_failure(verb, convert(&request, format));
}

const struct verb verb_convert = {
    .name = "convert",
    .arguments = "IN OUT [options]",
    .summary = "checkpoints between safetensors and .pt, voco's names and MONAI's",
    .details =
        "IN is a checkpoint of voco, the folder of a run, a published VoCo_{B,L,H}_SSL_head.pt, a checkpoint "
        "of "
        "VoCo's\n"
        "training code, or weights of MONAI's SwinUNETR(use_v2=True), as safetensors or .pt (also within "
        "state_dict, model,\n"
        "network_weights, behind module., backbone., student., with swin_vit for swinViT). A training "
        "checkpoint stays one\n"
        "under voco's names, moments and recipe included; from .pt and back come the same bytes.\n\n"
        "Weights mean nothing without the order in which patch merging gathers its 8 neighbours. fixed and "
        "v2 "
        "are rewritten\n"
        "into each other exactly. legacy (MONAI up to 1.4, all published VoCo checkpoints) reads two "
        "neighbours twice and two\n"
        "never; no weights of another order make the same function, so that is refused.\n",
    .examples = "  voco convert run encoder.pt --names monai             for MONAI's SwinUNETR\n"
                "  voco convert VoCo_B_SSL_head.pt voco_b.safetensors     a published checkpoint\n"
                "  voco convert run encoder.pt --names monai --in-channels 4\n"
                "  voco convert run/checkpoint-00000240.safetensors for-pytorch.pt\n",
    .run = run,
};
