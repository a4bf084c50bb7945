#include "store/skipped_source.h"

#include "base/atomic_file.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { longest_message = 4096 };

static char *note_path(const char *folder, uint64_t key)
{
    char *path = NULL;
    return asprintf(&path, "%s/.%016llx.skipped", folder, (unsigned long long)key) < 0 ? NULL : path;
}

char *skipped_source_read(const char *folder, uint64_t key)
{
    char *path = note_path(folder, key);
    FILE *stream = path != NULL ? fopen(path, "rb") : NULL;
    char *message = stream != NULL ? malloc(longest_message) : NULL;
    if (message != NULL) {
        message[fread(message, 1, longest_message - 1, stream)] = '\0';
        message[strcspn(message, "\n")] = '\0';
        if (message[0] == '\0') { /* never written like that */
            free(message);
            message = NULL;
        }
    }
    if (stream != NULL) {
        (void)fclose(stream);
    }
    free(path);
    return message;
}

enum voco_status skipped_source_write(const char *folder, uint64_t key, const char *message)
{
    char *path = note_path(folder, key);
    if (path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    }
    struct atomic_file file;
    enum voco_status status = atomic_file_open(&file, path);
    if (status == VOCO_OK) {
        (void)fprintf(file.stream, "%s\n", message); /* a failure stays in the stream */
        status = atomic_file_commit(&file);
    }
    free(path);
    return status;
}

void skipped_source_forget(const char *folder, uint64_t key)
{
    char *path = note_path(folder, key);
    if (path != NULL) {
        (void)unlink(path);
        free(path);
    }
}
