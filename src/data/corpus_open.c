#include "data/corpus.h"

#include "base/error.h"
#include "base/log.h"
#include "data/dataset_entries.h"
#include "data/dataset_folder.h"
#include "data/dataset_list.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A set while its volumes are looked for. */
struct search {
    struct dataset *dataset;
    const struct corpus_set *set;
    const struct dicom_conversion *conversion; /* may be NULL */
    size_t listed;
    size_t missing;
    char *first_missing; /* "data/x.nii.gz does not exist" */
    char *failure;       /* of the first list that could not be read */
};

int is_corpus_name(const char *name)
{
    const size_t length = strlen(name);
    return (length > 5 && strcmp(name + length - 5, ".yaml") == 0) ||
           (length > 4 && strcmp(name + length - 4, ".yml") == 0);
}

static enum voco_status no_memory(const struct search *search)
{
    return fail(VOCO_NO_MEMORY, "%s: the list of its volumes does not fit in memory", search->set->name);
}

/* What the file is in the way of, as text; NULL where it may be a volume. */
static const char *why_unusable(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return errno == ENOENT || errno == ENOTDIR ? "does not exist" : strerror(errno);
    }
    return S_ISDIR(info.st_mode) ? "is a folder" : NULL;
}

/* Takes the entries from `first` on that are not there out again. */
static enum voco_status drop_missing(struct search *search, size_t first)
{
    struct dataset *dataset = search->dataset;
    const size_t end = dataset->count;
    size_t kept = first;
    for (size_t i = first; i < end; i++) {
        struct dataset_entry entry = dataset->entries[i];
        const char *reason = why_unusable(entry.path);
        if (reason != NULL && search->missing++ == 0) {
            (void)fail(VOCO_BAD_INPUT, "%s %s", entry.path, reason); /* makes it one line */
            search->first_missing = strdup(voco_error_message());
            if (search->first_missing == NULL) {
                return no_memory(search);
            }
        }
        /* Swapped, not overwritten, so that dataset_cut frees what is dropped. */
        if (reason == NULL) {
            dataset->entries[i] = dataset->entries[kept];
            dataset->entries[kept++] = entry;
        }
    }
    search->listed += end - first;
    dataset_cut(dataset, kept);
    return VOCO_OK;
}

/* ---- patterns ---- */

static int is_pattern(const char *list)
{
    return strpbrk(list, "*?[") != NULL;
}

/* root/list where nothing in the root is a pattern. */
static char *pattern_below(const char *root, const char *list)
{
    const size_t room = 2 * strlen(root) + strlen(list) + 2;
    char *pattern = malloc(room);
    if (pattern == NULL) {
        return NULL;
    }
    char *out = pattern;
    for (const char *in = list[0] == '/' ? "" : root; *in != '\0'; in++) {
        if (strchr("*?[]\\", *in) != NULL) {
            *out++ = '\\';
        }
        *out++ = *in;
    }
    (void)snprintf(out, room - (size_t)(out - pattern), "%s%s", list[0] == '/' ? "" : "/", list);
    return pattern;
}

/* `path` relative to the set's root where it was found below it. */
static const char *name_below(const struct search *search, const char *path)
{
    const size_t length = strlen(search->set->root);
    return strncmp(path, search->set->root, length) == 0 && path[length] == '/' ? path + length + 1 : path;
}

static enum voco_status add_match(struct search *search, const char *path)
{
    const char *root = search->set->root;
    const char *name = name_below(search, path);
    const char *slash = strrchr(path, '/');
    const char *last = slash != NULL ? slash + 1 : path;
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        if (!is_searched_folder(last)) {
            return VOCO_OK;
        }
        const enum voco_status status = dataset_add_folder(search->dataset, root, name, search->conversion);
        return status == VOCO_BAD_INPUT ? VOCO_OK : status; /* a folder without volumes */
    }
    return is_nifti_name(last) ? dataset_add(search->dataset, root, name, strlen(name), SPLIT_TRAINING)
                               : VOCO_OK;
}

