#include "data/dataset_folder.h"

#include "base/error.h"
#include "base/name_hash.h"
#include "data/dataset_entries.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folders from the top to where the search is, to notice a link that leads back. */
struct visited {
    const struct visited *parent;
    dev_t device;
    ino_t inode;
};

int is_nifti_name(const char *name)
{
    const size_t length = strlen(name);
    return (length > 4 && strcmp(name + length - 4, ".nii") == 0) ||
           (length > 7 && strcmp(name + length - 7, ".nii.gz") == 0);
}

int is_searched_folder(const char *name)
{
    const size_t length = strlen(name);
    return name[0] != '.' && strncmp(name, "labels", 6) != 0 &&
           !(length >= 5 && strcmp(name + length - 5, ".zarr") == 0);
}

static int is_within(const struct visited *visited, const struct stat *info)
{
    for (; visited != NULL; visited = visited->parent) {
        if (visited->device == info->st_dev && visited->inode == info->st_ino) {
            return 1;
        }
    }
    return 0;
}

/* top/below, `below` may be ""; NULL without memory. */
static char *path_below(const char *top, const char *below)
{
    return below[0] != '\0' ? path_in_folder(top, below) : strdup(top);
}

static enum voco_status search(struct dataset *dataset, const char *top, const char *below,
                               const struct visited *parent);

/* `item` is a name in the folder top/below. */
static enum voco_status look_at(struct dataset *dataset, const char *top, const char *below, int folder,
                                const char *item, const struct visited *visited)
{
    struct stat info;
    /* A link that leads nowhere, as to a file not fetched yet, is left to whoever opens it to report. */
    if (item[0] == '.' ||
        (fstatat(folder, item, &info, 0) != 0 && fstatat(folder, item, &info, AT_SYMLINK_NOFOLLOW) != 0)) {
        return VOCO_OK;
    }
    char *name = NULL;
    if (asprintf(&name, "%s%s%s", below, below[0] != '\0' ? "/" : "", item) < 0) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", top);
    }
    enum voco_status status = VOCO_OK;
    if ((S_ISREG(info.st_mode) || S_ISLNK(info.st_mode)) && is_nifti_name(item)) {
        status = dataset_add(dataset, top, name, strlen(name), SPLIT_TRAINING);
    } else if (S_ISDIR(info.st_mode) && is_searched_folder(item) && !is_within(visited, &info)) {
        status = search(dataset, top, name, visited);
    }
    free(name);
    return status;
}

static enum voco_status search(struct dataset *dataset, const char *top, const char *below,
                               const struct visited *parent)
{
    enum voco_status status = VOCO_OK;
    DIR *dir = NULL;
    char *path = path_below(top, below);
    if (path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", top);
    }
    struct stat info;
    dir = opendir(path);
    if (dir == NULL || fstat(dirfd(dir), &info) != 0) {
        status = fail_errno("%s: cannot read the folder", path);
        goto done;
    }
    const struct visited here = {parent, info.st_dev, info.st_ino};
    const struct dirent *item = NULL;
    while (status == VOCO_OK && (item = readdir(dir)) != NULL) {
        status = look_at(dataset, top, below, dirfd(dir), item->d_name, &here);
    }
done:
    if (dir != NULL) {
        closedir(dir);
    }
    free(path);
    return status;
}

static int by_name(const void *a, const void *b)
{
    const struct dataset_entry *first = a;
    const struct dataset_entry *second = b;
    return strcmp(first->name, second->name);
}

/* The name of the folder into which the series of top/below are converted; NULL without memory. */
static char *converted_name(const struct dataset *dataset, const char *below)
{
    const char *set = dataset->sets[dataset->set_count - 1].name;
    if (below[0] == '\0') {
        return strdup(set);
    }
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add_text(&hash, below);
    char *name = NULL;
    return asprintf(&name, "%s-%016llx", set, (unsigned long long)name_hash_value(&hash)) < 0 ? NULL : name;
}

/* For a folder without volumes. */
static enum voco_status add_dicom(struct dataset *dataset, const char *path, const char *below,
                                  const struct dicom_conversion *conversion)
{
    if (!directory_holds_dicom(path)) {
        return fail(VOCO_BAD_INPUT, "%s: no .nii or .nii.gz file in this folder or below it", path);
    }
    if (conversion == NULL) {
        return fail(VOCO_BAD_INPUT,
                    "%s: holds DICOM, which must be converted first: voco cache %s --out CACHE", path, path);
    }
    enum voco_status status = VOCO_OK;
    char *name = converted_name(dataset, below);
    char *target = name != NULL ? path_below(conversion->folder, name) : NULL;
    if (target == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    status = convert_dicom(path, target, conversion->stop);
    if (status == VOCO_OK) {
        /* What lies below has its folder in its name, so that it is not taken for what lies elsewhere. */
        status = below[0] != '\0' ? search(dataset, conversion->folder, name, NULL)
                                  : search(dataset, target, "", NULL);
    }
done:
    free(target);
    free(name);
    return status;
}

enum voco_status dataset_add_folder(struct dataset *dataset, const char *top, const char *below,
                                    const struct dicom_conversion *conversion)
{
    const size_t before = dataset->count;
    enum voco_status status = search(dataset, top, below, NULL);
    if (status == VOCO_OK && dataset->count == before) {
        char *path = path_below(top, below);
        status = path != NULL ? add_dicom(dataset, path, below, conversion)
                              : fail(VOCO_NO_MEMORY, "%s: out of memory", top);
        free(path);
    }
    if (status == VOCO_OK && dataset->count > before) {
        qsort(dataset->entries + before, dataset->count - before, sizeof *dataset->entries, by_name);
    }
    return status;
}
