#include "volume/nifti_header.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ends_with(const char *text, size_t length, const char *end)
{
    const size_t end_length = strlen(end);
    return length >= end_length && memcmp(text + length - end_length, end, end_length) == 0;
}

/* stem + extension, or the same with or without .gz where only that exists. */
static char *existing_path(const char *stem, size_t stem_length, const char *extension, int packed)
{
    char *path = NULL;
    for (int trial = 0; trial < 2; trial++) {
        const char *gz = packed != trial ? ".gz" : "";
        char *candidate = NULL;
        if (asprintf(&candidate, "%.*s%s%s", (int)stem_length, stem, extension, gz) < 0) {
            free(path);
            return NULL;
        }
        const int exists = access(candidate, F_OK) == 0;
        if (path == NULL || exists) {
            free(path);
            path = candidate;
        } else {
            free(candidate);
        }
        if (exists) {
            break;
        }
    }
    return path;
}

enum voco_status nifti_pair_paths(char **header_path, char **image_path, const char *path)
{
    *header_path = NULL;
    *image_path = NULL;
    size_t length = strlen(path);
    const int packed = ends_with(path, length, ".gz");
    length -= packed ? 3 : 0;
    if (!ends_with(path, length, ".hdr") && !ends_with(path, length, ".img")) {
        return VOCO_OK;
    }
    *header_path = existing_path(path, length - 4, ".hdr", packed);
    *image_path = existing_path(path, length - 4, ".img", packed);
    if (*header_path == NULL || *image_path == NULL) {
        free(*header_path);
        free(*image_path);
        *header_path = NULL;
        *image_path = NULL;
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    return VOCO_OK;
}