static enum voco_status add_pattern(struct search *search, const char *list)
{
    const size_t before = search->dataset->count;
    enum voco_status status = VOCO_OK;
    glob_t found = {0};
    char *pattern = pattern_below(search->set->root, list);
    const int result = pattern != NULL ? glob(pattern, 0, NULL, &found) : GLOB_NOSPACE;
    if (result == GLOB_NOSPACE) {
        status = no_memory(search);
    }
    for (size_t i = 0; status == VOCO_OK && result == 0 && i < found.gl_pathc; i++) {
        status = add_match(search, found.gl_pathv[i]);
    }
    if (status == VOCO_OK && search->dataset->count == before) {
        status = fail(VOCO_BAD_INPUT, "%s: no .nii or .nii.gz file in %s is of this form", list,
                      search->set->root);
    }
    if (pattern != NULL) {
        globfree(&found);
    }
    free(pattern);
    return status;
}

/* ---- one set ---- */

static enum voco_status add_folder_below(struct search *search, const char *list)
{
    char *below = strdup(list);
    if (below == NULL) {
        return no_memory(search);
    }
    size_t length = strlen(below);
    while (length > 1 && below[length - 1] == '/') {
        below[--length] = '\0';
    }
    const char *start = below;
    while (start[0] == '.' && start[1] == '/') {
        start += 2;
    }
    const enum voco_status status = dataset_add_folder(
        search->dataset, search->set->root, strcmp(start, ".") == 0 ? "" : start, search->conversion);
    free(below);
    return status;
}

static enum voco_status add_listed(struct search *search, const char *path)
{
    const size_t before = search->dataset->count;
    const enum voco_status status =
        dataset_add_list(search->dataset, path, search->set->root, search->set->use);
    return status == VOCO_OK ? drop_missing(search, before) : status;
}

static enum voco_status add_source(struct search *search, const char *list)
{
    struct stat info;
    char *path = path_in_folder(search->set->root, list);
    if (path == NULL) {
        return no_memory(search);
    }
    enum voco_status status = VOCO_OK;
    if (stat(path, &info) != 0) {
        status = is_pattern(list) ? add_pattern(search, list) : fail_errno("%s: cannot open", path);
    } else if (S_ISDIR(info.st_mode)) {
        status = add_folder_below(search, list);
    } else if (is_nifti_name(path)) {
        status = dataset_add(search->dataset, search->set->root, list, strlen(list), SPLIT_TRAINING);
    } else if (is_corpus_name(path)) {
        status = fail(VOCO_BAD_INPUT, "%s: a corpus cannot be part of a corpus", path);
    } else {
        status = add_listed(search, path);
    }
    free(path);
    return status;
}

static enum voco_status add_root(struct search *search)
{
    char *list = path_in_folder(search->set->root, "dataset.json");
    if (list == NULL) {
        return no_memory(search);
    }
    const enum voco_status status =
        access(list, F_OK) == 0
            ? add_listed(search, list)
            : dataset_add_folder(search->dataset, search->set->root, "", search->conversion);
    free(list);
    return status;
}

/* What goes wrong but for memory and a wish to stop is a matter of this set alone. */
static enum voco_status keep_failure(struct search *search, enum voco_status status, size_t count)
{
    if (status != VOCO_BAD_INPUT && status != VOCO_IO && status != VOCO_UNSUPPORTED) {
        return status;
    }
    dataset_cut(search->dataset, count);
    if (search->failure == NULL) {
        search->failure = strdup(voco_error_message());
        if (search->failure == NULL) {
            return no_memory(search);
        }
    }
    return VOCO_OK;
}

/* VOCO_OK also where some of its lists do not need it. */
static enum voco_status check_root(const struct corpus_set *set)
{
    struct stat info;
    for (int i = 0; i < set->list_count; i++) {
        if (set->lists[i][0] == '/') {
            return VOCO_OK;
        }
    }
    if (stat(set->root, &info) != 0) {
        return errno == ENOENT ? fail(VOCO_BAD_INPUT, "%s: no such folder", set->root)
                               : fail_errno("%s: cannot open", set->root);
    }
    return S_ISDIR(info.st_mode) ? VOCO_OK : fail(VOCO_BAD_INPUT, "%s: not a folder", set->root);
}

static enum voco_status add_sources(struct search *search)
{
    const struct corpus_set *set = search->set;
    const size_t first = search->dataset->count;
    enum voco_status status = check_root(set);
    if (status != VOCO_OK) {
        return keep_failure(search, status, first);
    }
    if (set->list_count == 0) {
        return keep_failure(search, add_root(search), first);
    }
    for (int i = 0; status == VOCO_OK && i < set->list_count; i++) {
        const size_t before = search->dataset->count;
        status = keep_failure(search, add_source(search, set->lists[i]), before);
    }
    return status;
}

