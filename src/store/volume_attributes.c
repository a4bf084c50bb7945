#include "store/volume_attributes.h"

#include "base/error.h"
#include "store/json_fields.h"
#include "store/shard.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const intensities[] = {"window", "zscore"}; /* enum intensity_kind */
static const char *const windows[] = {"crop", "resize"};       /* enum window_kind */

void volume_attributes_free(struct volume_attributes *attributes)
{
    free(attributes->source);
    free(attributes->name);
    free(attributes->set);
    *attributes = (struct volume_attributes){0};
}

/* ---- writing ---- */

static json_t *axis(const char *name, const char *direction)
{
    return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "name", name, "type", "space", "unit", "millimeter",
                     "orientation", "type", "anatomical", "value", direction);
}

static json_t *transformations(const double spacing[3], const double origin[3])
{
    return json_pack("[{s:s, s:[f,f,f]}, {s:s, s:[f,f,f]}]", "type", "scale", "scale", spacing[2], spacing[1],
                     spacing[0], "type", "translation", "translation", origin[2], origin[1], origin[0]);
}

static json_t *multiscale(const char *name, const char *path, const double spacing[3], const double origin[3])
{
    return json_pack("{s:s, s:[o,o,o], s:[{s:s, s:o}]}", "name", name, "axes",
                     axis("z", "inferior-to-superior"), axis("y", "posterior-to-anterior"),
                     axis("x", "left-to-right"), "datasets", "path", path, "coordinateTransformations",
                     transformations(spacing, origin));
}

/* OME-NGFF 0.5: an image for the volume, and one for the window where there is one. */
static json_t *ome(const struct volume_attributes *attributes)
{
    const double origin[3] = {attributes->affine[0][3], attributes->affine[1][3], attributes->affine[2][3]};
    json_t *images = json_array();
    (void)json_array_append_new(images, multiscale(attributes->name, "0", attributes->spacing, origin));
    if (attributes->window[0] > 0) {
        double spacing[3];
        for (int i = 0; i < 3; i++) {
            const int steps = attributes->window[i] > 1 ? attributes->window[i] - 1 : 1;
            spacing[i] =
                attributes->spacing[i] * (attributes->size[i] > 1 ? attributes->size[i] - 1 : 1) / steps;
        }
        (void)json_array_append_new(images, multiscale("window", "window", spacing, origin));
    }
    return json_pack("{s:s, s:o}", "version", "0.5", "multiscales", images);
}

static json_t *preset_json(const struct preset *preset)
{
    return json_pack("{s:s, s:o, s:s, s:f, s:f, s:s}", "name", preset->name, "spacing",
                     json_numbers(preset->spacing, 3), "intensity", intensities[preset->intensity], "low",
                     preset->low, "high", preset->high, "take", windows[preset->window]);
}

static json_t *group_json(const struct volume_attributes *attributes)
{
    char key[20];
    (void)snprintf(key, sizeof key, "%016llx", (unsigned long long)attributes->key);
    json_t *affine =
        json_pack("[o,o,o]", json_numbers(attributes->affine[0], 4), json_numbers(attributes->affine[1], 4),
                  json_numbers(attributes->affine[2], 4));
    json_t *own = json_pack("{s:s, s:s, s:o, s:i, s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:i}", "key", key,
                            "source", attributes->source, "preset", preset_json(&attributes->preset),
                            "levels", attributes->levels, "size", json_integers(attributes->size, 3),
                            "spacing", json_numbers(attributes->spacing, 3), "affine", affine, "window",
                            json_integers(attributes->window, 3), "name", attributes->name, "set",
                            attributes->set, "split", attributes->split, "repeat", attributes->repeat);
    if (own == NULL || !json_add_checksum(own, own)) {
        json_decref(own);
        return NULL;
    }
    return json_pack("{s:i, s:s, s:{s:o, s:o}}", "zarr_format", 3, "node_type", "group", "attributes", "ome",
                     ome(attributes), "voco", own);
}

static char *metadata_path(const char *folder)
{
    char *path = NULL;
    return asprintf(&path, "%s/zarr.json", folder) < 0 ? NULL : path;
}

enum voco_status volume_attributes_write(const char *folder, const struct volume_attributes *attributes)
{
    char *path = metadata_path(folder);
    json_t *group = group_json(attributes);
    enum voco_status status = VOCO_OK;
    if (path == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    } else if (group == NULL) {
        /* jansson takes UTF-8 only. */
        status = fail(VOCO_BAD_INPUT, "%s: its path is not UTF-8, or memory is short", attributes->source);
    } else {
        status = json_object_write(path, group);
    }
    json_decref(group);
    free(path);
    return status;
}

