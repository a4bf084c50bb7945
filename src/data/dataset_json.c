#include "data/dataset_list.h"

#include "base/error.h"
#include "data/dataset_entries.h"

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

static enum voco_status add_part(struct dataset *dataset, const json_t *root, enum dataset_split split,
                                 const char *list, const char *folder)
{
    const json_t *entries = json_object_get(root, dataset_split_names[split]);
    if (entries == NULL || json_is_null(entries)) {
        return VOCO_OK;
    }
    if (!json_is_array(entries)) {
        return fail(VOCO_BAD_INPUT, "%s: \"%s\" is not a list", list, dataset_split_names[split]);
    }
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *path = entry_path(json_array_get(entries, i));
        if (path == NULL) {
            return fail(VOCO_BAD_INPUT,
                        "%s: entry %zu of \"%s\" is neither a path nor an object with an \"image\"", list,
                        i + 1, dataset_split_names[split]);
        }
        const enum voco_status status =
            dataset_add(dataset, folder, json_string_value(path), json_string_length(path), split);
        if (status != VOCO_OK) {
            return status;
        }
    }
    return VOCO_OK;
}

static enum voco_status names_no_volume(const char *list, unsigned parts)
{
    char names[64] = "";
    size_t used = 0;
    for (enum dataset_split split = SPLIT_TRAINING; split <= SPLIT_TEST; split++) {
        if ((parts >> split & 1) != 0) {
            const int last = parts >> split == 1;
            used += (size_t)snprintf(names + used, sizeof names - used, "%s\"%s\"",
                                     used == 0 ? "" : (last ? " or " : ", "), dataset_split_names[split]);
        }
    }
    return fail(VOCO_BAD_INPUT, "%s: names no volume under %s", list, names);
}

enum voco_status dataset_add_json(struct dataset *dataset, const char *text, size_t length, const char *list,
                                  const char *folder, unsigned parts)
{
    const size_t before = dataset->count;
    json_error_t error;
    json_t *root = json_loadb(text, length, 0, &error);
    if (root == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: line %d: %s", list, error.line > 0 ? error.line : 1, error.text);
    }
    enum voco_status status = VOCO_OK;
    if (!json_is_object(root)) {
        status = fail(VOCO_BAD_INPUT, "%s: not a JSON object with a list named \"training\"", list);
    }
    for (enum dataset_split split = SPLIT_TRAINING; status == VOCO_OK && split <= SPLIT_TEST; split++) {
        if ((parts >> split & 1) != 0) {
            status = add_part(dataset, root, split, list, folder);
        }
    }
    if (status == VOCO_OK && dataset->count == before) {
        status = names_no_volume(list, parts);
    }
    json_decref(root);
    return status;
}

enum voco_status dataset_parse_json(struct dataset *dataset, const char *text, size_t length,
                                    const char *list, const char *folder)
{
    *dataset = (struct dataset){0};
    enum voco_status status = dataset_start_set(dataset, "");
    if (status == VOCO_OK) {
        status = dataset_add_json(dataset, text, length, list, folder, USE_ALL_PARTS);
    }
    if (status != VOCO_OK) {
        dataset_free(dataset);
    }
    return status;
}
