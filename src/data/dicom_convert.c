#include "data/dicom.h"

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "data/dataset_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const double seconds_between_reports = 10.0;

/* Exit statuses of dcm2niix with which what it has written is good (its kEXIT_SOME_OK_SOME_BAD and
 * kEXIT_INCOMPLETE_VOLUMES_FOUND). */
enum { exit_some_bad = 8, exit_incomplete = 10 };

struct conversion {
    char source[PATH_MAX]; /* absolute, so that it never looks like an option */
    char out[PATH_MAX];    /* without a slash at its end */
    char temporary[PATH_MAX];
    char state[PATH_MAX + 128]; /* of the source, what the file "converted" holds */
};

/* ---- the source ---- */

/* Writes what tells one state of the source from another. */
static enum voco_status look_at_source(struct conversion *conversion, const char *folder)
{
    if (realpath(folder, conversion->source) == NULL) {
        return fail_errno("%s: cannot open", folder);
    }
    char *const roots[] = {conversion->source, NULL};
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    if (walk == NULL) {
        return fail_errno("%s: cannot read the folder", folder);
    }
    struct stat out = {0};
    const int has_out = stat(conversion->out, &out) == 0;
    unsigned long files = 0;
    struct timespec newest = {0};
    FTSENT *item = NULL;
    while ((item = fts_read(walk)) != NULL) {
        const struct stat *info = item->fts_statp;
        const int is_out =
            has_out && item->fts_info == FTS_D && info->st_dev == out.st_dev && info->st_ino == out.st_ino;
        if (item->fts_level > 0 && (item->fts_name[0] == '.' || is_out)) {
            (void)fts_set(walk, item, FTS_SKIP);
        } else if (item->fts_info == FTS_F) {
            files++;
            if (info->st_mtim.tv_sec > newest.tv_sec ||
                (info->st_mtim.tv_sec == newest.tv_sec && info->st_mtim.tv_nsec > newest.tv_nsec)) {
                newest = info->st_mtim;
            }
        }
    }
    (void)fts_close(walk);
    (void)snprintf(conversion->state, sizeof conversion->state, "source %s\nfiles %lu\nnewest %lld.%09ld\n",
                   conversion->source, files, (long long)newest.tv_sec, newest.tv_nsec);
    return VOCO_OK;
}

/* ---- the folder of the result ---- */

static enum voco_status make_path(char path[PATH_MAX], const char *folder, const char *rest)
{
    const int length = snprintf(path, PATH_MAX, "%s%s", folder, rest);
    return length >= 0 && length < PATH_MAX ? VOCO_OK : fail(VOCO_BAD_INPUT, "%s: too long a path", folder);
}

