/* voco info: what is in a file. Each kind of file is described as a JSON object, which is shown or dumped. */
#include "base/error.h"
#include "command_line.h"
#include "data/dataset.h"
#include "json_report.h"
#include "store/volume_cache.h"
#include "train/checkpoint.h"
#include "volume/nifti.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct request {
    const char *path;
    int all_tensors; /* list them, of a checkpoint too */
};

static int ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name);
    const size_t tail = strlen(ending);
    return length >= tail && strcasecmp(name + length - tail, ending) == 0;
}

static json_t *numbers(const double *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

static json_t *whole_numbers(const int *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_integer(values[i]));
    }
    return list;
}

static void add(json_t *report, const char *key, json_t *value)
{
    (void)json_object_set_new(report, key, value);
}

static void add_affine(json_t *report, const double affine[3][4])
{
    json_t *rows = json_array();
    for (int i = 0; i < 3; i++) {
        (void)json_array_append_new(rows, numbers(affine[i], 4));
    }
    add(report, "affine_mm", rows);
}

/* ---- volumes ---- */

static enum voco_status describe_voxels(json_t *report, const char *path)
{
    struct volume volume = {0};
    const enum voco_status status = nifti_read(&volume, path);
    if (status != VOCO_OK) {
        return status;
    }
    const size_t count = volume_count(&volume);
    double range[2] = {(double)volume.data[0], (double)volume.data[0]};
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double value = (double)volume.data[i];
        range[0] = value < range[0] ? value : range[0];
        range[1] = value > range[1] ? value : range[1];
        sum += value;
    }
    add(report, "range", numbers(range, 2));
    add(report, "mean", json_real(sum / (double)count));
    volume_free(&volume);
    return VOCO_OK;
}

/* What the header says is told even where the voxels cannot be read. */
static enum voco_status describe_nifti(json_t *report, const struct request *request)
{
    struct nifti_info info;
    const enum voco_status status = nifti_read_info(&info, request->path);
    if (status != VOCO_OK) {
        return status;
    }
    double extent[3];
    for (int axis = 0; axis < 3; axis++) {
        extent[axis] = info.size[axis] * info.spacing[axis];
    }
    add(report, "kind", json_string("volume"));
    add(report, "format", json_string(info.version == 2 ? "NIfTI-2" : "NIfTI-1"));
    add(report, "type", json_string(info.type));
    add(report, "byte_order", json_string(info.big_endian ? "big" : "little"));
    add(report, "size", whole_numbers(info.size, 3));
    add(report, "spacing_mm", numbers(info.spacing, 3));
    add(report, "extent_mm", numbers(extent, 3));
    add(report, "orientation", json_string(info.orientation));
    add(report, "affine_from", json_string(info.affine_source));
    add_affine(report, (const double(*)[4])info.affine);
    add(report, "slope", json_real(info.slope));
    add(report, "intercept", json_real(info.inter));
    return describe_voxels(report, request->path);
}

/* ---- the cache ---- */

static json_t *preset_report(const struct preset *preset)
{
    json_t *report = json_pack("{s:s, s:o}", "name", preset->name, "spacing_mm", numbers(preset->spacing, 3));
    if (preset->intensity == INTENSITY_WINDOW) {
        const double window[2] = {preset->low, preset->high};
        add(report, "window_hu", numbers(window, 2));
    } else {
        add(report, "intensity", json_string("0.5 to 99.5 percentile of the foreground"));
    }
    add(report, "window_taken_by", json_string(preset->window == WINDOW_RESIZE ? "resize" : "crop"));
    return report;
}

/* What an array takes on disk, and for how many voxels; nothing where it cannot be opened. */
static void add_array(json_t *report, const char *key, const char *path, enum window_kind window)
{
    struct shard shard;
    char *array = cached_array_path(path, window);
    if (array != NULL && cached_array_open(&shard, array) == VOCO_OK) {
        const double voxels = (double)shard.size[0] * shard.size[1] * shard.size[2];
        size_t stored = 0;
        for (size_t i = 0; i < shard_chunk_count(shard.size); i++) {
            stored += shard.chunks[i].bytes > 0;
        }
        add(report, key,
            json_pack("{s:o, s:I, s:I, s:I, s:f}", "size", whole_numbers(shard.size, 3), "bytes",
                      (json_int_t)shard.bytes, "chunks", (json_int_t)shard_chunk_count(shard.size),
                      "not_empty", (json_int_t)stored, "times_smaller_than_float32",
                      4.0 * voxels / (double)shard.bytes));
        shard_close(&shard);
    }
    free(array);
}

