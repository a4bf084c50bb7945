#include "data/dataset.h"

#include "base/error.h"
#include "data/dataset_folder.h"
#include "base/name_hash.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A list of millions of volumes stays below this. */
static const size_t longest_list = (size_t)1 << 30;

static enum voco_status no_memory(const char *name)
{
    return fail(VOCO_NO_MEMORY, "%s: the list of its volumes does not fit in memory", name);
}

/* folder/name, or the name alone where it is absolute; NULL without memory. */
static char *path_in(const char *folder, const char *name)
{
    if (name[0] == '/') {
        return strdup(name);
    }
    const size_t folder_length = strlen(folder);
    const int ends = folder_length > 0 && folder[folder_length - 1] == '/';
    char *path = NULL;
    return asprintf(&path, "%s%s%s", folder, ends ? "" : "/", name) < 0 ? NULL : path;
}

enum voco_status dataset_add(struct dataset *dataset, const char *folder, const char *name, size_t length,
                             enum dataset_split split)
{
    while (length >= 2 && name[0] == '.' && name[1] == '/') {
        name += 2;
        length -= 2;
        while (length > 0 && name[0] == '/') {
            name++;
            length--;
        }
    }
    if (dataset->count == dataset->capacity) {
        const size_t capacity = dataset->capacity == 0 ? 64 : 2 * dataset->capacity;
        struct dataset_entry *grown = reallocarray(dataset->entries, capacity, sizeof *grown);
        if (grown == NULL) {
            return no_memory(folder);
        }
        dataset->entries = grown;
        dataset->capacity = capacity;
    }
    char *copy = strndup(name, length);
    char *path = copy != NULL ? path_in(folder, copy) : NULL;
    if (path == NULL) {
        free(copy);
        return no_memory(folder);
    }
    dataset->entries[dataset->count++] = (struct dataset_entry){path, copy, split};
    return VOCO_OK;
}

void dataset_free(struct dataset *dataset)
{
    for (size_t i = 0; i < dataset->count; i++) {
        free(dataset->entries[i].path);
        free(dataset->entries[i].name);
    }
    free(dataset->entries);
    *dataset = (struct dataset){0};
}

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

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

enum voco_status dataset_parse_text(struct dataset *dataset, const char *text, size_t length,
                                    const char *list, const char *folder)
{
    *dataset = (struct dataset){0};
    enum voco_status status = VOCO_OK;
    size_t line = 1;
    for (size_t begin = 0; status == VOCO_OK && begin < length; line++) {
        const char *newline = memchr(text + begin, '\n', length - begin);
        const size_t next = newline != NULL ? (size_t)(newline - text) + 1 : length;
        size_t end = newline != NULL ? next - 1 : length;
        while (begin < end && is_blank(text[begin])) {
            begin++;
        }
        while (end > begin && is_blank(text[end - 1])) {
            end--;
        }
        if (memchr(text + begin, '\0', end - begin) != NULL) {
            status = fail(VOCO_BAD_INPUT, "%s: line %zu: not text: a list has one path a line", list, line);
        } else if (end > begin && text[begin] != '#') {
            status = dataset_add(dataset, folder, text + begin, end - begin, SPLIT_TRAINING);
        }
        begin = next;
    }
    if (status == VOCO_OK && dataset->count == 0) {
        status = fail(VOCO_BAD_INPUT, "%s: names no volume", list);
    }
    if (status != VOCO_OK) {
        dataset_free(dataset);
    }
    return status;
}

static enum voco_status read_list(char **text, size_t *length, const char *path)
{
    *text = NULL;
    enum voco_status status = VOCO_OK;
    struct stat info;
    FILE *stream = fopen(path, "rb");
    if (stream == NULL || fstat(fileno(stream), &info) != 0) {
        status = fail_errno("%s: cannot open", path);
        goto done;
    }
    if (info.st_size > (off_t)longest_list) {
        status = fail(VOCO_BAD_INPUT, "%s: too long for a list of volumes", path);
        goto done;
    }
    *text = malloc((size_t)info.st_size + 1);
    if (*text == NULL) {
        status = no_memory(path);
        goto done;
    }
    *length = fread(*text, 1, (size_t)info.st_size, stream);
    if (ferror(stream)) {
        status = fail_errno("%s: cannot read", path);
    }
done:
    if (stream != NULL) {
        (void)fclose(stream);
    }
    if (status != VOCO_OK) {
        free(*text);
        *text = NULL;
    }
    return status;
}

static enum voco_status check_files(const struct dataset *dataset, const char *list)
{
    for (size_t i = 0; i < dataset->count; i++) {
        const char *path = dataset->entries[i].path;
        struct stat info;
        if (stat(path, &info) != 0) {
            const int missing = errno == ENOENT || errno == ENOTDIR;
            return missing ? fail(VOCO_BAD_INPUT, "%s: names %s, which does not exist", list, path)
                           : fail_errno("%s: names %s", list, path);
        }
        if (S_ISDIR(info.st_mode)) {
            return fail(VOCO_BAD_INPUT, "%s: names %s, which is a folder", list, path);
        }
    }
    return VOCO_OK;
}

