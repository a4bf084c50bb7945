/* The checkpoints of a run's folder: finding the newest, removing the old. */
#include "train/checkpoint.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { file_name_size = 64 };

static void file_name(char name[file_name_size], long long step)
{
    (void)snprintf(name, file_name_size, "checkpoint-%08lld.safetensors", step);
}

enum voco_status checkpoint_path(char path[checkpoint_path_size], const char *run, long long step)
{
    char name[file_name_size];
    file_name(name, step);
    if (snprintf(path, checkpoint_path_size, "%s/%s", run, name) >= checkpoint_path_size) {
        return fail(VOCO_BAD_INPUT, "%s: the name of the run's folder is too long", run);
    }
    return VOCO_OK;
}

/* The step in a checkpoint's file name, -1 for any other name. */
static long long step_of(const char *name)
{
    static const char prefix[] = "checkpoint-";
    char again[file_name_size];
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return -1;
    }
    const long long step = strtoll(name + sizeof prefix - 1, NULL, 10);
    file_name(again, step);
    return step >= 0 && strcmp(name, again) == 0 ? step : -1;
}

static int descending(const void *a, const void *b)
{
    const long long x = *(const long long *)a;
    const long long y = *(const long long *)b;
    return (x < y) - (x > y);
}

/* The steps of the checkpoints in the folder, newest first; to be freed. A folder that is not there has none.
 */
static enum voco_status list_steps(long long **steps, size_t *count, const char *run)
{
    *steps = NULL;
    *count = 0;
    DIR *folder = opendir(run);
    if (folder == NULL) {
        return errno == ENOENT ? VOCO_OK : fail_errno("%s: cannot read the folder", run);
    }
    size_t capacity = 0;
    enum voco_status status = VOCO_OK;
    for (const struct dirent *entry; status == VOCO_OK && (entry = readdir(folder)) != NULL;) {
        const long long step = step_of(entry->d_name);
        if (step < 0) {
            continue;
        }
        if (*count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            long long *grown = reallocarray(*steps, capacity, sizeof *grown);
            if (grown == NULL) {
                status = fail(VOCO_NO_MEMORY, "%s: out of memory", run);
                break;
            }
            *steps = grown;
        }
        (*steps)[(*count)++] = step;
    }
    (void)closedir(folder);
    if (status == VOCO_OK && *count > 0) {
        qsort(*steps, *count, sizeof **steps, descending);
    }
    return status;
}

/* Whether the file is there whole and can be resumed from. */
static enum voco_status look_at(const char *path)
{
    struct checkpoint checkpoint;
    enum voco_status status = checkpoint_open(&checkpoint, path);
    if (status == VOCO_OK && !checkpoint.resumable) {
        status = fail(VOCO_BAD_INPUT, "%s: holds weights only", path);
    }
    checkpoint_close(&checkpoint);
    return status;
}

enum voco_status checkpoint_newest(char path[checkpoint_path_size], const char *run)
{
    long long *steps = NULL;
    size_t count = 0;
    int found = 0;
    path[0] = '\0';
    enum voco_status status = list_steps(&steps, &count, run);
    for (size_t i = 0; status == VOCO_OK && !found && i < count; i++) {
        status = checkpoint_path(path, run, steps[i]);
        if (status == VOCO_OK) {
            status = look_at(path);
            found = status == VOCO_OK;
        }
        if (status == VOCO_BAD_INPUT && i + 1 < count) {
            log_line(LOG_WARNING, "%s; looking for an older checkpoint", voco_error_message());
            status = VOCO_OK;
        }
    }
    if (!found) {
        path[0] = '\0';
    }
    if (status == VOCO_BAD_INPUT && count > 1) {
        status = fail(status, "%s: none of its %zu checkpoints is whole; the last: %s", run, count,
                      voco_error_message());
    }
    free(steps);
    return status;
}

enum voco_status checkpoint_find(char path[checkpoint_path_size], const char *file_or_run)
{
    struct stat info;
    if (stat(file_or_run, &info) != 0) {
        return fail_errno("%s", file_or_run);
    }
    if (!S_ISDIR(info.st_mode)) {
        return snprintf(path, checkpoint_path_size, "%s", file_or_run) < checkpoint_path_size
                   ? VOCO_OK
                   : fail(VOCO_BAD_INPUT, "%s: the name is too long", file_or_run);
    }
    const enum voco_status status = checkpoint_newest(path, file_or_run);
    return status == VOCO_OK && path[0] == '\0'
               ? fail(VOCO_BAD_INPUT, "%s: no checkpoint is in this folder", file_or_run)
               : status;
}

enum voco_status checkpoint_prune(const char *run, int keep)
{
    long long *steps = NULL;
    size_t count = 0;
    enum voco_status status = list_steps(&steps, &count, run);
    int whole = 0;
    for (size_t i = 0; status == VOCO_OK && i < count; i++) {
        char path[checkpoint_path_size];
        status = checkpoint_path(path, run, steps[i]);
        if (status != VOCO_OK) {
            break;
        }
        const int good = whole < keep && look_at(path) == VOCO_OK;
        if (!good && whole > 0 && unlink(path) != 0 && errno != ENOENT) {
            status = fail_errno("%s: cannot remove", path);
        }
        whole += good;
    }
    free(steps);
    return status;
}

/* The process number in NAME.tmp.<process>.<n>; 0 for any other name. */
static long writer_of(const char *name)
{
    if (!is_atomic_temporary(name)) {
        return 0;
    }
    const char *last = name;
    for (const char *next; (next = strstr(last, ".tmp.")) != NULL;) {
        last = next + 5;
    }
    char *end = NULL;
    const long process = strtol(last, &end, 10);
    const size_t digits = *end == '.' ? strspn(end + 1, "0123456789") : 0;
    return process > 0 && digits > 0 && end[1 + digits] == '\0' ? process : 0;
}

enum voco_status checkpoint_remove_temporaries(const char *run)
{
    DIR *folder = opendir(run);
    if (folder == NULL) {
        return errno == ENOENT ? VOCO_OK : fail_errno("%s: cannot read the folder", run);
    }
    enum voco_status status = VOCO_OK;
    for (const struct dirent *entry; status == VOCO_OK && (entry = readdir(folder)) != NULL;) {
        const long process = writer_of(entry->d_name);
        const int dead =
            process > 0 && (process == (long)getpid() || (kill((pid_t)process, 0) != 0 && errno == ESRCH));
        if (dead && unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT) {
            status = fail_errno("%s/%s: cannot remove", run, entry->d_name);
        }
    }
    (void)closedir(folder);
    return status;
}