static enum voco_status describe_cached(json_t *report, const struct request *request)
{
    struct volume_attributes attributes;
    const enum voco_status status = volume_attributes_read(&attributes, request->path);
    if (status != VOCO_OK) {
        return status;
    }
    add(report, "kind", json_string("prepared volume"));
    add(report, "source", json_string(attributes.source));
    add(report, "listed_as",
        json_pack("{s:s, s:s, s:s, s:i}", "name", attributes.name, "set", attributes.set, "split",
                  attributes.split, "repeat", attributes.repeat));
    add(report, "preset", preset_report(&attributes.preset));
    add(report, "bits", json_integer(bits_of_levels(attributes.levels)));
    add(report, "size", whole_numbers(attributes.size, 3));
    add(report, "spacing_mm", numbers(attributes.spacing, 3));
    add_affine(report, (const double(*)[4])attributes.affine);
    add_array(report, "array_0", request->path, WINDOW_CROP);
    if (attributes.window[0] > 0) {
        add_array(report, "array_window", request->path, WINDOW_RESIZE);
    }
    volume_attributes_free(&attributes);
    return cached_volume_verify(request->path);
}

/* ---- safetensors ---- */

static json_t *tensor_list(const struct safetensors *file)
{
    json_t *list = json_array();
    for (size_t i = 0; i < file->count; i++) {
        const struct safetensors_tensor *tensor = &file->tensors[i];
        json_t *shape = json_array();
        for (int axis = 0; axis < tensor->rank; axis++) {
            (void)json_array_append_new(shape, json_integer(tensor->shape[axis]));
        }
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", tensor->name, "dtype",
                                                    safetensors_type_name(tensor->type), "shape", shape));
    }
    return list;
}

static long long elements_below(const struct safetensors *file, const char *prefix)
{
    long long elements = 0;
    for (size_t i = 0; i < file->count; i++) {
        if (strncmp(file->tensors[i].name, prefix, strlen(prefix)) == 0 &&
            !is_relative_position_index(file->tensors[i].name)) {
            elements += (long long)file->tensors[i].count;
        }
    }
    return elements;
}

static void describe_checkpoint(json_t *report, const struct checkpoint *checkpoint)
{
    static const struct {
        const char *key;
        const char *prefix;
    } groups[] = {{"backbone", "backbone."}, {"student", "student."}, {"teacher", "teacher."}};
    const struct model_config *config = &checkpoint->config;
    add(report, "kind", json_string(checkpoint->resumable ? "checkpoint" : "weights"));
    add(report, "bytes", json_integer((json_int_t)checkpoint->file.size));
    add(report, "model",
        json_pack("{s:i, s:i, s:i, s:s}", "feature_size", config->feature_size, "roi", config->roi,
                  "projector", config->projector, "patch_merging",
                  patch_merging_name(config->patch_merging)));
    json_t *parameters = json_object();
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        add(parameters, groups[i].key, json_integer(elements_below(&checkpoint->file, groups[i].prefix)));
    }
    add(report, "parameters", parameters);
    if (checkpoint->resumable) {
        add(report, "steps_done", json_integer(checkpoint->step));
        add(report, "updates", json_integer(checkpoint->optimizer_step));
        add(report, "written_by", json_sprintf("voco %s", checkpoint->version));
        add(report, "recipe", recipe_to_json(&checkpoint->recipe));
    }
}

static void describe_tensors(json_t *report, const struct safetensors *file)
{
    add(report, "kind", json_string("safetensors"));
    add(report, "bytes", json_integer((json_int_t)file->size));
    add(report, "elements", json_integer(elements_below(file, "")));
    json_t *metadata = json_object();
    for (size_t i = 0; i < file->metadata_count; i++) {
        add(metadata, file->metadata[i].key, json_string(file->metadata[i].value));
    }
    add(report, "metadata", metadata);
    add(report, "tensors", tensor_list(file));
}