static int ends_with(const char *text, const char *ending)
{
    const size_t length = strlen(text);
    return length >= strlen(ending) && strcmp(text + length - strlen(ending), ending) == 0;
}

static int looks_like_json(const char *path, const char *text, size_t length)
{
    size_t first = 0;
    while (first < length && (is_blank(text[first]) || text[first] == '\n')) {
        first++;
    }
    return ends_with(path, ".json") || (first < length && text[first] == '{');
}

static enum voco_status open_list(struct dataset *dataset, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    enum voco_status status = read_list(&text, &length, path);
    if (status != VOCO_OK) {
        return status;
    }
    const char *slash = strrchr(path, '/');
    const size_t folder_length = slash != NULL ? (size_t)(slash - path) : 1;
    char *folder = strndup(slash != NULL ? path : ".", folder_length);
    if (folder == NULL) {
        status = no_memory(path);
        goto done;
    }
    status = looks_like_json(path, text, length) ? dataset_parse_json(dataset, text, length, path, folder)
                                                 : dataset_parse_text(dataset, text, length, path, folder);
    if (status == VOCO_OK) {
        status = check_files(dataset, path);
    }
done:
    free(folder);
    free(text);
    return status;
}

static enum voco_status open_folder(struct dataset *dataset, const char *path)
{
    char *list = NULL;
    if (asprintf(&list, "%s/dataset.json", path) < 0) {
        return no_memory(path);
    }
    const enum voco_status status =
        access(list, F_OK) == 0 ? open_list(dataset, list) : dataset_add_folder(dataset, path);
    free(list);
    return status;
}

enum voco_status dataset_open(struct dataset *dataset, const char *data)
{
    *dataset = (struct dataset){0};
    enum voco_status status = VOCO_OK;
    struct stat info;
    if (stat(data, &info) != 0) {
        return fail_errno("%s: cannot open", data);
    }
    if (S_ISDIR(info.st_mode)) {
        status = open_folder(dataset, data);
    } else if (!S_ISREG(info.st_mode)) {
        status = fail(VOCO_BAD_INPUT, "%s: neither a file nor a folder", data);
    } else if (is_nifti_name(data)) {
        status = dataset_add(dataset, ".", data, strlen(data), SPLIT_TRAINING);
    } else {
        status = open_list(dataset, data);
    }
    if (status != VOCO_OK) {
        dataset_free(dataset);
    }
    return status;
}

static uint64_t hash_of_name(const char *name)
{
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add_text(&hash, name);
    return name_hash_value(&hash);
}

/* Training first, then validation, each in the order it had. */
static void regroup(struct dataset *dataset, struct dataset_entry *room)
{
    size_t count = 0;
    for (enum dataset_split split = SPLIT_TRAINING; split <= SPLIT_TEST; split++) {
        for (size_t i = 0; i < dataset->count; i++) {
            if (dataset->entries[i].split == split) {
                room[count++] = dataset->entries[i];
            }
        }
    }
    memcpy(dataset->entries, room, count * sizeof *room);
}

enum voco_status dataset_hold_out(struct dataset *dataset, double fraction)
{
    const size_t training = dataset_count(dataset, SPLIT_TRAINING);
    if (!(fraction > 0.0) || training < 2 || dataset_count(dataset, SPLIT_VALIDATION) > 0) {
        return VOCO_OK;
    }
    struct dataset_entry *room = calloc(dataset->count, sizeof *room);
    if (room == NULL) {
        return fail(VOCO_NO_MEMORY, "a list of %zu volumes does not fit in memory", dataset->count);
    }
    size_t held_out = 0;
    size_t smallest = SIZE_MAX;
    size_t largest = SIZE_MAX;
    for (size_t i = 0; i < dataset->count; i++) {
        struct dataset_entry *entries = dataset->entries;
        if (entries[i].split != SPLIT_TRAINING) {
            continue;
        }
        const uint64_t hash = hash_of_name(entries[i].name);
        if (smallest == SIZE_MAX || hash < hash_of_name(entries[smallest].name)) {
            smallest = i;
        }
        if (largest == SIZE_MAX || hash > hash_of_name(entries[largest].name)) {
            largest = i;
        }
        if ((double)hash * 0x1p-64 < fraction) {
            entries[i].split = SPLIT_VALIDATION;
            held_out++;
        }
    }
    if (held_out == 0) {
        dataset->entries[smallest].split = SPLIT_VALIDATION;
    } else if (held_out == training) {
        dataset->entries[largest].split = SPLIT_TRAINING;
    }
    regroup(dataset, room);
    free(room);
    return VOCO_OK;
}

size_t dataset_count(const struct dataset *dataset, enum dataset_split split)
{
    size_t count = 0;
    for (size_t i = 0; i < dataset->count; i++) {
        count += dataset->entries[i].split == split;
    }
    return count;
}

const char **dataset_paths(const struct dataset *dataset, enum dataset_split split)
{
    const size_t count = dataset_count(dataset, split);
    const char **paths = count > 0 ? calloc(count, sizeof *paths) : NULL;
    for (size_t i = 0, next = 0; paths != NULL && i < dataset->count; i++) {
        if (dataset->entries[i].split == split) {
            paths[next++] = dataset->entries[i].path;
        }
    }
    return paths;
}