struct named {
    const char *name;
    size_t index;
};

static int by_name_and_index(const void *a, const void *b)
{
    const struct named *first = a;
    const struct named *second = b;
    const int order = strcmp(first->name, second->name);
    return order != 0 ? order : (first->index > second->index) - (first->index < second->index);
}

/* Of entries with the same name only the first stays. */
static enum voco_status drop_doubles(struct search *search, size_t first)
{
    struct dataset *dataset = search->dataset;
    const size_t count = dataset->count - first;
    struct named *names = count > 0 ? calloc(count, sizeof *names) : NULL;
    unsigned char *twice = count > 0 ? calloc(count, 1) : NULL;
    enum voco_status status = VOCO_OK;
    if (count > 0 && (names == NULL || twice == NULL)) {
        status = no_memory(search);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        names[i] = (struct named){dataset->entries[first + i].name, i};
    }
    if (count > 0) {
        qsort(names, count, sizeof *names, by_name_and_index);
    }
    for (size_t i = 1; i < count; i++) {
        twice[names[i].index] = strcmp(names[i].name, names[i - 1].name) == 0;
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!twice[i]) {
            const struct dataset_entry entry = dataset->entries[first + i];
            dataset->entries[first + i] = dataset->entries[first + kept];
            dataset->entries[first + kept++] = entry;
        }
    }
    dataset_cut(dataset, first + kept);
done:
    free(twice);
    free(names);
    return status;
}

static enum voco_status describe_problem(const struct search *search, struct dataset_set *set)
{
    char *missing = NULL;
    if (search->missing > 0 && asprintf(&missing, "%zu of %zu listed files cannot be used, the first: %s",
                                        search->missing, search->listed, search->first_missing) < 0) {
        return no_memory(search);
    }
    set->missing = search->missing;
    if (missing == NULL || search->failure == NULL) {
        set->problem = missing != NULL ? missing : (search->failure != NULL ? strdup(search->failure) : NULL);
        return search->failure != NULL && set->problem == NULL ? no_memory(search) : VOCO_OK;
    }
    const int written = asprintf(&set->problem, "%s; %s", search->failure, missing);
    free(missing);
    if (written < 0) {
        set->problem = NULL;
        return no_memory(search);
    }
    return VOCO_OK;
}

static enum voco_status open_set(struct dataset *dataset, const struct corpus_set *description,
                                 const struct dicom_conversion *conversion)
{
    struct search search = {.dataset = dataset, .set = description, .conversion = conversion};
    const size_t first = dataset->count;
    enum voco_status status = dataset_start_set(dataset, description->name);
    if (status != VOCO_OK) {
        return status;
    }
    status = add_sources(&search);
    if (status == VOCO_OK) {
        status = drop_doubles(&search, first);
    }
    for (size_t i = first; description->has_split && i < dataset->count; i++) {
        dataset->entries[i].split = description->split;
        dataset->entries[i].listed = description->split;
    }
    struct dataset_set *set = &dataset->sets[dataset->set_count - 1];
    set->has_preset = description->has_preset;
    set->preset = description->preset;
    set->repeat = description->repeat;
    if (status == VOCO_OK) {
        status = describe_problem(&search, set);
    }
    free(search.first_missing);
    free(search.failure);
    return status;
}

enum voco_status corpus_open(struct dataset *dataset, const struct corpus *corpus, const char *name,
                             const struct dicom_conversion *conversion)
{
    *dataset = (struct dataset){0};
    enum voco_status status = VOCO_OK;
    for (int s = 0; status == VOCO_OK && s < corpus->set_count; s++) {
        status = open_set(dataset, &corpus->sets[s], conversion);
    }
    for (int s = 0; status == VOCO_OK && s < dataset->set_count; s++) {
        const struct dataset_set *set = &dataset->sets[s];
        if (set->problem != NULL) {
            log_line(LOG_WARNING, "%s: %s%s: %s", name, set->name, set->count == 0 ? " is left out" : "",
                     set->problem);
        }
    }
    if (status == VOCO_OK && dataset->count == 0) {
        status = fail(VOCO_BAD_INPUT, "%s: no set has a volume; the first of %d, %s: %s", name,
                      dataset->set_count, dataset->sets[0].name, dataset->sets[0].problem);
    }
    if (status == VOCO_OK) {
        status = dataset_group_by_split(dataset);
    }
    if (status != VOCO_OK) {
        dataset_free(dataset);
    }
    return status;
}
