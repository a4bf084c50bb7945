#include "info_kinds.h"

#include "base/error.h"
#include "store/volume_cache.h"
#include "volume/nifti.h"

#include <stdlib.h>

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
enum voco_status describe_nifti(json_t *report, const struct info_request *request)
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
    if (info.volumes > 1) { /* such as the feature maps of voco encode */
        add(report, "volumes", json_integer(info.volumes));
    }
    add(report, "spacing_mm", numbers(info.spacing, 3));
    add(report, "extent_mm", numbers(extent, 3));
    add(report, "orientation", json_string(info.orientation));
    add(report, "affine_from", json_string(info.affine_source));
    add_affine(report, (const double(*)[4])info.affine);
    add(report, "slope", json_real(info.slope));
    add(report, "intercept", json_real(info.inter));
    return info.volumes > 1 ? VOCO_OK : describe_voxels(report, request->path);
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

enum voco_status describe_cached(json_t *report, const struct info_request *request)
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
