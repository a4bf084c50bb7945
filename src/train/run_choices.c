#include "train/run_choices.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { path_size = 4096, most_text = 1 << 24 };

static enum voco_status path_of(char path[path_size], const char *out)
{
    return snprintf(path, path_size, "%s/gpu-choices.txt", out) < path_size
               ? VOCO_OK
               : fail(VOCO_BAD_INPUT, "%s: the name of the run's folder is too long", out);
}

/* ---- the file ---- */

/* The whole file, to be freed; empty where there is none. */
static enum voco_status read_file(char **text, const char *path)
{
    FILE *stream = fopen(path, "r");
    *text = calloc(1, most_text + 1);
    enum voco_status status = VOCO_OK;
    if (*text == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: no memory for it", path);
    } else if (stream == NULL && errno != ENOENT) {
        status = fail_errno("%s: cannot open", path);
    } else if (stream != NULL) {
        const size_t length = fread(*text, 1, most_text, stream);
        if (ferror(stream) || length == most_text) {
            status = fail(VOCO_BAD_INPUT, "%s: cannot be read as a list of choices", path);
        }
    }
    if (stream != NULL) {
        (void)fclose(stream);
    }
    return status;
}

static enum voco_status write_file(const char *path, const char *text)
{
    struct atomic_file file;
    const enum voco_status status = atomic_file_open(&file, path);
    if (status != VOCO_OK) {
        return status;
    }
    (void)fputs(text, file.stream);
    return atomic_file_commit(&file);
}

/* ---- what all ranks do ---- */

enum voco_status run_choices_load(struct compute *c, const struct ranks *ranks, const char *out)
{
    char path[path_size], *text = NULL;
    enum choices_taken taken = CHOICES_KNOWN;
    if (c->take_choices == NULL) {
        return VOCO_OK;
    }
    enum voco_status status = path_of(path, out);
    if (status == VOCO_OK) {
        status = read_file(&text, path);
    }
    if (status == VOCO_OK && *text != '\0') {
        status = c->take_choices(c, text, &taken);
        status = status == VOCO_OK ? VOCO_OK : add_context(status, "%s", path);
    }
    free(text);
    if (status == VOCO_OK && taken == CHOICES_OF_ANOTHER_MACHINE) {
        log_line(
            LOG_WARNING,
            "%s: is of another GPU or other libraries: sums are made in other orders from here on, so the "
            "last digits differ",
            path);
    }
    return ranks_agree(ranks, status);
}

/* From the last rank to the first, whose choices so are everybody's. */
static enum voco_status take_all(struct compute *c, const char *pieces, int length, int size, int *changed)
{
    enum voco_status status = VOCO_OK;
    for (int rank = size - 1; rank >= 0 && status == VOCO_OK; rank--) {
        enum choices_taken taken;
        status = c->take_choices(c, pieces + (size_t)rank * (size_t)length, &taken);
        *changed |= taken == CHOICES_NEW;
    }
    return status;
}

enum voco_status run_choices_share(struct compute *c, const struct ranks *ranks, int *changed)
{
    *changed = 0;
    if (c->choices == NULL || ranks->size == 1) {
        return VOCO_OK;
    }
    char *own = c->choices(c);
    enum voco_status status = ranks_agree(ranks, compute_status(c));
    if (own == NULL || status != VOCO_OK) {
        free(own);
        return status;
    }
    int length = (int)strlen(own) + 1;
    ranks_largest(ranks, &length);
    char *pieces = calloc((size_t)ranks->size, (size_t)length);
    status = ranks_agree(
        ranks, pieces != NULL ? VOCO_OK : fail(VOCO_NO_MEMORY, "no memory for the choices of all processes"));
    if (pieces != NULL && status == VOCO_OK) {
        memcpy(pieces + (size_t)ranks->rank * (size_t)length, own, strlen(own) + 1);
        ranks_share(ranks, pieces, (size_t)length);
        status = ranks_agree(ranks, take_all(c, pieces, length, ranks->size, changed));
        ranks_largest(ranks, changed);
    }
    free(pieces);
    free(own);
    return status;
}

enum voco_status run_choices_save(struct compute *c, const struct ranks *ranks, const char *out)
{
    char path[path_size];
    int changed = 0;
    if (c->choices == NULL) {
        return VOCO_OK;
    }
    enum voco_status status = run_choices_share(c, ranks, &changed);
    if (status == VOCO_OK && ranks->rank == 0) {
        char *text = c->choices(c);
        status = text != NULL ? path_of(path, out) : compute_status(c);
        status = status == VOCO_OK ? write_file(path, text) : status;
        free(text);
    }
    return ranks_agree(ranks, status);
}
