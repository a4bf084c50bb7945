#include "data/dicom.h"

#include "data/dataset_folder.h"

#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { most_names = 20000, most_looks = 2000, deepest = 9 };

static int has_dicom_ending(const char *name)
{
    static const char *const endings[] = {".dcm", ".ima", ".dicom"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < sizeof endings / sizeof endings[0]; i++) {
        if (strcasecmp(dot, endings[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

/* "DICM" follows a preamble of 128 bytes (DICOM PS3.10, 7.1). */
static int begins_as_dicom(const char *path)
{
    unsigned char begin[132];
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) {
        return 0;
    }
    const size_t length = fread(begin, 1, sizeof begin, stream);
    (void)fclose(stream);
    return length == sizeof begin && memcmp(begin + 128, "DICM", 4) == 0;
}

int directory_holds_dicom(const char *path)
{
    char *const roots[] = {(char *)path, NULL};
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    if (walk == NULL) {
        return 0;
    }
    int names = 0, looks = 0, found = 0;
    FTSENT *item = NULL;
    while (names++ < most_names && (item = fts_read(walk)) != NULL) {
        if (item->fts_level > 0 && (item->fts_name[0] == '.' || item->fts_level > deepest)) {
            (void)fts_set(walk, item, FTS_SKIP);
        } else if (item->fts_info == FTS_F && is_nifti_name(item->fts_name)) {
            found = 0;
            break;
        } else if (item->fts_info == FTS_F && !found) {
            found = has_dicom_ending(item->fts_name) ||
                    (looks++ < most_looks && begins_as_dicom(item->fts_accpath));
        }
    }
    (void)fts_close(walk);
    return found;
}
