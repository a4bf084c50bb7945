#include "formats/pt_archive.h"

#include "base/error.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

enum {
    beginning_bytes = 512, /* of the file: enough to tell zip, pickle and tar */
    tar_magic_at = 257,
    most_deflation = 1032, /* bytes that one deflated byte can stand for */
    most_growth = 16,      /* times the file: weights hardly shrink */
    free_growth = 1 << 16, /* bytes that a small file may have besides */
    most_entry_name = 512,
};

/* The first bytes are those of a file of another time or program: says which. */
static enum voco_status refuse_beginning(const char *path, const unsigned char *bytes, size_t count)
{
    static const char remedy[] = "load and save it again with PyTorch 1.6 or later: "
                                 "torch.save(torch.load(file), file)";
    /* LONG1 of 10 bytes: the magic number 0x1950a86a20f9469cfc6c that old files begin with. */
    static const unsigned char magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                          0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    if (count >= 2 + sizeof magic && bytes[0] == 0x80 && memcmp(bytes + 2, magic, sizeof magic) == 0) {
        return fail(VOCO_BAD_INPUT, "%s: has the form of PyTorch before 1.6; %s", path, remedy);
    }
    if (count >= tar_magic_at + 5 && memcmp(bytes + tar_magic_at, "ustar", 5) == 0) {
        return fail(VOCO_BAD_INPUT, "%s: a tar archive, the form of PyTorch before 0.4; %s", path, remedy);
    }
    if (count >= 2 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5) {
        return fail(VOCO_BAD_INPUT, "%s: a bare pickle, not a file of torch.save", path);
    }
    return fail(VOCO_BAD_INPUT, "%s: not a file of torch.save: no zip archive", path);
}

static enum voco_status check_beginning(const char *path, const unsigned char *bytes, size_t count)
{
    return count >= 4 && memcmp(bytes, "PK\3\4", 4) == 0 ? VOCO_OK : refuse_beginning(path, bytes, count);
}

/* libzip's words for what went wrong, under the status that fits. */
static enum voco_status zip_failure(const struct pt_archive *archive, zip_error_t *error, const char *what)
{
    const int code = zip_error_code_zip(error);
    const enum voco_status status = code == ZIP_ER_MEMORY ? VOCO_NO_MEMORY
                                    : code == ZIP_ER_READ || code == ZIP_ER_SEEK || code == ZIP_ER_OPEN
                                        ? VOCO_IO
                                        : VOCO_BAD_INPUT;
    return fail(status, "%s: %s: %s", archive->path, what, zip_error_strerror(error));
}

/* Takes the source over, whatever happens. */
static enum voco_status open_source(struct pt_archive *archive, zip_source_t *source, zip_error_t *error)
{
    archive->zip = source == NULL ? NULL : zip_open_from_source(source, ZIP_RDONLY, error);
    if (archive->zip != NULL) {
        return VOCO_OK;
    }
    if (source != NULL) {
        zip_source_free(source);
    }
    return zip_failure(archive, error, "cannot read it as a zip archive");
}

/* An entry of the folder whose name says what kind of file this is; `rest` is its name below the folder. */
static enum voco_status check_kind(const struct pt_archive *archive, const char *name, const char *rest)
{
    if (strcmp(rest, "constants.pkl") == 0 || strncmp(rest, "code/", 5) == 0) {
        return fail(VOCO_BAD_INPUT,
                    "%s: a TorchScript archive (it has \"%.200s\"), not a checkpoint of tensors; save the "
                    "state_dict() of the module with torch.save",
                    archive->path, name);
    }
    return VOCO_OK;
}

static enum voco_status find_folder(struct pt_archive *archive)
{
    const zip_int64_t count = zip_get_num_entries(archive->zip, 0);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(archive->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        const char *slash = name == NULL ? NULL : strchr(name, '/');
        if (slash == NULL) {
            continue;
        }
        const enum voco_status status = check_kind(archive, name, slash + 1);
        if (status != VOCO_OK) {
            return status;
        }
        if (archive->folder == NULL && strcmp(slash, "/data.pkl") == 0) {
            archive->folder = strndup(name, (size_t)(slash - name));
            if (archive->folder == NULL) {
                return fail(VOCO_NO_MEMORY, "%s: out of memory", archive->path);
            }
        }
    }
    return archive->folder != NULL
               ? VOCO_OK
               : fail(VOCO_BAD_INPUT, "%s: a zip archive, but not one of torch.save: it has no data.pkl",
                      archive->path);
}

