#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/scratch_folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/voco-test-XXXXXX";

int scratch_folder_make(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

const char *scratch_folder(void)
{
    return folder;
}

char *scratch_path(char path[scratch_path_size], const char *name)
{
    (void)snprintf(path, scratch_path_size, "%s/%s", folder, name);
    return path;
}

/* Counts the files, and removes them where asked to. */
static int visit(int removing)
{
    int count = 0;
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (const struct dirent *entry; listing != NULL && (entry = readdir(listing)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            count++;
            if (removing) {
                (void)unlinkat(dirfd(listing), entry->d_name, 0);
            }
        }
    }
    if (listing != NULL) {
        (void)closedir(listing);
    }
    return count;
}

int scratch_files(void)
{
    return visit(0);
}

void scratch_empty(void)
{
    (void)visit(1);
}

int scratch_folder_remove(void **state)
{
    (void)state;
    scratch_empty();
    return rmdir(folder);
}

char *scratch_read(const char *path, long *size)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, 0, SEEK_END), 0);
    const long length = ftell(stream);
    assert_true(length >= 0);
    assert_int_equal(fseek(stream, 0, SEEK_SET), 0);
    char *bytes = malloc((size_t)length + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)length, stream), length);
    bytes[length] = '\0';
    (void)fclose(stream);
    if (size != NULL) {
        *size = length;
    }
    return bytes;
}

void scratch_write(const char *path, const void *bytes, unsigned long size)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
}