/* ---- reading ---- */

static int index_of(int *index, const char *const names[2], const char *name)
{
    for (*index = 0; name != NULL && *index < 2; ++*index) {
        if (strcmp(names[*index], name) == 0) {
            return 1;
        }
    }
    return 0;
}

static int parse_preset(struct preset *preset, const json_t *json)
{
    int intensity = 0;
    int window = 0;
    const char *name = json_field_text(json, "name", sizeof preset->name);
    if (name == NULL || !json_field_numbers(preset->spacing, 3, json, "spacing") ||
        !json_field_number(&preset->low, json, "low") || !json_field_number(&preset->high, json, "high") ||
        !index_of(&intensity, intensities, json_field_text(json, "intensity", 16)) ||
        !index_of(&window, windows, json_field_text(json, "take", 16))) {
        return 0;
    }
    memcpy(preset->name, name, strlen(name) + 1);
    preset->intensity = (enum intensity_kind)intensity;
    preset->window = (enum window_kind)window;
    return 1;
}

static int parse_affine(double affine[3][4], const json_t *rows)
{
    int good = json_array_size(rows) == 3;
    for (size_t row = 0; good && row < 3; row++) {
        const json_t *numbers = json_array_get(rows, row);
        good = json_array_size(numbers) == 4;
        for (size_t i = 0; good && i < 4; i++) {
            const json_t *number = json_array_get(numbers, i);
            affine[row][i] = json_number_value(number);
            good = json_is_number(number);
        }
    }
    return good;
}

static int parse_key(uint64_t *key, const char *text)
{
    char *end = NULL;
    if (text == NULL || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16) {
        return 0;
    }
    *key = strtoull(text, &end, 16);
    return *end == '\0';
}

static int parse_own(struct volume_attributes *out, const json_t *own)
{
    const char *source = json_field_text(own, "source", 1 << 16);
    const char *name = json_field_text(own, "name", 1 << 16);
    const char *set = json_field_text(own, "set", 1 << 16);
    const char *split = json_field_text(own, "split", sizeof out->split);
    if (source == NULL || name == NULL || set == NULL || split == NULL ||
        !parse_key(&out->key, json_field_text(own, "key", 32)) ||
        !parse_preset(&out->preset, json_object_get(own, "preset")) ||
        !json_field_integer(&out->levels, own, "levels", 1, 65535) ||
        !json_field_integers(out->size, 3, own, "size", 1, shard_longest_axis) ||
        !json_field_numbers(out->spacing, 3, own, "spacing") ||
        !parse_affine(out->affine, json_object_get(own, "affine")) ||
        !json_field_integers(out->window, 3, own, "window", 0, shard_longest_axis) ||
        !json_field_integer(&out->repeat, own, "repeat", 1, INT_MAX)) {
        return 0;
    }
    memcpy(out->split, split, strlen(split) + 1);
    out->source = strdup(source);
    out->name = strdup(name);
    out->set = strdup(set);
    return 1;
}

/* Takes over the reference to `root`. */
static enum voco_status understand(struct volume_attributes *out, json_t *root, const char *name)
{
    enum voco_status status = VOCO_OK;
    json_t *own = json_object_get(json_object_get(root, "attributes"), "voco");
    if (own == NULL || !parse_own(out, own)) {
        status = fail(VOCO_BAD_INPUT, "%s: is not a volume that voco has cached", name);
    } else if (out->source == NULL || out->name == NULL || out->set == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", name);
    } else if (!json_checksum_matches(own, own)) {
        status = fail(VOCO_BAD_INPUT, "%s: damaged: the checksum of its attributes does not match", name);
    }
    if (status != VOCO_OK) {
        volume_attributes_free(out);
    }
    json_decref(root);
    return status;
}

enum voco_status volume_attributes_parse(struct volume_attributes *attributes, const char *text,
                                         size_t length, const char *name)
{
    *attributes = (struct volume_attributes){0};
    enum voco_status status;
    json_t *root = json_object_parse(&status, text, length, name);
    return root != NULL ? understand(attributes, root, name) : status;
}

enum voco_status volume_attributes_read(struct volume_attributes *attributes, const char *folder)
{
    *attributes = (struct volume_attributes){0};
    char *path = metadata_path(folder);
    if (path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    }
    enum voco_status status;
    json_t *root = json_object_read(&status, path, folder);
    free(path);
    return root != NULL ? understand(attributes, root, folder) : status;
}
