#include "formats/pt_bytes.h"

#include "formats/zip_write.h"

#include <stdio.h>
#include <stdlib.h>

static void need(int condition)
{
    if (!condition) {
        (void)fprintf(stderr, "an archive cannot be made in memory\n");
        abort();
    }
}

unsigned char *pt_archive_bytes(size_t *size, const struct pt_bytes_entry *entries, size_t count)
{
    char *bytes = NULL;
    FILE *stream = open_memstream(&bytes, size);
    need(stream != NULL);
    struct zip_writer zip = {.stream = stream, .path = "archive in memory"};
    for (size_t i = 0; i < count; i++) {
        char name[256];
        (void)snprintf(name, sizeof name, "archive/%s", entries[i].name);
        need(zip_writer_add(&zip, name, entries[i].data, entries[i].size, 64) == VOCO_OK);
    }
    need(zip_writer_finish(&zip) == VOCO_OK);
    zip_writer_free(&zip);
    need(fclose(stream) == 0);
    return (unsigned char *)bytes;
}

unsigned char *pt_bytes(size_t *size, const void *pickle, size_t pickle_size)
{
    unsigned char storage[64];
    for (int i = 0; i < 64; i++) {
        storage[i] = (unsigned char)i;
    }
    const struct pt_bytes_entry entries[] = {{"data.pkl", pickle, pickle_size},
                                             {"byteorder", "little", 6},
                                             {"data/0", storage, 64},
                                             {"data/1", storage, 8}};
    return pt_archive_bytes(size, entries, 4);
}
