#include "data/dataset.h"

#include "base/error.h"
#include "data/dataset_entries.h"
#include "data/dataset_folder.h"

#include <errno.h>
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

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
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
