#include "base/machine_memory.h"

#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { path_room = PATH_MAX, text_room = 16384 };

/* The file's beginning as a string; 0 where it cannot be read. */
static int read_text(char text[text_room], const char *path)
{
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        return 0;
    }
    const size_t length = fread(text, 1, text_room - 1, stream);
    text[length] = '\0';
    (void)fclose(stream);
    return length > 0;
}

static int read_text_at(char text[text_room], const char *folder, const char *name)
{
    char path[path_room];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && length < path_room && read_text(text, path);
}

/* The number behind `key` at the beginning of a line; 0 where there is none. */
static uint64_t number_of(const char *text, const char *key)
{
    const size_t length = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0) {
            return strtoull(line + length, NULL, 10);
        }
    }
    return 0;
}

/* What the two versions of control groups call their files. */
struct group_files {
    const char *limit, *usage;
    const char *file_pages[2]; /* keys of memory.stat */
};
static const struct group_files version_1 = {
    "memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file ", "total_active_file "}};
static const struct group_files version_2 = {
    "memory.max", "memory.current", {"inactive_file ", "active_file "}};

/* What the group in this folder leaves; UINT64_MAX where it has no limit. */
static uint64_t left_in_group(const char *folder, const struct group_files *files)
{
    char text[text_room];
    if (!read_text_at(text, folder, files->limit) || strncmp(text, "max", 3) == 0) {
        return UINT64_MAX;
    }
    const uint64_t limit = strtoull(text, NULL, 10);
    if (!read_text_at(text, folder, files->usage)) {
        return limit;
    }
    uint64_t used = strtoull(text, NULL, 10);
    if (read_text_at(text, folder, "memory.stat")) {
        const uint64_t pages = number_of(text, files->file_pages[0]) + number_of(text, files->file_pages[1]);
        used -= pages < used ? pages : used;
    }
    return used < limit ? limit - used : 0;
}

/* The least that the group `path` (it begins with "/") and those above it leave. */
static uint64_t left_in_groups(const char *mount, const char *path, const struct group_files *files)
{
    char folder[path_room];
    const size_t base = strlen(mount);
    const int length = snprintf(folder, sizeof folder, "%s%s", mount, path);
    if (length < 0 || length >= path_room) {
        return UINT64_MAX;
    }
    uint64_t least = UINT64_MAX;
    for (size_t end = (size_t)length; end >= base; end--) {
        if (end == base || (folder[end] == '/' || folder[end] == '\0')) {
            folder[end] = '\0';
            const uint64_t left = left_in_group(folder, files);
            least = left < least ? left : least;
        }
    }
    return least;
}

/* Whether `word` is one of the comma-separated words that end at `end`. */
static int lists(const char *words, const char *end, const char *word)
{
    const size_t length = strlen(word);
    while (words < end) {
        const size_t here = strcspn(words, ",:");
        if (here == length && strncmp(words, word, length) == 0) {
            return 1;
        }
        words += here + 1;
    }
    return 0;
}

/* Lines of /proc/self/cgroup are "number:controllers:path"; version 2 has number 0 and no controllers. */
static uint64_t left_in_own_groups(const char *root)
{
    char text[text_room], file[path_room], mount[path_room];
    uint64_t least = UINT64_MAX;
    (void)snprintf(file, sizeof file, "%s/proc/self/cgroup", root);
    if (!read_text(text, file)) {
        return least;
    }
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        const char *controllers = strchr(line, ':');
        const char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL || path[1] != '/') {
            continue;
        }
        const int is_second = strncmp(line, "0::", 3) == 0;
        if (is_second || lists(controllers + 1, path, "memory")) {
            (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s", root, is_second ? "" : "/memory");
            const uint64_t left = left_in_groups(mount, path + 1, is_second ? &version_2 : &version_1);
            least = left < least ? left : least;
        }
    }
    return least;
}

uint64_t memory_available_at(const char *root)
{
    char text[text_room], path[path_room];
    (void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (!read_text(text, path)) {
        return 0;
    }
    const uint64_t machine = number_of(text, "MemAvailable:") * 1024;
    const uint64_t groups = left_in_own_groups(root);
    return groups < machine ? groups : machine;
}

uint64_t memory_available(void)
{
    return memory_available_at("");
}

/* From a file of /proc/self, where sizes are in kB. */
static uint64_t own_size(const char *name, const char *key)
{
    char text[text_room];
    return read_text_at(text, "/proc/self", name) ? number_of(text, key) * 1024 : 0;
}

uint64_t memory_resident(void)
{
    const uint64_t exact = own_size("smaps_rollup", "Rss:");
    return exact > 0 ? exact : own_size("status", "VmRSS:");
}

uint64_t memory_peak(void)
{
    return own_size("status", "VmHWM:");
}

void memory_give_back(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}