/* The machines that voco runs on are little-endian, as are those that files come from. */
static enum voco_status check_byte_order(const struct pt_archive *archive)
{
    struct pt_entry entry;
    int found = 0;
    enum voco_status status = pt_archive_find(&entry, &found, archive, "byteorder");
    if (status != VOCO_OK || !found) {
        return status; /* PyTorch before 2.1 does not say */
    }
    char order[7] = "";
    struct pt_entry_reader reader;
    status = pt_entry_open(&reader, archive, &entry, 0);
    if (status == VOCO_OK) {
        status = pt_entry_read(&reader, order, entry.size < 6 ? (size_t)entry.size : 6);
        pt_entry_close(&reader);
    }
    if (status == VOCO_OK && (entry.size != 6 || strcmp(order, "little") != 0)) {
        status = fail(VOCO_UNSUPPORTED, "%s: its byte order is \"%s\"; only \"little\" is read",
                      archive->path, order);
    }
    return status;
}

static enum voco_status check_archive(struct pt_archive *archive)
{
    enum voco_status status = find_folder(archive);
    return status == VOCO_OK ? check_byte_order(archive) : status;
}

/* An open stream of a regular file, or NULL; `size` is its length. */
static FILE *open_stream(enum voco_status *status, uint64_t *size, const char *path)
{
    struct stat info;
    /* Without O_NONBLOCK, opening a named pipe would wait for a writer. */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const int known = descriptor >= 0 && fstat(descriptor, &info) == 0;
    FILE *stream = known && S_ISREG(info.st_mode) ? fdopen(descriptor, "rb") : NULL;
    if (stream != NULL) {
        *size = (uint64_t)info.st_size;
        return stream;
    }
    *status = known && !S_ISREG(info.st_mode) ? fail(VOCO_BAD_INPUT, "%s: not a file", path)
                                              : fail_errno("%s: cannot open", path);
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return NULL;
}

static enum voco_status open_file(struct pt_archive *archive)
{
    enum voco_status status = VOCO_OK;
    FILE *stream = open_stream(&status, &archive->size, archive->path);
    if (stream == NULL) {
        return status;
    }
    unsigned char beginning[beginning_bytes];
    const size_t count = fread(beginning, 1, sizeof beginning, stream);
    status = ferror(stream) ? fail_errno("%s: cannot read", archive->path)
                            : check_beginning(archive->path, beginning, count);
    if (status != VOCO_OK) {
        (void)fclose(stream);
        return status;
    }
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_filep_create(stream, 0, -1, &error); /* closes the stream in the end */
    if (source == NULL) {
        (void)fclose(stream);
    }
    status = open_source(archive, source, &error);
    zip_error_fini(&error);
    return status;
}

static enum voco_status start(struct pt_archive *archive, const char *path)
{
    *archive = (struct pt_archive){.path = strdup(path)};
    return archive->path != NULL ? VOCO_OK : fail(VOCO_NO_MEMORY, "%s: out of memory", path);
}

enum voco_status pt_archive_open(struct pt_archive *archive, const char *path)
{
    enum voco_status status = start(archive, path);
    if (status == VOCO_OK) {
        status = open_file(archive);
    }
    if (status == VOCO_OK) {
        status = check_archive(archive);
    }
    if (status != VOCO_OK) {
        pt_archive_close(archive);
    }
    return status;
}

enum voco_status pt_archive_open_memory(struct pt_archive *archive, const void *bytes, size_t size,
                                        const char *name)
{
    enum voco_status status = start(archive, name);
    if (status == VOCO_OK) {
        archive->size = size;
        status = check_beginning(name, bytes, size);
    }
    if (status == VOCO_OK) {
        zip_error_t error;
        zip_error_init(&error);
        status = open_source(archive, zip_source_buffer_create(bytes, size, 0, &error), &error);
        zip_error_fini(&error);
    }
    if (status == VOCO_OK) {
        status = check_archive(archive);
    }
    if (status != VOCO_OK) {
        pt_archive_close(archive);
    }
    return status;
}

void pt_archive_close(struct pt_archive *archive)
{
    if (archive->zip != NULL) {
        zip_discard(archive->zip);
    }
    free(archive->folder);
    free(archive->path);
    *archive = (struct pt_archive){0};
}

/* Whether an entry of these sizes can lie in a file of that many bytes, as a part of a checkpoint. */
static int can_be(const zip_stat_t *about, uint64_t file_size)
{
    if (about->comp_size > file_size) {
        return 0;
    }
    if (about->comp_method == ZIP_CM_STORE) {
        return about->size == about->comp_size;
    }
    return about->size / most_deflation <= about->comp_size &&
           (about->size <= free_growth || (about->size - free_growth) / most_growth <= file_size);
}

