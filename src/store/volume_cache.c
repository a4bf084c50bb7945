#include "store/volume_cache.h"

#include "base/error.h"
#include "base/name_hash.h"
#include "store/json_fields.h"
#include "store/zarr_metadata.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char suffix[] = ".ome.zarr";

enum { format_version = 2 };

int levels_of_bits(int bits)
{
    return bits == 8 || bits == 12 || bits == 16 ? (1 << bits) - 1 : 0;
}

int bits_of_levels(int levels)
{
    int bits = 0;
    while (levels >> bits != 0) {
        bits++;
    }
    return bits;
}

int is_cached_volume_name(const char *name)
{
    const size_t length = strlen(name);
    const size_t ending = sizeof suffix - 1;
    return length > ending && strcmp(name + length - ending, suffix) == 0;
}

/* Each field by itself: a struct's padding is not defined. */
static uint64_t entry_key(const struct cache_settings *settings, const char *source, const struct stat *info)
{
    const struct preset *preset = &settings->preset;
    const int64_t facts[] = {format_version,
                             (int64_t)info->st_size,
                             (int64_t)info->st_mtim.tv_sec,
                             (int64_t)info->st_mtim.tv_nsec,
                             preset->intensity,
                             preset->window,
                             settings->levels,
                             settings->window[0],
                             settings->window[1],
                             settings->window[2]};
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add_text(&hash, source);
    name_hash_add(&hash, facts, sizeof facts);
    name_hash_add_text(&hash, preset->name);
    name_hash_add(&hash, preset->spacing, sizeof preset->spacing);
    name_hash_add(&hash, &preset->low, sizeof preset->low);
    name_hash_add(&hash, &preset->high, sizeof preset->high);
    return name_hash_value(&hash);
}

/* The file's name without .nii or .nii.gz, in characters that are safe everywhere, and not too long. */
static void readable_name(char *name, size_t room, const char *source)
{
    const char *slash = strrchr(source, '/');
    const char *base = slash != NULL ? slash + 1 : source;
    const char *extension = strstr(base, ".nii");
    const size_t length = extension != NULL && extension > base ? (size_t)(extension - base) : strlen(base);
    size_t i = 0;
    for (; i < length && i + 1 < room; i++) {
        const char c = base[i];
        const int safe =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
        name[i] = safe ? c : '_';
    }
    name[i] = '\0';
}

enum voco_status cache_entry_of(struct cache_entry *entry, const char *folder,
                                const struct cache_request *request)
{
    *entry = (struct cache_entry){0};
    enum voco_status status = VOCO_OK;
    struct stat info;
    entry->source = realpath(request->source, NULL);
    if (entry->source == NULL || stat(entry->source, &info) != 0) {
        status = fail_errno("%s: cannot open", request->source);
        goto failed;
    }
    entry->source_bytes = (uint64_t)info.st_size;
    entry->key = entry_key(request->settings, entry->source, &info);
    char name[80];
    readable_name(name, sizeof name, entry->source);
    if (asprintf(&entry->path, "%s/%s-%016llx%s", folder, name, (unsigned long long)entry->key, suffix) < 0) {
        entry->path = NULL;
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", request->source);
        goto failed;
    }
    return VOCO_OK;
failed:
    cache_entry_free(entry);
    return status;
}

void cache_entry_free(struct cache_entry *entry)
{
    free(entry->source);
    free(entry->path);
    *entry = (struct cache_entry){0};
}

char *cached_array_path(const char *path, enum window_kind window)
{
    char *array = NULL;
    return asprintf(&array, "%s/%s", path, window == WINDOW_RESIZE ? "window" : "0") < 0 ? NULL : array;
}

