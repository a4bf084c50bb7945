#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/file_folder.h"

#include "base/folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

char file_folder[] = "/tmp/voco-formats-XXXXXX";

int make_file_folder(void **state)
{
    (void)state;
    return mkdtemp(file_folder) == NULL ? -1 : 0;
}

int remove_file_folder(void **state)
{
    (void)state;
    return remove_folder(file_folder) == VOCO_OK ? 0 : -1;
}

char *in_folder(char path[256], const char *name)
{
    (void)snprintf(path, 256, "%s/%s", file_folder, name);
    return path;
}

int files_in_folder(void)
{
    int count = 0;
    DIR *listing = opendir(file_folder);
    assert_non_null(listing);
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(listing);
    return count;
}