enum voco_status pt_archive_find(struct pt_entry *entry, int *found, const struct pt_archive *archive,
                                 const char *name)
{
    char full[2 * most_entry_name];
    *found = 0;
    const int length = snprintf(full, sizeof full, "%s/%s", archive->folder, name);
    if (length < 0 || (size_t)length >= sizeof full) {
        return fail(VOCO_BAD_INPUT, "%s: the name of an entry is longer than %d bytes", archive->path,
                    (int)sizeof full);
    }
    const zip_int64_t index = zip_name_locate(archive->zip, full, ZIP_FL_ENC_RAW);
    if (index < 0) {
        return VOCO_OK;
    }
    zip_stat_t about;
    const zip_uint64_t known = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_CRC;
    if (zip_stat_index(archive->zip, (zip_uint64_t)index, 0, &about) != 0 || (about.valid & known) != known) {
        return zip_failure(archive, zip_get_error(archive->zip), full);
    }
    if (about.comp_method != ZIP_CM_STORE && about.comp_method != ZIP_CM_DEFLATE) {
        return fail(VOCO_UNSUPPORTED, "%s: %s: compressed by method %d; only stored and deflated are read",
                    archive->path, full, (int)about.comp_method);
    }
    if (!can_be(&about, archive->size)) {
        return fail(VOCO_BAD_INPUT, "%s: %s: %llu bytes cannot lie in a file of %llu", archive->path, full,
                    (unsigned long long)about.size, (unsigned long long)archive->size);
    }
    *entry = (struct pt_entry){.index = (uint64_t)index,
                               .size = about.size,
                               .stored = about.comp_method == ZIP_CM_STORE,
                               .checksum = about.crc != 0};
    *found = 1;
    return VOCO_OK;
}

static enum voco_status entry_failure(const struct pt_entry_reader *reader, zip_error_t *error)
{
    const char *name = zip_get_name(reader->archive->zip, reader->entry.index, ZIP_FL_ENC_RAW);
    char what[most_entry_name];
    (void)snprintf(what, sizeof what, "%s", name != NULL ? name : "an entry");
    return zip_failure(reader->archive, error, what);
}

/* Reads and forgets. */
static enum voco_status skip(struct pt_entry_reader *reader, uint64_t count)
{
    unsigned char piece[16384];
    while (count > 0) {
        const size_t now = count < sizeof piece ? (size_t)count : sizeof piece;
        const enum voco_status status = pt_entry_read(reader, piece, now);
        if (status != VOCO_OK) {
            return status;
        }
        count -= now;
    }
    return VOCO_OK;
}

enum voco_status pt_entry_open(struct pt_entry_reader *reader, const struct pt_archive *archive,
                               const struct pt_entry *entry, uint64_t first)
{
    *reader = (struct pt_entry_reader){.archive = archive, .entry = *entry, .checked = entry->checksum};
    reader->file = zip_fopen_index(archive->zip, entry->index, 0);
    if (reader->file == NULL) {
        return entry_failure(reader, zip_get_error(archive->zip));
    }
    if (first > 0 && entry->stored && first <= INT64_MAX &&
        zip_fseek(reader->file, (zip_int64_t)first, SEEK_SET) == 0) {
        reader->position = first;
        reader->checked = 0;
        return VOCO_OK;
    }
    const enum voco_status status = skip(reader, first);
    if (status != VOCO_OK) {
        pt_entry_close(reader);
    }
    return status;
}

enum voco_status pt_entry_read(struct pt_entry_reader *reader, void *out, size_t count)
{
    unsigned char *to = out;
    for (size_t done = 0; done < count;) {
        const zip_int64_t got = zip_fread(reader->file, to + done, count - done);
        if (got < 0) {
            return entry_failure(reader, zip_file_get_error(reader->file));
        }
        if (got == 0) {
            return fail(VOCO_BAD_INPUT, "%s: cut short: entry %llu has fewer bytes than it says",
                        reader->archive->path, (unsigned long long)reader->entry.index);
        }
        done += (size_t)got;
    }
    reader->position += count;
    if (reader->checked && reader->position == reader->entry.size) {
        unsigned char beyond = 0; /* libzip compares the checksum when it finds the end, not before */
        const zip_int64_t got = zip_fread(reader->file, &beyond, 1);
        if (got < 0) {
            return entry_failure(reader, zip_file_get_error(reader->file));
        }
        if (got > 0) {
            return fail(VOCO_BAD_INPUT, "%s: entry %llu has more bytes than it says", reader->archive->path,
                        (unsigned long long)reader->entry.index);
        }
        reader->checked = 0;
    }
    return VOCO_OK;
}

void pt_entry_close(struct pt_entry_reader *reader)
{
    if (reader->file != NULL) {
        (void)zip_fclose(reader->file);
    }
    reader->file = NULL;
}
