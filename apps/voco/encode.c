/* voco encode: embeddings of volumes, or the feature maps before they are pooled. */
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "command_line.h"
#include "data/dataset.h"
#include "encode/embedding_file.h"
#include "encode/sliding_crops.h"
#include "encode/source_volume.h"
#include "json_report.h"
#include "volume/nifti.h"

#include <stdlib.h>
#include <string.h>

struct request {
    const char *checkpoint;
    const char *const *files; /* (file_count): volumes, folders, lists */
    int file_count;
    const char *out;
    struct pretrained_encoder_settings encoder;
    const char *preset; /* NULL: as training had it */
    int level;          /* -1: all */
    int stride;         /* 0: R / 2 */
    int raw;
    int dense;
    int mean;
    int json;
};

/* The work under way. */
struct job {
    const struct request *request;
    struct pretrained_encoder encoder;
    struct preset preset;        /* of volumes whose list does not say it */
    struct dataset *data;        /* (request->file_count) */
    size_t total;                /* volumes listed */
    size_t done;                 /* of them, embedded or skipped */
    const char *name;            /* of the volume under way */
    struct embedding_file *file; /* NULL: feature maps */
    json_t *volumes, *skipped;
};

/* ---- what can be wrong with a request; all is the command line's ---- */

static int is_nifti_name(const char *path)
{
    const size_t length = strlen(path);
    return (length > 4 && strcmp(path + length - 4, ".nii") == 0) ||
           (length > 7 && strcmp(path + length - 7, ".nii.gz") == 0);
}

static enum voco_status check_request(const struct request *r)
{
    struct preset preset;
    enum patch_merging order;
    enum compute_precision precision;
    if (r->out == NULL) {
        return fail(VOCO_BAD_INPUT, "--out is missing: F.safetensors, F.npy or F.csv; with --dense F.nii.gz "
                                    "or a folder");
    }
    if (r->dense && r->level < 0) {
        return fail(VOCO_BAD_INPUT, "--dense needs --level: 0 (every voxel) to 4 (one token for 32 voxels)");
    }
    if (r->dense && r->mean) {
        return fail(VOCO_BAD_INPUT, "--dense writes feature maps, which have no --mean");
    }
    if (!r->dense && !is_embedding_file_name(r->out)) {
        return fail(VOCO_BAD_INPUT, "--out must end in .safetensors, .npy or .csv, not \"%s\"%s", r->out,
                    is_nifti_name(r->out) ? "; feature maps are written with --dense" : "");
    }
    if (r->dense && is_embedding_file_name(r->out)) {
        return fail(VOCO_BAD_INPUT, "--dense writes NIfTI: --out is F.nii.gz or a folder, not \"%s\"",
                    r->out);
    }
    if (r->raw && (r->preset != NULL || r->stride > 0)) {
        return fail(VOCO_BAD_INPUT, "--raw takes a file's voxels as they are, in one piece: without %s",
                    r->preset != NULL ? "--preset" : "--stride");
    }
    enum voco_status status = r->preset != NULL ? preset_from_name(&preset, r->preset) : VOCO_OK;
    if (status == VOCO_OK && r->encoder.patch_merging != NULL) {
        status = patch_merging_from_name(&order, r->encoder.patch_merging);
    }
    if (status == VOCO_OK && r->encoder.precision != NULL) {
        status = compute_precision_from_name(&precision, r->encoder.precision);
    }
    return status;
}

/* ---- names of feature maps ---- */

/* The name without folders of a file that the command line names; else the name, which is relative to its
 * folder or list. */
static const char *short_name(const struct request *request, const char *name)
{
    for (int f = 0; f < request->file_count; f++) {
        if (strcmp(name, request->files[f]) == 0) {
            return strrchr(name, '/') != NULL ? strrchr(name, '/') + 1 : name;
        }
    }
    return name;
}