enum voco_status cached_array_open(struct shard *shard, const char *array_path)
{
    *shard = (struct shard){.file = -1};
    char *metadata_path = NULL;
    char *shard_path = NULL;
    enum voco_status status = VOCO_OK;
    if (asprintf(&metadata_path, "%s/zarr.json", array_path) < 0) {
        metadata_path = NULL;
    }
    if (asprintf(&shard_path, "%s/c/0/0/0", array_path) < 0) {
        shard_path = NULL;
    }
    json_t *metadata = NULL;
    int size[3] = {0};
    int levels = 0;
    if (metadata_path == NULL || shard_path == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", array_path);
        goto done;
    }
    metadata = json_object_read(&status, metadata_path, array_path);
    if (metadata == NULL) {
        goto done;
    }
    status = zarr_array_parse(size, &levels, metadata, array_path);
    if (status == VOCO_OK) {
        status = shard_open(shard, shard_path, size, levels, array_path);
    }
done:
    json_decref(metadata);
    free(metadata_path);
    free(shard_path);
    return status;
}

/* Opens the array of the kind. */
static enum voco_status open_array(struct shard *shard, const char *path, enum window_kind kind)
{
    char *array_path = cached_array_path(path, kind);
    if (array_path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    const enum voco_status status = cached_array_open(shard, array_path);
    free(array_path);
    return status;
}

static int array_fits(const char *path, enum window_kind kind, const int size[3], int levels, uint64_t *bytes)
{
    struct shard shard = {.file = -1};
    if (open_array(&shard, path, kind) != VOCO_OK) {
        return 0;
    }
    const int fits = memcmp(shard.size, size, sizeof shard.size) == 0 && shard.levels == levels;
    *bytes += shard.bytes;
    shard_close(&shard);
    return fits;
}

static int set_text(char **field, const char *text)
{
    if (strcmp(*field, text) == 0) {
        return 0;
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return 0;
    }
    free(*field);
    *field = copy;
    return 1;
}

/* What the list says now; a failure to write it changes nothing that training depends on. */
static void bring_up_to_date(struct volume_attributes *attributes, const char *path,
                             const struct cache_request *request)
{
    int changed = set_text(&attributes->name, request->name);
    changed |= set_text(&attributes->set, request->set);
    if (strcmp(attributes->split, request->split) != 0 || attributes->repeat != request->repeat) {
        (void)snprintf(attributes->split, sizeof attributes->split, "%s", request->split);
        attributes->repeat = request->repeat;
        changed = 1;
    }
    if (changed) {
        (void)volume_attributes_write(path, attributes);
    }
}

int cache_entry_is_there(const struct cache_entry *entry, const struct cache_request *request,
                         uint64_t *bytes)
{
    struct stat info;
    struct volume_attributes attributes;
    if (stat(entry->path, &info) != 0 || volume_attributes_read(&attributes, entry->path) != VOCO_OK) {
        return 0;
    }
    uint64_t taken = 0;
    int there = attributes.key == entry->key && strcmp(attributes.source, entry->source) == 0 &&
                attributes.levels == request->settings->levels &&
                array_fits(entry->path, WINDOW_CROP, attributes.size, attributes.levels, &taken);
    if (there && request->settings->preset.window == WINDOW_RESIZE) {
        there = memcmp(attributes.window, request->settings->window, sizeof attributes.window) == 0 &&
                array_fits(entry->path, WINDOW_RESIZE, attributes.window, attributes.levels, &taken);
    }
    if (there) {
        bring_up_to_date(&attributes, entry->path, request);
    }
    volume_attributes_free(&attributes);
    if (bytes != NULL) {
        *bytes = taken;
    }
    return there;
}

static enum voco_status verify_array(const char *path, enum window_kind kind, const int size[3])
{
    struct shard shard;
    enum voco_status status = open_array(&shard, path, kind);
    if (status != VOCO_OK) {
        return status;
    }
    status =
        memcmp(shard.size, size, sizeof shard.size) == 0
            ? shard_verify(&shard)
            : fail(VOCO_BAD_INPUT, "%s: damaged: its attributes and its array disagree on its size", path);
    shard_close(&shard);
    return status;
}

enum voco_status cached_volume_verify(const char *path)
{
    struct volume_attributes attributes;
    enum voco_status status = volume_attributes_read(&attributes, path);
    if (status != VOCO_OK) {
        return status;
    }
    status = verify_array(path, WINDOW_CROP, attributes.size);
    if (status == VOCO_OK && attributes.window[0] > 0) {
        status = verify_array(path, WINDOW_RESIZE, attributes.window);
    }
    volume_attributes_free(&attributes);
    return status;
}
