/* voco info: what is in a file. Each kind of file is described as a JSON object, which is shown or dumped. */
#include "base/byte_size.h"
#include "base/error.h"
#include "command_line.h"
#include "compute/gpus.h"
#include "data/dataset.h"
#include "info_kinds.h"
#include "store/volume_cache.h"
#include "train/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static int ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name);
    const size_t tail = strlen(ending);
    return length >= tail && strcasecmp(name + length - tail, ending) == 0;
}

void add(json_t *report, const char *key, json_t *value)
{
    (void)json_object_set_new(report, key, value);
}

/* ---- recipes, data, runs ---- */

static enum voco_status unknown_kind(const char *path)
{
    return fail(VOCO_BAD_INPUT, "%s: neither a volume, a checkpoint, a recipe nor a data list", path);
}

static enum voco_status describe_recipe(json_t *report, const struct info_request *request)
{
    struct recipe recipe;
    const enum voco_status status = recipe_load(&recipe, request->path);
    if (status == VOCO_OK) {
        add(report, "kind", json_string("recipe"));
        add(report, "recipe", recipe_to_json(&recipe));
    }
    return status;
}

/* What a corpus or a cache is made of. */
static void add_sets(json_t *report, const struct dataset *dataset)
{
    json_t *sets = json_array();
    for (int i = 0; i < dataset->set_count; i++) {
        const struct dataset_set *set = &dataset->sets[i];
        json_t *one = json_pack("{s:s}", "set", set->name[0] != '\0' ? set->name : "all");
        if (set->has_preset) {
            add(one, "preset", json_string(set->preset.name));
            add(one, "window_taken_by", json_string(set->preset.window == WINDOW_RESIZE ? "resize" : "crop"));
        }
        add(one, "volumes", json_integer((json_int_t)set->count));
        add(one, "repeat", json_integer(set->repeat));
        if (set->problem != NULL) {
            add(one, "problem", json_string(set->problem));
        }
        (void)json_array_append_new(sets, one);
    }
    add(report, "sets", sets);
}

static enum voco_status describe_data(json_t *report, const struct info_request *request)
{
    struct dataset dataset;
    const enum voco_status status = dataset_open(&dataset, request->path);
    if (status == VOCO_OK) {
        const int is_corpus = dataset.set_count > 1 || dataset.sets[0].has_preset;
        add(report, "kind", json_string(dataset.is_cache ? "cache" : (is_corpus ? "corpus" : "data list")));
        add(report, "training", json_integer((json_int_t)dataset_count(&dataset, SPLIT_TRAINING)));
        add(report, "validation", json_integer((json_int_t)dataset_count(&dataset, SPLIT_VALIDATION)));
        add(report, "test", json_integer((json_int_t)dataset_count(&dataset, SPLIT_TEST)));
        if (is_corpus) {
            add_sets(report, &dataset);
        }
        dataset_free(&dataset);
    }
    return status;
}

/* A corpus names its data sets in a list "sets", which no recipe has. */
static enum voco_status describe_yaml(json_t *report, const struct info_request *request)
{
    char line[256];
    int is_corpus = 0;
    FILE *stream = fopen(request->path, "r");
    while (stream != NULL && !is_corpus && fgets(line, sizeof line, stream) != NULL) {
        is_corpus = strncmp(line, "sets:", 5) == 0;
    }
    if (stream != NULL) {
        (void)fclose(stream);
    }
    return is_corpus ? describe_data(report, request) : describe_recipe(report, request);
}

/* A file of text whose name does not say that it is a list. */
static enum voco_status describe_text(json_t *report, const struct info_request *request)
{
    const enum voco_status status = describe_data(report, request);
    return status == VOCO_BAD_INPUT ? unknown_kind(request->path) : status;
}

/* The folder of a run is described by its newest checkpoint; any other folder is data. */
static enum voco_status describe_folder(json_t *report, const struct info_request *request)
{
    char path[checkpoint_path_size];
    (void)snprintf(path, sizeof path, "%s", request->path);
    while (strlen(path) > 1 && path[strlen(path) - 1] == '/') {
        path[strlen(path) - 1] = '\0';
    }
    if (is_cached_volume_name(path)) {
        return describe_cached(report, request);
    }
    enum voco_status status = checkpoint_newest(path, request->path);
    if (status == VOCO_OK && path[0] == '\0') {
        return describe_data(report, request);
    }
    if (status == VOCO_OK) {
        const struct info_request newest = {path, request->all_tensors};
        add(report, "newest_checkpoint", json_string(path));
        status = describe_tensor_file(report, &newest);
    }
    return status;
}

/* ---- the machine ---- */

static enum voco_status describe_gpus(json_t *report, const struct info_request *request)
{
    (void)request;
    const char *why = "";
    const int count = gpu_count(&why);
    json_t *list = json_array();
    enum voco_status status = VOCO_OK;
    for (int i = 0; i < count && status == VOCO_OK; i++) {
        struct gpu gpu;
        char capability[16], memory[byte_size_room], free_memory[byte_size_room];
        status = gpu_describe(&gpu, i);
        (void)snprintf(capability, sizeof capability, "%d.%d", gpu.major, gpu.minor);
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s, s:s}", "name", gpu.name,
                                                    "compute_capability", capability, "multiprocessors",
                                                    gpu.multiprocessors, "memory",
                                                    format_byte_size(memory, (double)gpu.memory), "free",
                                                    format_byte_size(free_memory, (double)gpu.free_memory)));
    }
    add(report, "gpus", list);
    if (count == 0) {
        add(report, "because", json_string(why));
    }
    return status;
}

