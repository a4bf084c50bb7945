#include "store/temporary_folder.h"

#include "base/error.h"
#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { seconds_until_abandoned = 3600 };

void host_word(char word[host_word_size])
{
    if (gethostname(word, host_word_size) != 0) {
        word[0] = '\0';
    }
    word[host_word_size - 1] = '\0';
    for (char *c = word; *c != '\0'; c++) {
        *c = *c == '/' || *c == '.' ? '_' : *c;
    }
}

char *temporary_folder_path(const char *folder, uint64_t key)
{
    static atomic_uint serial;
    char host[host_word_size];
    char *path = NULL;
    host_word(host);
    return asprintf(&path, "%s/.%016llx.%s.%ld.%u.tmp", folder, (unsigned long long)key, host, (long)getpid(),
                    atomic_fetch_add(&serial, 1U)) < 0
               ? NULL
               : path;
}

/* Whether a name is that of a temporary folder: then whose. */
static int parse_temporary(char host[host_word_size], long *pid, const char *name)
{
    char end[8] = "";
    unsigned long long key = 0;
    unsigned number = 0;
    return sscanf(name, ".%16llx.%64[^.].%ld.%u.%7s", &key, host, pid, &number, end) == 5 &&
           strcmp(end, "tmp") == 0;
}

/* When anything in it changed last. */
static time_t last_written(int folder, const char *name)
{
    static const char *const parts[] = {"", "/zarr.json", "/0/c/0/0/0", "/window/c/0/0/0"};
    time_t newest = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char path[512];
        struct stat info;
        if (snprintf(path, sizeof path, "%s%s", name, parts[i]) < (int)sizeof path &&
            fstatat(folder, path, &info, 0) == 0 && info.st_mtime > newest) {
            newest = info.st_mtime;
        }
    }
    return newest;
}

static int is_abandoned(int folder, const char *name)
{
    char host[host_word_size];
    char own[host_word_size];
    long pid = 0;
    if (!parse_temporary(host, &pid, name)) {
        return 0;
    }
    host_word(own);
    if (strcmp(host, own) == 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH) {
        return 1;
    }
    return time(NULL) - last_written(folder, name) > seconds_until_abandoned;
}

enum voco_status temporary_folders_remove_abandoned(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return fail_errno("%s: cannot read the folder", folder);
    }
    enum voco_status status = VOCO_OK;
    const struct dirent *item = NULL;
    while (status == VOCO_OK && (item = readdir(dir)) != NULL) {
        char *path = NULL;
        if (is_abandoned(dirfd(dir), item->d_name)) {
            status = asprintf(&path, "%s/%s", folder, item->d_name) < 0
                         ? fail(VOCO_NO_MEMORY, "%s: out of memory", folder)
                         : remove_folder(path);
            free(path);
        }
    }
    closedir(dir);
    return status;
}