static enum voco_status describe_safetensors(json_t *report, const struct request *request)
{
    struct safetensors file;
    enum voco_status status = safetensors_open(&file, request->path);
    if (status != VOCO_OK) {
        return status;
    }
    const char *format = safetensors_metadata(&file, "format");
    const int is_checkpoint = (format != NULL && strncmp(format, "voco-checkpoint", 15) == 0) ||
                              (safetensors_find(&file, "backbone.swinViT.patch_embed.proj.weight") != NULL &&
                               safetensors_metadata(&file, "feature_size") != NULL);
    if (is_checkpoint) {
        struct checkpoint checkpoint;
        status = checkpoint_open(&checkpoint, request->path);
        if (status == VOCO_OK) {
            describe_checkpoint(report, &checkpoint);
            if (request->all_tensors) {
                add(report, "tensors", tensor_list(&checkpoint.file));
            }
            checkpoint_close(&checkpoint);
        }
    } else {
        describe_tensors(report, &file);
    }
    safetensors_close(&file);
    return status;
}

/* ---- recipes, data, runs ---- */

static enum voco_status unknown_kind(const char *path)
{
    return fail(VOCO_BAD_INPUT, "%s: neither a volume, a checkpoint, a recipe nor a data list", path);
}

static enum voco_status describe_recipe(json_t *report, const struct request *request)
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

static enum voco_status describe_data(json_t *report, const struct request *request)
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
static enum voco_status describe_yaml(json_t *report, const struct request *request)
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
static enum voco_status describe_text(json_t *report, const struct request *request)
{
    const enum voco_status status = describe_data(report, request);
    return status == VOCO_BAD_INPUT ? unknown_kind(request->path) : status;
}

/* The folder of a run is described by its newest checkpoint; any other folder is data. */
static enum voco_status describe_folder(json_t *report, const struct request *request)
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
        const struct request newest = {path, request->all_tensors};
        add(report, "newest_checkpoint", json_string(path));
        status = describe_safetensors(report, &newest);
    }
    return status;
}

/* ---- which kind it is ---- */

typedef enum voco_status (*describer)(json_t *report, const struct request *request);

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
    if (size >= 10 && begin[8] == '{' && memchr(begin, '\0', 8) != NULL) {
        return describe_safetensors;
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
        {".safetensors", describe_safetensors},
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

static int run(const struct verb *verb, int argc, char **argv)
{
    int as_json = 0;
    struct request request = {0};
    const struct option_description options[] = {
        {"json", OPTION_FLAG, &as_json, NULL, "for scripts: one JSON object", 0, 0},
        {"tensors", OPTION_FLAG, &request.all_tensors, NULL, "list every tensor of a checkpoint", 0, 0},
        {0},
    };
    int exit_status = exit_ok;
    if (command_line_parse(verb, options, argc, argv, &request.path, 1, 1, &exit_status) < 0) {
        return exit_status;
    }
    const describer kind = find_kind(request.path);
    if (kind == NULL) {
        return report_failure(verb, VOCO_BAD_INPUT);
    }
    json_t *report = json_object();
    add(report, "file", json_string(request.path));
    const enum voco_status status = kind(report, &request);
    /* A failure before anything is known of the file leaves its name alone. */
    if (json_object_size(report) > 1) {
        if (as_json) {
            json_report_dump(stdout, report);
        } else {
            json_report_show(stdout, report);
        }
    }
    json_decref(report);
    return report_failure(verb, status);
}

const struct verb verb_info = {
    .name = "info",
    .arguments = "FILE [options]",
    .summary = "what is in a volume, a cache, a checkpoint, a run, a recipe or a data list",
    .details = "FILE is a NIfTI or prepared volume, a cache, a safetensors file such as a checkpoint, the "
               "folder of a "
               "run, a\n"
               "recipe or the name of one, or a data list or folder. Which it is, is told by its name and "
               "content.\n",
    .examples = "  voco info scan.nii.gz\n"
                "  voco info run/checkpoint-00000240.safetensors --tensors\n"
                "  voco info run --json\n"
                "  voco info base\n",
    .run = run,
};