/* OUT, or OUT/NAME.nii.gz with the folders in the volume's name as part of it. To be freed. */
static char *map_path(const struct job *job, const char *volume)
{
    const char *out = job->request->out;
    const char *name = short_name(job->request, volume);
    char *path = NULL;
    size_t length = strlen(name);
    if (is_nifti_name(out)) {
        return strdup(out);
    }
    length -= length > 7 && strcmp(name + length - 7, ".nii.gz") == 0 ? 7
              : length > 4 && strcmp(name + length - 4, ".nii") == 0  ? 4
                                                                      : 0;
    while (*name == '/') {
        name++;
        length--;
    }
    if (asprintf(&path, "%s/%.*s.nii.gz", out, (int)length, name) < 0) {
        return NULL;
    }
    for (char *p = path + strlen(out) + 1; *p != '\0'; p++) {
        *p = *p == '/' ? '_' : *p;
    }
    return path;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Each map must have a file of its own. */
static enum voco_status check_map_paths(const struct job *job)
{
    char **paths = calloc(job->total, sizeof *paths);
    enum voco_status status = VOCO_OK;
    size_t count = 0;
    if (paths == NULL) {
        return fail(VOCO_NO_MEMORY, "out of memory");
    }
    for (int f = 0; f < job->request->file_count && status == VOCO_OK; f++) {
        for (size_t i = 0; i < job->data[f].count && status == VOCO_OK; i++) {
            char *path = map_path(job, job->data[f].entries[i].name);
            if (path != NULL) {
                paths[count++] = path;
            } else {
                status = fail(VOCO_NO_MEMORY, "out of memory");
            }
        }
    }
    if (status == VOCO_OK) {
        qsort(paths, count, sizeof *paths, by_text);
    }
    for (size_t i = 1; i < count && status == VOCO_OK; i++) {
        if (strcmp(paths[i - 1], paths[i]) == 0) {
            status = is_nifti_name(job->request->out)
                         ? fail(VOCO_BAD_INPUT,
                                "%zu volumes, and one file for their feature maps: --out must "
                                "be a folder, not %s",
                                job->total, job->request->out)
                         : fail(VOCO_BAD_INPUT, "the feature maps of two volumes would both be %s", paths[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        free(paths[i]);
    }
    free(paths);
    return status == VOCO_OK && !is_nifti_name(job->request->out) ? make_folders(job->request->out) : status;
}

/* ---- one volume ---- */

static void say_progress(size_t done, size_t total, void *context)
{
    const struct job *job = context;
    log_line(LOG_PROGRESS, "volume %zu/%zu, crop %zu/%zu  %s", job->done + 1, job->total, done, total,
             job->name);
}

static json_t *size_report(const int size[3])
{
    return json_pack("[i, i, i]", size[0], size[1], size[2]);
}

static void add_volume(struct job *job, const struct volume *volume, json_t *members)
{
    json_t *report = json_pack("{s:s, s:o}", "name", job->name, "size", size_report(volume->size));
    (void)json_object_update(report, members);
    json_decref(members);
    (void)json_array_append_new(job->volumes, report);
}

/* *writing is set where it is the writing that fails. */
static enum voco_status encode_volume(struct job *job, const struct volume *volume,
                                      const struct embedding_choice *choice, int *writing)
{
    struct volume_embedding embedding = {0};
    enum voco_status status = embed_volume(&embedding, &job->encoder, volume, choice, say_progress, job);
    if (status == VOCO_OK) {
        const size_t row = embedding_file_rows(job->file);
        *writing = 1;
        status = embedding_file_add(job->file, job->name, &embedding);
        add_volume(job, volume,
                   json_pack("{s:I, s:I, s:I}", "crops", (json_int_t)embedding.count, "first_row",
                             (json_int_t)row, "rows", (json_int_t)(embedding_file_rows(job->file) - row)));
    }
    volume_embedding_free(&embedding);
    return status;
}

static enum voco_status map_volume(struct job *job, const struct volume *volume,
                                   const struct embedding_choice *choice, int *writing)
{
    struct feature_map map = {0};
    char *path = map_path(job, job->name);
    enum voco_status status = path == NULL
                                  ? fail(VOCO_NO_MEMORY, "out of memory")
                                  : map_features(&map, &job->encoder, volume, choice, say_progress, job);
    if (status == VOCO_OK) {
        *writing = 1;
        status = nifti_write_channels(path, map.size, map.channels, (const double(*)[4])map.affine,
                                      NIFTI_FLOAT32, map.data);
        add_volume(job, volume,
                   json_pack("{s:s, s:o, s:i}", "map", path, "map_size", size_report(map.size), "channels",
                             map.channels));
    }
    feature_map_free(&map);
    free(path);
    return status;
}

/* Sizes and memory, before anything is computed. */
static enum voco_status check_volume(const struct job *job, const struct volume *volume)
{
    const struct request *request = job->request;
    const int roi = job->encoder.model.config.roi;
    const int crop[3] = {roi, roi, roi};
    const double beside = request->dense ? feature_map_bytes(&job->encoder, request->level, volume->size) : 0;
    const enum voco_status status = request->raw ? encoder_box_check(volume->size) : VOCO_OK;
    return status != VOCO_OK
               ? add_context(status, "%s", job->name)
               : pretrained_encoder_check_memory(&job->encoder, job->name, request->raw ? volume->size : crop,
                                                 (uint64_t)beside);
}

static enum voco_status do_entry(struct job *job, const struct dataset *data,
                                 const struct dataset_entry *entry, int *writing)
{
    const struct request *request = job->request;
    const struct dataset_set *set = &data->sets[entry->set];
    const struct preset *own = request->preset == NULL && set->has_preset ? &set->preset : &job->preset;
    const struct preset *preset = request->raw ? NULL : own;
    const struct embedding_choice choice = {
        .whole = request->raw, .stride = request->stride, .level = request->level};
    const int roi = job->encoder.model.config.roi, none[3] = {0, 0, 0};
    struct volume volume = {0};
    enum voco_status status = pretrained_encoder_check_memory(&job->encoder, entry->path, none,
                                                              source_volume_memory(data, entry, preset, roi));
    job->name = entry->name;
    if (status == VOCO_OK) {
        status = source_volume_load(&volume, data, entry, preset, roi);
    }
    if (status == VOCO_OK) {
        status = check_volume(job, &volume);
    }
    if (status == VOCO_OK) {
        status = request->dense ? map_volume(job, &volume, &choice, writing)
                                : encode_volume(job, &volume, &choice, writing);
    }
    volume_free(&volume);
    return status;
}

/* All volumes; a bad one is listed and left out. */
static enum voco_status do_all(struct job *job)
{
    for (int f = 0; f < job->request->file_count; f++) {
        for (size_t i = 0; i < job->data[f].count; i++) {
            int writing = 0;
            const enum voco_status status = do_entry(job, &job->data[f], &job->data[f].entries[i], &writing);
            if (status != VOCO_OK && writing) {
                return status;
            }
            if (status != VOCO_OK) {
                (void)json_array_append_new(
                    job->skipped, json_pack("{s:s, s:s}", "name", job->name, "cause", voco_error_message()));
            }
            job->done++;
        }
    }
    return json_array_size(job->volumes) > 0
               ? VOCO_OK
               : fail(VOCO_BAD_INPUT, "none of %zu volumes can be used: %s", job->total,
                      json_string_value(json_object_get(json_array_get(job->skipped, 0), "cause")));
}

/* ---- all of it ---- */

static enum voco_status settle_preset(struct job *job)
{
    const struct request *request = job->request;
    const char *name = request->preset != NULL ? request->preset : job->encoder.recipe.preset;
    if (request->preset == NULL && !request->raw && !job->encoder.has_recipe) {
        log_line(LOG_WARNING, "%s does not say how its volumes were prepared: --preset %s is taken",
                 job->encoder.path, name);
    }
    return preset_from_name(&job->preset, name);
}

static enum voco_status open_data(struct job *job)
{
    job->data = calloc((size_t)job->request->file_count, sizeof *job->data);
    enum voco_status status = VOCO_OK;
    if (job->data == NULL) {
        return fail(VOCO_NO_MEMORY, "out of memory");
    }
    for (int f = 0; f < job->request->file_count && status == VOCO_OK; f++) {
        status = dataset_open(&job->data[f], job->request->files[f]);
        job->total += job->data[f].count;
        if (status == VOCO_OK && job->data[f].is_cache && job->request->raw) {
            status = fail(VOCO_BAD_INPUT, "%s: a cache holds prepared volumes, not files for --raw",
                          job->request->files[f]);
        }
    }
    return status;
}

static enum voco_status open_output(struct job *job)
{
    const struct request *request = job->request;
    const struct model_config *config = &job->encoder.model.config;
    const int stride = request->stride > 0 ? request->stride : config->roi / 2;
    const struct embedding_file_header header = {.checkpoint = job->encoder.path,
                                                 .preset = request->raw ? NULL : job->preset.name,
                                                 .level = request->level,
                                                 .roi = request->raw ? 0 : config->roi,
                                                 .stride = request->raw ? 0 : stride,
                                                 .step = job->encoder.step};
    if (request->dense) {
        return !request->raw && stride > config->roi
                   ? fail(VOCO_BAD_INPUT, "--stride %d leaves gaps between crops of %d voxels", stride,
                          config->roi)
                   : check_map_paths(job);
    }
    const int width = request->level >= 0 ? encoder_level_of(config, request->level).channels
                                          : model_embedding_size(config);
    return embedding_file_open(&job->file, request->out, (size_t)width, request->mean, &header);
}

static void print_result(const struct job *job, size_t rows)
{
    const struct request *request = job->request;
    const size_t count = json_array_size(job->volumes), skipped = json_array_size(job->skipped);
    if (request->json) {
        json_t *report = json_pack("{s:s, s:s, s:I, s:I, s:O, s:O}", "out", request->out, "checkpoint",
                                   job->encoder.path, "step", (json_int_t)job->encoder.step, "rows",
                                   (json_int_t)rows, "volumes", job->volumes, "skipped", job->skipped);
        json_report_dump(stdout, report);
        json_decref(report);
    } else if (request->dense) {
        printf("%zu feature map%s: %s\n", count, count == 1 ? "" : "s", request->out);
    } else {
        printf("%zu row%s of %zu volume%s: %s\n", rows, rows == 1 ? "" : "s", count, count == 1 ? "" : "s",
               request->out);
    }
    if (skipped > 0) {
        log_line(LOG_WARNING, "%zu of %zu volumes were left out:", skipped, job->total);
    }
    for (size_t i = 0; i < skipped; i++) {
        log_line(LOG_WARNING, "  %s",
                 json_string_value(json_object_get(json_array_get(job->skipped, i), "cause")));
    }
}

static enum voco_status encode(const struct request *request)
{
    struct job job = {.request = request, .volumes = json_array(), .skipped = json_array()};
    size_t rows = 0;
    enum voco_status status = open_data(&job);
    if (status == VOCO_OK) {
        status = pretrained_encoder_open(&job.encoder, request->checkpoint, &request->encoder);
    }
    if (status == VOCO_OK) {
        status = settle_preset(&job);
    }
    if (status == VOCO_OK) {
        status = open_output(&job);
    }
    if (status == VOCO_OK) {
        status = do_all(&job);
    }
    if (status == VOCO_OK && job.file != NULL) {
        rows = embedding_file_rows(job.file);
        status = embedding_file_commit(job.file);
        job.file = NULL;
    }
    if (status == VOCO_OK) {
        print_result(&job, rows);
    }
    embedding_file_discard(job.file);
    pretrained_encoder_close(&job.encoder);
    for (int f = 0; job.data != NULL && f < request->file_count; f++) {
        dataset_free(&job.data[f]);
    }
    free(job.data);
    json_decref(job.volumes);
    json_decref(job.skipped);
    return status;
}

static int run_request(const struct verb *verb, int argc, char **argv, const char **positional)
{
    struct request request = {.level = -1};
    const struct option_description descriptions[] = {
        {"out", OPTION_TEXT, &request.out, "FILE",
         "F.safetensors, F.npy or F.csv; with --dense F.nii.gz or a folder", 0, 0},
        {"stride", OPTION_INT, &request.stride, "N", "voxels from crop to crop; R/2 where not given", 1,
         4096},
        {"level", OPTION_INT, &request.level, "0|1|2|3|4",
         "one of the five pooled levels (encoder1, 2, 3, 4, 10) instead of all", 0, 4},
        {"mean", OPTION_FLAG, &request.mean, NULL, "one row a volume, the mean of its crops", 0, 0},
        {"raw", OPTION_FLAG, &request.raw, NULL,
         "each file is one crop, its voxels as they are; axes are multiples of 16, from 48 on", 0, 0},
        {"dense", OPTION_FLAG, &request.dense, NULL, "the feature map of --level L, a 4D NIfTI", 0, 0},
        {"preset", OPTION_TEXT, &request.preset, "abdomen|chest|headneck|mr",
         "how volumes are prepared; as in training where not given", 0, 0},
        {"patch-merging", OPTION_TEXT, &request.encoder.patch_merging, "legacy|fixed|v2",
         "of weights that do not say it; legacy where not given", 0, 0},
        {"memory", OPTION_BYTES, &request.encoder.memory, "SIZE",
         "the most that the program takes, such as 16G; what does not fit is left out", 1, 1e15},
        {"threads", OPTION_INT, &request.encoder.threads, "N", "all cores where not given", 1, 4096},
        {"device", OPTION_TEXT, &request.encoder.compute, "cpu|cuda", "where to compute; cuda: an NVIDIA GPU",
         0, 0},
        {"compute", OPTION_TEXT, &request.encoder.compute, "cpu|cuda|reference",
         "the same; reference is plain and slow, for comparison", 0, 0},
        {"precision", OPTION_TEXT, &request.encoder.precision, "float32|bf16|tf32", "float32 where not given",
         0, 0},
        {"json", OPTION_FLAG, &request.json, NULL,
         "what was done as JSON: volumes, their rows, what was left out", 0, 0},
        {0},
    };
    int exit_status = exit_ok;
    const int count = command_line_parse(verb, descriptions, argc, argv, positional, 2, argc, &exit_status);
    if (count < 0) {
        return exit_status;
    }
    request.checkpoint = positional[0];
    request.files = positional + 1;
    request.file_count = count - 1;
    const enum voco_status status = check_request(&request);
    if (status != VOCO_OK) {
        (void)report_failure(verb, status);
        return exit_usage;
    }
    return report_failure(verb, encode(&request));
}

static int run(const struct verb *verb, int argc, char **argv)
{
    const char **positional = calloc((size_t)argc + 1, sizeof *positional);
    if (positional == NULL) {
        return report_failure(verb, fail(VOCO_NO_MEMORY, "out of memory"));
    }
    const int exit_status = run_request(verb, argc, argv, positional);
    free(positional);
    return exit_status;
}

const struct verb verb_encode = {
    .name = "encode",
    .arguments = "CKPT|RUN FILES --out FILE [options]",
    .summary = "embeddings of volumes, or feature maps, of a pre-trained encoder",
    .details =
        "CKPT is a checkpoint, the folder of a run, or an encoder in safetensors or .pt under any of the "
        "names "
        "that voco convert\n"
        "knows: voco's, MONAI's, the published ones. FILES are volumes, folders, data lists or a cache, as "
        "for "
        "voco pretrain.\n\n"
        "Each volume is prepared as in training, and crops of R voxels an axis slide over it, N voxels "
        "apart, "
        "the last of each\n"
        "axis ending with the volume. A row is the embedding of a crop: the averages of five levels of the "
        "encoder over the\n"
        "crop, C + C + 2C + 4C + 16C values. With it goes the crop's place: its first voxel in the prepared "
        "volume, and its\n"
        "centre in mm (RAS), as a viewer shows it in the file. safetensors holds the volumes' means as well. "
        "What each format\n"
        "holds: docs/formats.md.\n\n"
        "--dense writes what a level has before averaging: one value a channel for every voxel (level 0), or "
        "for "
        "each 2, 4, 8\n"
        "or 32 voxels an axis (1 to 4), as a 4D NIfTI in the place of the volume. Where crops overlap, the "
        "mean "
        "of theirs; a\n"
        "stride is rounded down to whole tokens. With --raw it is of the whole file in one pass.\n\n"
        "A bad volume is left out and listed at the end.\n",
    .examples = "  voco encode run ct-folder --out embeddings.safetensors\n"
                "  voco encode run case1.nii.gz case2.nii.gz --out table.csv --mean\n"
                "  voco encode VoCo_B_SSL_head.pt crops/ --raw --out crops.npy\n"
                "  voco encode run case.nii.gz --dense --level 2 --out features.nii.gz\n",
    .run = run,
};
