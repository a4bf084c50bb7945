#include "data/dataset_folder.h"

#include "base/error.h"
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
    char *path = below[0] != '\0' ? path_in_folder(top, below) : strdup(top);
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

enum voco_status dataset_add_folder(struct dataset *dataset, const char *top, const char *below)
{
    const size_t before = dataset->count;
    const enum voco_status status = search(dataset, top, below, NULL);
    if (status != VOCO_OK) {
        return status;
    }
    if (dataset->count == before) {
        return fail(VOCO_BAD_INPUT, "%s%s%s: no .nii or .nii.gz file in this folder or below it", top,
                    below[0] != '\0' ? "/" : "", below);
    }
    qsort(dataset->entries + before, dataset->count - before, sizeof *dataset->entries, by_name);
    return VOCO_OK;
}
