#include "base/atomic_file.h"

#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void forget(struct atomic_file *file)
{
    free(file->path);
    free(file->temporary);
    *file = (struct atomic_file){0};
}

enum voco_status atomic_file_open(struct atomic_file *file, const char *path)
{
    static atomic_uint serial;
    *file = (struct atomic_file){0};
    const size_t size = strlen(path) + 64;
    file->path = strdup(path);
    file->temporary = malloc(size);
    if (file->path == NULL || file->temporary == NULL) {
        forget(file);
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    do { /* in a container a dead process may have had this number, and left a file of this name */
        snprintf(file->temporary, size, "%s.tmp.%ld.%u", path, (long)getpid(), atomic_fetch_add(&serial, 1U));
        file->stream = fopen(file->temporary, "wbx");
    } while (file->stream == NULL && errno == EEXIST);
    if (file->stream == NULL) {
        const enum voco_status status = fail_errno("%s: cannot create", path);
        forget(file);
        return status;
    }
    return VOCO_OK;
}

/* A rename is on disk only once its folder is. */
static int sync_folder_of(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL) {
        return -1;
    }
    const int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (folder < 0) {
        return -1;
    }
    /* Some network file systems cannot sync a folder; the data itself is safe there. */
    const int result = fsync(folder) == 0 || errno == EINVAL ? 0 : -1;
    close(folder);
    return result;
}

enum voco_status atomic_file_commit(struct atomic_file *file)
{
    enum voco_status status = VOCO_OK;
    errno = 0;
    const int written =
        !ferror(file->stream) && fflush(file->stream) == 0 && fsync(fileno(file->stream)) == 0;
    if (!written) {
        if (errno == 0) {
            errno = ENOSPC; /* the stream failed in an earlier write, whose errno is gone */
        }
        status = fail_errno("%s: cannot write", file->path);
    }
    const int closed = fclose(file->stream) == 0;
    file->stream = NULL;
    if (status == VOCO_OK && !closed) {
        status = fail_errno("%s: cannot write", file->path);
    }
    if (status == VOCO_OK && rename(file->temporary, file->path) != 0) {
        status = fail_errno("%s: cannot rename the finished file to this name", file->path);
    }
    if (status != VOCO_OK) {
        (void)unlink(file->temporary);
    } else if (sync_folder_of(file->path) != 0) {
        status = fail_errno("%s: cannot sync its folder", file->path);
    }
    forget(file);
    return status;
}

void atomic_file_discard(struct atomic_file *file)
{
    if (file->stream != NULL) {
        (void)fclose(file->stream);
        (void)unlink(file->temporary);
    }
    forget(file);
}

int is_atomic_temporary(const char *name)
{
    return strstr(name, ".tmp.") != NULL;
}

void atomic_files_remove_abandoned(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *item = NULL;
    while (dir != NULL && (item = readdir(dir)) != NULL) {
        const char *ending = strstr(item->d_name, ".tmp.");
        long pid = 0;
        unsigned number = 0;
        char rest = '\0';
        struct stat info;
        if (ending != NULL && sscanf(ending, ".tmp.%ld.%u%c", &pid, &number, &rest) == 2 && pid > 0 &&
            kill((pid_t)pid, 0) != 0 && errno == ESRCH &&
            fstatat(dirfd(dir), item->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode) &&
            time(NULL) - info.st_mtime > 60) {
            (void)unlinkat(dirfd(dir), item->d_name, 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

enum voco_status make_folders(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = VOCO_OK;
    for (char *p = copy + 1; status == VOCO_OK; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        const char ended = *p;
        *p = '\0';
        struct stat info;
        if (mkdir(copy, 0777) != 0 && (stat(copy, &info) != 0 || !S_ISDIR(info.st_mode))) {
            status = fail_errno("%s: cannot create the folder", path);
        }
        *p = ended;
        if (ended == '\0') {
            break;
        }
    }
    free(copy);
    return status;
}
