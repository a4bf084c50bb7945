#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/data_folder.h"

#include "base/atomic_file.h"
#include "base/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char data_folder[64];

int make_data_folder(void **state)
{
    (void)state;
    snprintf(data_folder, sizeof data_folder, "/tmp/voco_data_XXXXXX");
    assert_non_null(mkdtemp(data_folder));
    return 0;
}

int remove_data_folder(void **state)
{
    (void)state;
    return remove_folder(data_folder) == VOCO_OK ? 0 : -1;
}

const char *in_folder(const char *name)
{
    static char paths[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", data_folder, name);
    return paths[next];
}

void make_above(const char *name)
{
    char above[256];
    snprintf(above, sizeof above, "%s", in_folder(name));
    *strrchr(above, '/') = '\0';
    assert_int_equal(make_folders(above), VOCO_OK);
}

void put(const char *name, const char *text)
{
    make_above(name);
    FILE *stream = fopen(in_folder(name), "wb");
    assert_non_null(stream);
    assert_true(fputs(text, stream) >= 0);
    assert_int_equal(fclose(stream), 0);
}
