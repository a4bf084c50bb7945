#include "store/volume_cache.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/folder.h"
#include "store/json_fields.h"
#include "store/temporary_folder.h"
#include "store/zarr_metadata.h"
#include "volume/resample.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file's name is on disk only once its folders are: those from `path`, which is cut short, up to below
 * `top`. */
static enum voco_status sync_up_to(char *path, const char *top)
{
    enum voco_status status = VOCO_OK;
    while (status == VOCO_OK && strlen(path) > strlen(top)) {
        status = sync_folder(path);
        *strrchr(path, '/') = '\0';
    }
    return status;
}

/* FOLDER/NAME with its metadata and its shard. */
static enum voco_status write_array(uint64_t *bytes, const char *folder, const char *name,
                                    const struct prepared_volume *volume,
                                    const struct cache_settings *settings, int threads)
{
    enum voco_status status = VOCO_NO_MEMORY;
    char *parts = NULL;
    char *metadata_path = NULL;
    char *shard_path = NULL;
    json_t *metadata = zarr_array_metadata(volume->size, settings->levels, settings->level);
    if (asprintf(&parts, "%s/%s/c/0/0", folder, name) < 0) {
        parts = NULL;
    }
    if (asprintf(&metadata_path, "%s/%s/zarr.json", folder, name) < 0) {
        metadata_path = NULL;
    }
    if (asprintf(&shard_path, "%s/%s/c/0/0/0", folder, name) < 0) {
        shard_path = NULL;
    }
    uint64_t shard_bytes = 0;
    if (metadata == NULL || parts == NULL || metadata_path == NULL || shard_path == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    } else {
        status = make_folders(parts);
    }
    if (status == VOCO_OK) {
        status = json_object_write(metadata_path, metadata);
    }
    if (status == VOCO_OK) {
        status = shard_write(&shard_bytes, shard_path, volume, settings->levels, settings->level, threads);
    }
    if (status == VOCO_OK) {
        status = sync_up_to(parts, folder);
    }
    *bytes += shard_bytes;
    json_decref(metadata);
    free(parts);
    free(metadata_path);
    free(shard_path);
    return status;
}

/* What is prepared of a source. */
struct made {
    struct prepared_volume volume;
    struct prepared_volume window; /* of size 0 where none is kept */
};

static enum voco_status resize_to_window(struct prepared_volume *window, const struct volume *volume,
                                         const int size[3])
{
    struct volume resized = {.size = {size[0], size[1], size[2]}};
    resized.data = malloc(volume_count(&resized) * sizeof *resized.data);
    if (resized.data == NULL) {
        return fail(VOCO_NO_MEMORY, "%zu voxels do not fit in memory", volume_count(&resized));
    }
    const enum voco_status status = resize_trilinear(resized.data, size, volume->data, volume->size);
    *window = prepared_volume_of(&resized);
    window->storage = resized.data;
    return status;
}

/* A volume that is cropped is quantised at once; one that is resized is resized as floats first. */
static enum voco_status make(struct made *made, const char *source, const struct cache_settings *settings,
                             int threads)
{
    const int *window = settings->window;
    *made = (struct made){0};
    if (settings->preset.window == WINDOW_CROP) {
        return prepare_quantised(&made->volume, source, &settings->preset, window, settings->levels, threads);
    }
    const int crop[3] = {window[2], window[2], window[2]};
    struct volume volume;
    enum voco_status status = prepare_volume(&volume, source, &settings->preset, crop);
    if (status != VOCO_OK) {
        return status;
    }
    made->volume = prepared_volume_of(&volume);
    made->volume.storage = volume.data;
    status = resize_to_window(&made->window, &volume, window);
    return status == VOCO_OK ? VOCO_OK : add_context(status, "%s", source);
}

static struct volume_attributes attributes_of(const struct cache_entry *entry,
                                              const struct cache_request *request,
                                              const struct prepared_volume *volume,
                                              const struct prepared_volume *window)
{
    struct volume_attributes attributes = {.key = entry->key,
                                           .source = entry->source,
                                           .preset = request->settings->preset,
                                           .levels = request->settings->levels,
                                           .name = (char *)request->name,
                                           .set = (char *)request->set,
                                           .repeat = request->repeat};
    memcpy(attributes.size, volume->size, sizeof attributes.size);
    memcpy(attributes.spacing, volume->spacing, sizeof attributes.spacing);
    memcpy(attributes.affine, volume->affine, sizeof attributes.affine);
    if (window != NULL) {
        memcpy(attributes.window, window->size, sizeof attributes.window);
    }
    (void)snprintf(attributes.split, sizeof attributes.split, "%s", request->split);
    return attributes;
}

enum voco_status cache_entry_store(uint64_t *bytes, const struct cache_entry *entry,
                                   const struct cache_request *request, const struct prepared_volume *volume,
                                   const struct prepared_volume *window, int threads)
{
    *bytes = 0;
    char *folder = strdup(entry->path);
    char *temporary = folder != NULL ? temporary_folder_path(dirname(folder), entry->key) : NULL;
    free(folder);
    if (temporary == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", entry->path);
    }
    const struct volume_attributes attributes = attributes_of(entry, request, volume, window);
    enum voco_status status = write_array(bytes, temporary, "0", volume, request->settings, threads);
    if (status == VOCO_OK && window != NULL) {
        status = write_array(bytes, temporary, "window", window, request->settings, threads);
    }
    if (status == VOCO_OK) {
        status = volume_attributes_write(temporary, &attributes);
    }
    if (status == VOCO_OK) {
        status = replace_folder(temporary, entry->path);
    }
    if (status != VOCO_OK) {
        char *message = strdup(voco_error_message()); /* removing must not hide the cause */
        (void)remove_folder(temporary);
        status = message != NULL ? fail(status, "%s", message) : status;
        free(message);
    }
    free(temporary);
    return status;
}

enum voco_status cache_entry_make(uint64_t *bytes, int *storing, const struct cache_entry *entry,
                                  const struct cache_request *request, int threads)
{
    *bytes = 0;
    *storing = 0;
    struct made made;
    enum voco_status status = make(&made, request->source, request->settings, threads);
    if (status == VOCO_OK) {
        *storing = 1;
        status = cache_entry_store(bytes, entry, request, &made.volume,
                                   made.window.size[0] > 0 ? &made.window : NULL, threads);
    }
    prepared_volume_free(&made.volume);
    prepared_volume_free(&made.window);
    return status;
}