/* ---- which kind it is ---- */

/* By what a file begins with, where its name does not say. */
static describer kind_of_content(const unsigned char *begin, size_t size)
{
    static const unsigned char nifti_sizes[4][4] = {
        {92, 1, 0, 0}, {0, 0, 1, 92}, {28, 2, 0, 0}, {0, 0, 2, 28}};
    for (int i = 0; i < 4 && size >= 348; i++) { /* sizeof_hdr 348 or 540 in either byte order */
        if (memcmp(begin, nifti_sizes[i], 4) == 0) {
            return describe_nifti;
        }
    }
    if (size >= 2 && begin[0] == 0x1f && begin[1] == 0x8b) {
        return describe_nifti;
    }
    if (size >= 4 && memcmp(begin, "PK\3\4", 4) == 0) {
        return describe_tensor_file;
    }
    if (size >= 10 && begin[8] == '{' && memchr(begin, '\0', 8) != NULL) {
        return describe_tensor_file;
    }
    return size > 0 && memchr(begin, '\0', size) == NULL ? describe_text : NULL;
}

/* NULL, with the thread's message, where the file is of no kind. */
static describer find_kind(const char *path)
{
    static const struct {
        const char *ending;
        describer kind;
    } endings[] = {
        {".nii", describe_nifti},
        {".nii.gz", describe_nifti},
        {".hdr", describe_nifti},
        {".img", describe_nifti},
        {".safetensors", describe_tensor_file},
        {".pt", describe_tensor_file},
        {".pth", describe_tensor_file},
        {".yaml", describe_yaml},
        {".yml", describe_yaml},
        {".json", describe_data},
        {".txt", describe_data},
    };
    struct stat info;
    if (stat(path, &info) != 0) {
        (void)fail_errno("%s: cannot open", path);
        for (int i = 0; recipe_builtin_name(i) != NULL; i++) {
            if (strcmp(path, recipe_builtin_name(i)) == 0) {
                return describe_recipe;
            }
        }
        return NULL;
    }
    if (S_ISDIR(info.st_mode)) {
        return describe_folder;
    }
    if (!S_ISREG(info.st_mode)) {
        (void)fail(VOCO_BAD_INPUT, "%s: neither a file nor a folder", path);
        return NULL;
    }
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        if (ends_with(path, endings[i].ending)) {
            return endings[i].kind;
        }
    }
    unsigned char begin[4096];
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) {
        (void)fail_errno("%s: cannot open", path);
        return NULL;
    }
    const size_t size = fread(begin, 1, sizeof begin, stream);
    (void)fclose(stream);
    const describer kind = kind_of_content(begin, size);
    if (kind == NULL) {
        (void)unknown_kind(path);
    }
    return kind;
}

/* What is known before a failure is shown, unless that is the file's name alone. */
static enum voco_status show(const char *path, const struct info_request *request, int as_json,
                             describer kind)
{
    json_t *report = json_object();
    if (path != NULL) {
        add(report, "file", json_string(path));
    }
    const enum voco_status status = kind(report, request);
    if (json_object_size(report) > (path != NULL)) {
        if (as_json) {
            json_report_dump(stdout, report);
        } else {
            json_report_show(stdout, report);
        }
    }
    json_decref(report);
    return status;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    int as_json = 0, devices = 0;
    struct info_request request = {0};
    const struct option_description options[] = {
        {"json", OPTION_FLAG, &as_json, NULL, "for scripts: one JSON object", 0, 0},
        {"devices", OPTION_FLAG, &devices, NULL, "the GPUs that --device cuda could use; without FILE", 0, 0},
        {"tensors", OPTION_FLAG, &request.all_tensors, NULL, "list every tensor of a checkpoint", 0, 0},
        {0},
    };
    int exit_status = exit_ok;
    if (command_line_parse(verb, options, argc, argv, &request.path, 0, 1, &exit_status) < 0) {
        return exit_status;
    }
    if (!devices && request.path == NULL) {
        (void)report_failure(verb, fail(VOCO_BAD_INPUT, "name a file (see voco info --help)"));
        return exit_usage;
    }
    if (devices) {
        return report_failure(verb, show(NULL, &request, as_json, describe_gpus));
    }
    const describer kind = find_kind(request.path);
    if (kind == NULL) {
        return report_failure(verb, VOCO_BAD_INPUT);
    }
    return report_failure(verb, show(request.path, &request, as_json, kind));
}

const struct verb verb_info = {
    .name = "info",
    .arguments = "FILE | --devices [options]",
    .summary =
        "what is in a volume, a cache, a checkpoint, a run, a recipe or a data list; which GPUs there are",
    .details =
        "FILE is a NIfTI or prepared volume, a cache, a checkpoint or another file of tensors "
        "(safetensors or .pt, by\n"
        "whomever), the folder of a run, a recipe or the name of one, or a data list or folder. Which it "
        "is, is told by its\n"
        "name and content.\n",
    .examples = "  voco info scan.nii.gz\n"
                "  voco info run/checkpoint-00000240.safetensors --tensors\n"
                "  voco info VoCo_B_SSL_head.pt\n"
                "  voco info run --json\n"
                "  voco info base\n"
                "  voco info --devices\n",
    .run = run,
};
