#include "base/folder.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int remove_item(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

enum voco_status remove_folder(const char *path)
{
    if (nftw(path, remove_item, 8, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return fail_errno("%s: cannot remove", path);
    }
    return VOCO_OK;
}

enum voco_status sync_folder(const char *path)
{
    const int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return fail_errno("%s: cannot open the folder", path);
    }
    const int synced = fsync(folder) == 0 || errno == EINVAL;
    const enum voco_status status = synced ? VOCO_OK : fail_errno("%s: cannot sync the folder", path);
    (void)close(folder);
    return status;
}

/* Where two folders cannot be exchanged, as on NFS: what is there steps aside first, for a moment. */
static int replace_in_steps(const char *from, const char *to)
{
    char *aside = NULL;
    if (asprintf(&aside, "%s.old", from) < 0) {
        errno = ENOMEM;
        return -1;
    }
    int result = rename(to, aside) == 0 || errno == ENOENT ? 0 : -1;
    if (result == 0) {
        result = rename(from, to);
    }
    if (result == 0 && remove_folder(aside) != VOCO_OK) {
        result = -1;
    }
    free(aside);
    return result;
}

enum voco_status replace_folder(const char *from, const char *to)
{
    enum voco_status status = VOCO_OK;
    if (rename(from, to) != 0) {
        if (errno != EEXIST && errno != ENOTEMPTY) {
            return fail_errno("%s: cannot rename the finished folder to this name", to);
        }
        if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0) {
            status = remove_folder(from);
        } else if (replace_in_steps(from, to) != 0) {
            status = fail_errno("%s: cannot replace", to);
        }
    }
    char *copy = strdup(to);
    if (status == VOCO_OK) {
        status = copy != NULL ? sync_folder(dirname(copy)) : fail(VOCO_NO_MEMORY, "%s: out of memory", to);
    }
    free(copy);
    return status;
}
