#include "train/run_folder.h"

#include "base/atomic_file.h"
#include "base/error.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { path_size = 4096 };

static enum voco_status name_of(char path[path_size], const char *folder)
{
    if (snprintf(path, path_size, "%s/run.json", folder) >= path_size) {
        return fail(VOCO_BAD_INPUT, "%s: the name of the run's folder is too long", folder);
    }
    return VOCO_OK;
}

int run_folder_exists(const char *folder)
{
    char path[path_size];
    return name_of(path, folder) == VOCO_OK && access(path, F_OK) == 0;
}

enum voco_status run_folder_read(struct run_folder *run, const char *folder)
{
    *run = (struct run_folder){0};
    char path[path_size];
    enum voco_status status = name_of(path, folder);
    if (status != VOCO_OK) {
        return status;
    }
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: line %d: %s", path, error.line, error.text);
    }
    const char *data = json_string_value(json_object_get(root, "data"));
    const char *cache = json_string_value(json_object_get(root, "cache"));
    json_t *recipe = json_object_get(root, "recipe");
    if (data == NULL || cache == NULL || !json_is_object(recipe)) {
        status = fail(VOCO_BAD_INPUT, "%s: not the description of a run (data, cache, recipe)", path);
        goto done;
    }
    run->data = strdup(data);
    run->cache = strdup(cache);
    if (run->data == NULL || run->cache == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    status = recipe_from_json(&run->recipe, recipe, path);
done:
    json_decref(root);
    return status;
}

static enum voco_status place(char **out, const char *path)
{
    char *absolute = realpath(path, NULL);
    if (absolute == NULL) {
        return fail_errno("%s", path);
    }
    free(*out);
    *out = absolute;
    return VOCO_OK;
}

enum voco_status run_folder_place(struct run_folder *run, const char *folder, const char *data,
                                  const char *cache)
{
    enum voco_status status = data != NULL ? place(&run->data, data) : VOCO_OK;
    if (status != VOCO_OK || (run->cache != NULL && cache == NULL)) {
        return status;
    }
    char own[path_size];
    if (snprintf(own, sizeof own, "%s/cache", folder) >= (int)sizeof own) {
        return fail(VOCO_BAD_INPUT, "%s: the name of the run's folder is too long", folder);
    }
    const char *chosen = cache != NULL ? cache : own;
    status = make_folders(chosen);
    return status == VOCO_OK ? place(&run->cache, chosen) : status;
}

enum voco_status run_folder_write(const struct run_folder *run, const char *folder)
{
    char path[path_size];
    enum voco_status status = name_of(path, folder);
    if (status == VOCO_OK) {
        status = make_folders(folder);
    }
    if (status != VOCO_OK) {
        return status;
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:o}", "voco", VOCO_VERSION, "data", run->data, "cache",
                             run->cache, "recipe", recipe_to_json(&run->recipe));
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    struct atomic_file file;
    status = atomic_file_open(&file, path);
    if (status == VOCO_OK) {
        (void)fprintf(file.stream, "%s\n", text);
        status = atomic_file_commit(&file);
    }
    free(text);
    return status;
}

void run_folder_free(struct run_folder *run)
{
    free(run->data);
    free(run->cache);
    *run = (struct run_folder){0};
}
