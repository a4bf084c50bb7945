#include "data/dataset.h"

#include "base/error.h"
#include "data/corpus.h"
#include "data/dataset_cache.h"
#include "data/dataset_entries.h"
#include "data/dataset_folder.h"
#include "data/dataset_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* The folder that the file lies in; NULL without memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == path ? strdup("/")
                         : (slash != NULL ? strndup(path, (size_t)(slash - path)) : strdup("."));
}

static enum voco_status open_list(struct dataset *dataset, const char *path)
{
    char *folder = folder_of(path);
    if (folder == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = dataset_add_list(dataset, path, folder, USE_ALL_PARTS);
    if (status == VOCO_OK) {
        status = check_files(dataset, path);
    }
    free(folder);
    return status;
}

static enum voco_status open_corpus(struct dataset *dataset, const char *path,
                                    const struct dicom_conversion *conversion)
{
    char *text = NULL;
    char *folder = folder_of(path);
    size_t length = 0;
    if (folder == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    struct corpus corpus = {0};
    enum voco_status status = dataset_read_text(&text, &length, path);
    if (status == VOCO_OK) {
        status = corpus_parse_yaml(&corpus, text, length, path, folder);
    }
    if (status == VOCO_OK) {
        status = corpus_open(dataset, &corpus, path, conversion);
    }
    corpus_free(&corpus);
    free(text);
    free(folder);
    return status;
}

static enum voco_status open_folder(struct dataset *dataset, const char *path,
                                    const struct dicom_conversion *conversion)
{
    char *list = NULL;
    if (asprintf(&list, "%s/dataset.json", path) < 0) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    const enum voco_status status = access(list, F_OK) == 0
                                        ? open_list(dataset, list)
                                        : dataset_add_folder(dataset, path, "", conversion);
    free(list);
    return status;
}

/* All that is one unnamed set. */
static enum voco_status open_set(struct dataset *dataset, const char *data, const struct stat *info,
                                 const struct dicom_conversion *conversion)
{
    const enum voco_status status = dataset_start_set(dataset, "");
    if (status != VOCO_OK) {
        return status;
    }
    if (S_ISDIR(info->st_mode)) {
        return open_folder(dataset, data, conversion);
    }
    return is_nifti_name(data) ? dataset_add(dataset, ".", data, strlen(data), SPLIT_TRAINING)
                               : open_list(dataset, data);
}

static enum voco_status open_data(struct dataset *dataset, const char *data,
                                  const struct dicom_conversion *conversion)
{
    *dataset = (struct dataset){0};
    enum voco_status status = VOCO_OK;
    struct stat info;
    if (stat(data, &info) != 0) {
        return fail_errno("%s: cannot open", data);
    }
    if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode)) {
        status = fail(VOCO_BAD_INPUT, "%s: neither a file nor a folder", data);
    } else if (S_ISDIR(info.st_mode) && folder_is_cache(data)) {
        status = dataset_add_cache(dataset, data);
    } else if (S_ISREG(info.st_mode) && is_corpus_name(data)) {
        status = open_corpus(dataset, data, conversion);
    } else {
        status = open_set(dataset, data, &info, conversion);
    }
    if (status != VOCO_OK) {
        dataset_free(dataset);
    }
    return status;
}

enum voco_status dataset_open(struct dataset *dataset, const char *data)
{
    return open_data(dataset, data, NULL);
}

enum voco_status dataset_open_converting(struct dataset *dataset, const char *data,
                                         const char *converted_folder, const volatile sig_atomic_t *stop)
{
    const struct dicom_conversion conversion = {converted_folder, stop};
    return open_data(dataset, data, &conversion);
}
