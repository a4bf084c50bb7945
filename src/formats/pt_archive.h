/* The zip archive that a .pt file is: its entries by name, read in pieces.
 *
 * All entries lie below one folder, NAME: NAME/data.pkl, NAME/data/0, ... (NAME is "archive" or the file's
 * name). Entries are stored or deflated; an archive may be zip64. The archive is checked as far as needed: no
 * entry is larger than the file can hold, nor, deflated, than 16 times the file and 64 KiB, so that no file
 * costs memory out of proportion. libzip reads it; one archive serves one thread at a time. */
#ifndef FORMATS_PT_ARCHIVE_H
#define FORMATS_PT_ARCHIVE_H

#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

struct pt_archive {
    uint64_t size; /* bytes of the file */
    /* private */
    char *path;
    struct zip *zip;
    char *folder; /* NAME */
};

struct pt_entry {
    uint64_t index; /* in the archive */
    uint64_t size;  /* bytes, unpacked */
    int stored;     /* not deflated */
    int checksum;   /* has one */
};

/* VOCO_IO where the system refuses; VOCO_BAD_INPUT where it is no archive of torch.save, with what to do
 * about it for files of PyTorch before 1.6 and for TorchScript. A failed archive needs no close. */
enum voco_status pt_archive_open(struct pt_archive *archive, const char *path);

/* The same from bytes, which must outlive the archive; `name` stands for the path in messages. */
enum voco_status pt_archive_open_memory(struct pt_archive *archive, const void *bytes, size_t size,
                                        const char *name);
void pt_archive_close(struct pt_archive *archive);

/* Finds NAME/`name`; `found` is 0 where there is none. VOCO_BAD_INPUT for an entry that cannot be true. */
enum voco_status pt_archive_find(struct pt_entry *entry, int *found, const struct pt_archive *archive,
                                 const char *name);

/* Reads an entry in pieces, from byte `first` on. */
struct pt_entry_reader {
    const struct pt_archive *archive;
    struct zip_file *file;
    struct pt_entry entry;
    uint64_t position;
    int checked; /* read from the first byte on, so that the checksum can be */
};

enum voco_status pt_entry_open(struct pt_entry_reader *reader, const struct pt_archive *archive,
                               const struct pt_entry *entry, uint64_t first);

/* Exactly `count` bytes, of which there must be that many. With the last byte of an entry that is read from
 * its first, its checksum is compared, unless it is 0: PyTorch can be told to write none. */
enum voco_status pt_entry_read(struct pt_entry_reader *reader, void *out, size_t count);
void pt_entry_close(struct pt_entry_reader *reader);

#endif