static void remove_tree(const char *path)
{
    char *const roots[] = {(char *)path, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *item = NULL;
    while (walk != NULL && (item = fts_read(walk)) != NULL) {
        if (item->fts_info != FTS_D) {
            (void)remove(item->fts_accpath);
        }
    }
    if (walk != NULL) {
        (void)fts_close(walk);
    }
}

enum result_kind { RESULT_NONE, RESULT_FOREIGN, RESULT_STALE, RESULT_CURRENT };

/* What is at out_folder: nothing or an empty folder, something else, or a conversion. */
static enum result_kind kind_of_result(const struct conversion *conversion)
{
    char path[PATH_MAX];
    char text[sizeof conversion->state] = "";
    if (make_path(path, conversion->out, "/converted") != VOCO_OK) {
        return RESULT_FOREIGN;
    }
    FILE *stream = fopen(path, "rb");
    if (stream != NULL) {
        text[fread(text, 1, sizeof text - 1, stream)] = '\0';
        (void)fclose(stream);
        return strcmp(text, conversion->state) == 0
                   ? RESULT_CURRENT
                   : (strncmp(text, "source ", 7) == 0 ? RESULT_STALE : RESULT_FOREIGN);
    }
    struct stat info;
    if (lstat(conversion->out, &info) != 0) {
        return RESULT_NONE;
    }
    DIR *dir = opendir(conversion->out);
    int items = dir == NULL;
    const struct dirent *item = NULL;
    while (dir != NULL && (item = readdir(dir)) != NULL) {
        items += strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return items == 0 ? RESULT_NONE : RESULT_FOREIGN;
}

static size_t count_volumes(const char *folder)
{
    size_t count = 0;
    DIR *dir = opendir(folder);
    const struct dirent *item = NULL;
    while (dir != NULL && (item = readdir(dir)) != NULL) {
        count += (size_t)is_nifti_name(item->d_name);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return count;
}

/* Makes the temporary folder `out_folder`. */
static enum voco_status put_in_place(const struct conversion *conversion)
{
    char path[PATH_MAX];
    char old[PATH_MAX];
    struct atomic_file marker = {0};
    enum voco_status status = make_path(path, conversion->temporary, "/converted");
    if (status == VOCO_OK) {
        status = make_path(old, conversion->temporary, ".old");
    }
    if (status == VOCO_OK) {
        status = atomic_file_open(&marker, path);
    }
    if (status == VOCO_OK) {
        (void)fputs(conversion->state, marker.stream);
        status = atomic_file_commit(&marker);
    }
    if (status != VOCO_OK) {
        return status;
    }
    const int had_old = rename(conversion->out, old) == 0;
    if (rename(conversion->temporary, conversion->out) != 0) {
        status = fail_errno("%s: cannot rename %s to it", conversion->out, conversion->temporary);
    }
    if (had_old) {
        remove_tree(old);
    }
    return status;
}

/* ---- dcm2niix ---- */

static enum voco_status spawn(pid_t *child, struct conversion *conversion, const char *log)
{
    char *const arguments[] = {"dcm2niix",
                               "-g",
                               "i", /* whatever the user's own defaults are */
                               "-z",
                               "y", /* .nii.gz */
                               "-b",
                               "n", /* no sidecar with what the headers say of the patient */
                               "-d",
                               "9", /* folders below, as deep as it goes */
                               "-f",
                               "%j_%s", /* series UID and number: no two series share it */
                               "-o",
                               conversion->temporary,
                               conversion->source,
                               NULL};
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error == 0) {
        error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        error = error != 0
                    ? error
                    : posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        error = error != 0 ? error : posix_spawn_file_actions_adddup2(&actions, 1, 2);
        error = error != 0 ? error : posix_spawnp(child, arguments[0], &actions, NULL, arguments, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    if (error == ENOENT) {
        return fail(VOCO_UNSUPPORTED,
                    "%s: holds DICOM files and dcm2niix is not installed: apt-get install dcm2niix",
                    conversion->source);
    }
    errno = error;
    return error == 0 ? VOCO_OK : fail_errno("%s: cannot run dcm2niix", conversion->source);
}

/* Waits for it, saying how far it is; kills it where the caller wants to stop. */
static enum voco_status wait_for(pid_t child, int *result, const struct conversion *conversion,
                                 const volatile sig_atomic_t *stop)
{
    const struct timespec pause = {0, 50000000};
    double next_report = seconds_now() + seconds_between_reports;
    int told = 0;
    pid_t ended = 0;
    while ((ended = waitpid(child, result, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        if (stop != NULL && *stop && !told) {
            told = 1;
            (void)kill(child, SIGTERM);
        }
        if (seconds_now() >= next_report) {
            next_report += seconds_between_reports;
            log_line(LOG_PROGRESS, "%s: %zu volumes converted", conversion->source,
                     count_volumes(conversion->temporary));
        }
        (void)nanosleep(&pause, NULL);
    }
    if (ended < 0) {
        return fail_errno("%s: cannot wait for dcm2niix", conversion->source);
    }
    return stop != NULL && *stop
               ? fail(VOCO_STOPPED, "%s: stopped while converting DICOM", conversion->source)
               : VOCO_OK;
}

/* The last line of the log that is not empty, cut to `size`. */
static void last_line(char *line, size_t size, const char *log)
{
    char *text = NULL;
    size_t room = 0;
    FILE *stream = fopen(log, "rb");
    (void)snprintf(line, size, "it printed nothing");
    while (stream != NULL && getline(&text, &room, stream) > 0) {
        text[strcspn(text, "\r\n")] = '\0';
        if (text[0] != '\0') {
            (void)snprintf(line, size, "%s", text);
        }
    }
    free(text);
    if (stream != NULL) {
        (void)fclose(stream);
    }
}

/* What the exit status means. */
static enum voco_status judge(int result, const struct conversion *conversion, const char *log)
{
    char line[256];
    char how[64] = "failed";
    last_line(line, sizeof line, log);
    const int code = WIFEXITED(result) ? WEXITSTATUS(result) : -1;
    const size_t volumes = count_volumes(conversion->temporary);
    if (volumes > 0 && (code == exit_some_bad || code == exit_incomplete)) {
        log_line(LOG_WARNING, "%s: dcm2niix could not convert all of it (exit status %d): %s",
                 conversion->source, code, line);
        return VOCO_OK;
    }
    if (code == 0 && volumes > 0) {
        return VOCO_OK;
    }
    if (code >= 0) {
        (void)snprintf(how, sizeof how, code == 0 ? "made no volume of it" : "failed with exit status %d",
                       code);
    } else if (WIFSIGNALED(result)) {
        (void)snprintf(how, sizeof how, "was ended by signal %d", WTERMSIG(result));
    }
    char kept[PATH_MAX];
    if (make_path(kept, conversion->out, ".log") == VOCO_OK && rename(log, kept) == 0) {
        return fail(VOCO_BAD_INPUT, "%s: dcm2niix %s: %s (all it said: %s)", conversion->source, how, line,
                    kept);
    }
    return fail(VOCO_BAD_INPUT, "%s: dcm2niix %s: %s", conversion->source, how, line);
}

static enum voco_status run(struct conversion *conversion, const volatile sig_atomic_t *stop)
{
    char log[PATH_MAX];
    pid_t child = 0;
    int result = 0;
    enum voco_status status = make_path(log, conversion->temporary, "/dcm2niix.log");
    if (status == VOCO_OK) {
        status = spawn(&child, conversion, log);
    }
    if (status == VOCO_OK) {
        status = wait_for(child, &result, conversion, stop);
    }
    return status == VOCO_OK ? judge(result, conversion, log) : status;
}

enum voco_status convert_dicom(const char *folder, const char *out_folder, const volatile sig_atomic_t *stop)
{
    struct conversion conversion = {0};
    char ending[32];
    (void)snprintf(ending, sizeof ending, ".tmp.%ld", (long)getpid());
    enum voco_status status = make_path(conversion.out, out_folder, "");
    for (size_t length = strlen(conversion.out); length > 1 && conversion.out[length - 1] == '/';) {
        conversion.out[--length] = '\0';
    }
    if (status == VOCO_OK) {
        status = make_path(conversion.temporary, conversion.out, ending);
    }
    if (status == VOCO_OK) {
        status = look_at_source(&conversion, folder);
    }
    if (status != VOCO_OK) {
        return status;
    }
    const enum result_kind kind = kind_of_result(&conversion);
    if (kind == RESULT_CURRENT) {
        return VOCO_OK;
    }
    if (kind == RESULT_FOREIGN) {
        return fail(VOCO_BAD_INPUT, "%s: holds something else than converted DICOM series", out_folder);
    }
    log_line(LOG_INFO, "%s holds DICOM: converting with dcm2niix to %s", folder, out_folder);
    remove_tree(conversion.temporary); /* of a process of the same number that was killed */
    status = make_folders(conversion.temporary);
    if (status == VOCO_OK) {
        status = run(&conversion, stop);
    }
    const size_t volumes = count_volumes(conversion.temporary);
    if (status == VOCO_OK) {
        status = put_in_place(&conversion);
    }
    if (status != VOCO_OK) {
        remove_tree(conversion.temporary);
        return status;
    }
    log_line(LOG_INFO, "%s: %zu volumes converted", folder, volumes);
    return VOCO_OK;
}
