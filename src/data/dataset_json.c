#include "data/dataset_entries.h"

#include "base/error.h"

#include <jansson.h>

/* The path in an entry of a JSON list, or NULL. */
static const json_t *entry_path(const json_t *entry)
{
    const json_t *path = json_is_object(entry) ? json_object_get(entry, "image") : entry;
    if (json_is_array(path)) {
        path = json_array_get(path, 0);
    }
    return json_is_string(path) && json_string_length(path) > 0 ? path : NULL;
}

static enum voco_status add_json_split(struct dataset *dataset, const json_t *root, const char *key,
                                       enum dataset_split split, const char *list, const char *folder)
{
    const json_t *entries = json_object_get(root, key);
    if (entries == NULL || json_is_null(entries)) {
        return VOCO_OK;
    }
    if (!json_is_array(entries)) {
        return fail(VOCO_BAD_INPUT, "%s: \"%s\" is not a list", list, key);
    }
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        const json_t *path = entry_path(entry);
        if (path == NULL) {
            return fail(VOCO_BAD_INPUT,
                        "%s: entry %zu of \"%s\" is neither a path nor an object with an \"image\"", list,
                        i + 1, key);
        }
        const enum voco_status status =
            dataset_add(dataset, folder, json_string_value(path), json_string_length(path), split);
        if (status != VOCO_OK) {
            return status;
        }
    }
    return VOCO_OK;
}

enum voco_status dataset_parse_json(struct dataset *dataset, const char *text, size_t length,
                                    const char *list, const char *folder)
{
    *dataset = (struct dataset){0};
    json_error_t error;
    json_t *root = json_loadb(text, length, 0, &error);
    if (root == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: line %d: %s", list, error.line > 0 ? error.line : 1, error.text);
    }
    static const struct {
        const char *key;
        enum dataset_split split;
    } splits[] = {{"training", SPLIT_TRAINING}, {"validation", SPLIT_VALIDATION}, {"test", SPLIT_TEST}};
    enum voco_status status = VOCO_OK;
    if (!json_is_object(root)) {
        status = fail(VOCO_BAD_INPUT, "%s: not a JSON object with a list named \"training\"", list);
    }
    for (size_t i = 0; status == VOCO_OK && i < sizeof splits / sizeof splits[0]; i++) {
        status = add_json_split(dataset, root, splits[i].key, splits[i].split, list, folder);
    }
    if (status == VOCO_OK && dataset->count == 0) {
        status =
            fail(VOCO_BAD_INPUT, "%s: names no volume under \"training\", \"validation\" or \"test\"", list);
    }
    json_decref(root);
    if (status != VOCO_OK) {
        dataset_free(dataset);
    }
    return status;
}
