#include "train/metrics_log.h"

#include "base/atomic_file.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The step of a line; -1 where the line is no object with one. */
static long long step_of(const char *line, size_t length)
{
    json_t *object = json_loadb(line, length, 0, NULL);
    const json_t *step = json_object_get(object, "step");
    const long long value = json_is_integer(step) ? (long long)json_integer_value(step) : -1;
    json_decref(object);
    return value;
}

/* Copies the lines that stay; *removed counts the others. An end that cannot be read, as a crash leaves it,
 * goes; in the middle it is an error. */
static enum voco_status copy_lines(FILE *out, FILE *in, const char *path, long long next_step,
                                   size_t *removed)
{
    char *line = NULL;
    size_t capacity = 0;
    size_t unreadable = 0;
    enum voco_status status = VOCO_OK;
    ssize_t length = 0;
    for (size_t number = 1; status == VOCO_OK && (length = getline(&line, &capacity, in)) > 0; number++) {
        const int whole = line[length - 1] == '\n';
        const long long step = whole ? step_of(line, (size_t)length) : -1;
        if (step < 0) {
            unreadable = unreadable == 0 ? number : unreadable;
            ++*removed;
        } else if (unreadable != 0) {
            status = fail(VOCO_BAD_INPUT, "%s:%zu: not a line of metrics", path, unreadable);
        } else if (step >= next_step) {
            ++*removed;
        } else if (fwrite(line, 1, (size_t)length, out) != (size_t)length) {
            status = fail_errno("%s: cannot write", path);
        }
    }
    if (status == VOCO_OK && ferror(in)) {
        status = fail_errno("%s: cannot read", path);
    }
    free(line);
    return status;
}

static enum voco_status forget_steps(const char *path, long long next_step)
{
    FILE *in = fopen(path, "rb");
    if (in == NULL) {
        return errno == ENOENT ? VOCO_OK : fail_errno("%s: cannot open", path);
    }
    struct atomic_file file;
    size_t removed = 0;
    enum voco_status status = atomic_file_open(&file, path);
    if (status == VOCO_OK) {
        status = copy_lines(file.stream, in, path, next_step, &removed);
        if (status == VOCO_OK && removed > 0) {
            status = atomic_file_commit(&file);
        } else {
            atomic_file_discard(&file);
        }
    }
    (void)fclose(in);
    return status;
}

enum voco_status metrics_log_open(struct metrics_log *log, const char *path, long long next_step)
{
    *log = (struct metrics_log){.descriptor = -1};
    const enum voco_status status = forget_steps(path, next_step);
    if (status != VOCO_OK) {
        return status;
    }
    log->path = strdup(path);
    if (log->path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    log->descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log->descriptor < 0) {
        const enum voco_status failed = fail_errno("%s: cannot open", path);
        metrics_log_close(log);
        return failed;
    }
    return VOCO_OK;
}

void metrics_log_close(struct metrics_log *log)
{
    if (log->path != NULL && log->descriptor >= 0) {
        (void)close(log->descriptor);
    }
    free(log->path);
    *log = (struct metrics_log){.descriptor = -1};
}

enum { line_size = 1024 };

static size_t add_number(char *line, size_t used, const char *key, double value)
{
    const int written = isfinite(value)
                            ? snprintf(line + used, line_size - used, ", \"%s\": %.9g", key, value)
                            : snprintf(line + used, line_size - used, ", \"%s\": null", key);
    return used + (size_t)written;
}

static size_t format_line(char line[line_size], const struct step_metrics *m)
{
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"loss", m->loss},
        {"intra", m->intra},
        {"inter", m->inter},
        {"reg", m->reg},
        {"position_accuracy", m->position_accuracy},
        {"correlation", m->correlation},
        {"feature_spread", m->feature_spread},
        {"effective_rank", m->effective_rank},
        {"learning_rate", m->learning_rate},
        {"grad_norm", m->grad_norm},
        {"skipped", m->skipped},
        {"seconds", m->seconds},
        {"crops_per_second", m->crops_per_second},
        {"communication_seconds", m->communication_seconds},
    };
    size_t used = (size_t)snprintf(line, line_size, "{\"step\": %lld", m->step);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        used = add_number(line, used, numbers[i].key, numbers[i].value);
    }
    return used + (size_t)snprintf(line + used, line_size - used, "}\n");
}

enum voco_status metrics_log_append(struct metrics_log *log, const struct step_metrics *metrics)
{
    char line[line_size];
    const size_t length = format_line(line, metrics);
    struct stat before;
    if (fstat(log->descriptor, &before) != 0) {
        return fail_errno("%s: cannot write", log->path);
    }
    for (size_t done = 0; done < length;) {
        const ssize_t written = write(log->descriptor, line + done, length - done);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            const enum voco_status status = fail_errno("%s: cannot write", log->path);
            /* Where even that fails, the next life removes the cut line. */
            (void)!ftruncate(log->descriptor, before.st_size);
            return status;
        }
        done += (size_t)written;
    }
    return VOCO_OK;
}
