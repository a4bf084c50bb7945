#include "data/dataset_list.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A list of millions of volumes stays below this. */
static const size_t longest_list = (size_t)1 << 30;

enum voco_status dataset_read_text(char **text, size_t *length, const char *path)
{
    *text = NULL;
    enum voco_status status = VOCO_OK;
    struct stat info;
    FILE *stream = fopen(path, "rb");
    if (stream == NULL || fstat(fileno(stream), &info) != 0) {
        status = fail_errno("%s: cannot open", path);
        goto done;
    }
    if (info.st_size > (off_t)longest_list) {
        status = fail(VOCO_BAD_INPUT, "%s: too long for a list of volumes", path);
        goto done;
    }
    *text = malloc((size_t)info.st_size + 1);
    if (*text == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: the list does not fit in memory", path);
        goto done;
    }
    *length = fread(*text, 1, (size_t)info.st_size, stream);
    if (ferror(stream)) {
        status = fail_errno("%s: cannot read", path);
    }
done:
    if (stream != NULL) {
        (void)fclose(stream);
    }
    if (status != VOCO_OK) {
        free(*text);
        *text = NULL;
    }
    return status;
}

static int looks_like_json(const char *path, const char *text, size_t length)
{
    const size_t name_length = strlen(path);
    size_t first = 0;
    while (first < length && strchr(" \t\r\n", text[first]) != NULL && text[first] != '\0') {
        first++;
    }
    return (name_length >= 5 && strcmp(path + name_length - 5, ".json") == 0) ||
           (first < length && text[first] == '{');
}

enum voco_status dataset_add_list(struct dataset *dataset, const char *list, const char *folder,
                                  unsigned parts)
{
    char *text = NULL;
    size_t length = 0;
    enum voco_status status = dataset_read_text(&text, &length, list);
    if (status == VOCO_OK) {
        status = looks_like_json(list, text, length)
                     ? dataset_add_json(dataset, text, length, list, folder, parts)
                     : dataset_add_text(dataset, text, length, list, folder);
    }
    free(text);
    return status;
}
