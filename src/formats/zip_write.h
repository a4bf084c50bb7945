/* Writing a zip archive of stored (uncompressed) entries whose data is aligned, as torch.save does it.
 *
 * libzip reads archives here but cannot write these: it pads nothing, keeps all sources until the archive is
 * closed and writes its own file. Of the format (PKWARE's APPNOTE.TXT) this needs local headers, the central
 * directory and their zip64 forms. An entry's checksum is known before its header is written, because its
 * data lies in memory whole; there are no data descriptors. Padding is an extra field "FB", PyTorch's own.
 *
 *     struct zip_writer zip = {.stream = stream, .path = path};
 *     zip_writer_add(&zip, "archive/data/0", data, size, 64);       any number
 *     zip_writer_finish(&zip);
 *     zip_writer_free(&zip);
 *
 * The stream stands at the archive's beginning and is only written to, never moved. */
#ifndef FORMATS_ZIP_WRITE_H
#define FORMATS_ZIP_WRITE_H

#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct zip_writer {
    FILE *stream;     /* borrowed */
    const char *path; /* borrowed; for messages */
    /* private */
    uint64_t offset; /* bytes written */
    struct zip_written *entries;
    size_t count, capacity;
};

/* The data begins at a multiple of `alignment` (a power of two, at most 4096) from the archive's beginning.
 * The name, at most 1024 bytes, is copied; names must differ. VOCO_IO where the stream refuses. */
enum voco_status zip_writer_add(struct zip_writer *zip, const char *name, const void *data, size_t size,
                                size_t alignment);

/* Writes the central directory. */
enum voco_status zip_writer_finish(struct zip_writer *zip);

void zip_writer_free(struct zip_writer *zip);

#endif
