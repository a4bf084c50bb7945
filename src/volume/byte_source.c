#include "volume/byte_source.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { buffer_size = 1 << 18 };

enum source_state {
    source_open,
    source_ended,        /* in order */
    source_cut,          /* gzip: the input ended inside a member */
    source_damaged,      /* gzip: no valid deflate stream */
    source_bad_checksum, /* gzip: unpacked bytes are not what the trailer says */
    source_unreadable,   /* read() failed */
};

struct byte_source {
    char *name;
    int file; /* -1: memory */
    int is_gzip;
    int error;   /* errno of read() */
    int members; /* gzip members that ended in order */
    enum source_state state;
    uint64_t stored;           /* bytes before unpacking */
    const unsigned char *next; /* plain: what is buffered and not yet delivered */
    size_t available;
    struct inflate_state inflate; /* gzip: its next_in and avail_in say what is buffered */
    unsigned char *buffer;        /* of files */
};

/* Refills next and available when they are used up. */
static void refill(struct byte_source *source)
{
    if (source->available > 0 || source->file < 0 || source->state != source_open) {
        return;
    }
    ssize_t count;
    do {
        count = read(source->file, source->buffer, buffer_size);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        source->error = errno;
        source->state = source_unreadable;
        return;
    }
    source->next = source->buffer;
    source->available = (size_t)count;
}

static void recognise(struct byte_source *source)
{
    refill(source);
    source->is_gzip = source->available >= 2 && source->next[0] == 0x1f && source->next[1] == 0x8b;
    isal_inflate_init(&source->inflate);
    source->inflate.crc_flag = ISAL_GZIP;
}

static struct byte_source *new_source(const char *name)
{
    struct byte_source *source = calloc(1, sizeof *source);
    char *copy = strdup(name);
    if (source == NULL || copy == NULL) {
        free(copy);
        free(source);
        return NULL;
    }
    source->name = copy;
    source->file = -1;
    return source;
}

static enum voco_status open_regular_file(struct byte_source *source, const char *path)
{
    /* Not to block on a pipe, which is refused below. */
    source->file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source->file < 0) {
        return fail_errno("%s", path);
    }
    struct stat info;
    if (fstat(source->file, &info) != 0) {
        return fail_errno("%s", path);
    }
    if (!S_ISREG(info.st_mode)) {
        return fail(VOCO_BAD_INPUT, "%s: is %s, not a file", path,
                    S_ISDIR(info.st_mode) ? "a folder" : "a pipe or a device");
    }
    if (info.st_size == 0) {
        return fail(VOCO_BAD_INPUT, "%s: the file is empty", path);
    }
    source->stored = (uint64_t)info.st_size;
    return VOCO_OK;
}

enum voco_status byte_source_open(struct byte_source **out, const char *path)
{
    *out = NULL;
    struct byte_source *source = new_source(path);
    if (source == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = open_regular_file(source, path);
    if (status != VOCO_OK) {
        goto failed;
    }
    source->buffer = malloc(buffer_size);
    if (source->buffer == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
        goto failed;
    }
    recognise(source);
    *out = source;
    return VOCO_OK;

failed:
    byte_source_close(source);
    return status;
}

enum voco_status byte_source_open_memory(struct byte_source **out, const void *bytes, size_t count,
                                         const char *name)
{
    *out = NULL;
    if (count == 0) {
        return fail(VOCO_BAD_INPUT, "%s: the file is empty", name);
    }
    struct byte_source *source = new_source(name);
    if (source == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", name);
    }
    source->next = bytes;
    source->available = count;
    source->stored = count;
    recognise(source);
    *out = source;
    return VOCO_OK;
}

void byte_source_close(struct byte_source *source)
{
    if (source == NULL) {
        return;
    }
    if (source->file >= 0) {
        (void)close(source->file);
    }
    free(source->buffer);
    free(source->name);
    free(source);
}

static size_t read_plain(struct byte_source *source, unsigned char *out, size_t count)
{
    size_t done = 0;
    while (done < count && source->state == source_open) {
        refill(source);
        if (source->available == 0) {
            if (source->state == source_open) {
                source->state = source_ended;
            }
            break;
        }
        const size_t piece = source->available < count - done ? source->available : count - done;
        memcpy(out + done, source->next, piece);
        source->next += piece;
        source->available -= piece;
        done += piece;
    }
    return done;
}

/* After a member: another one begins, or the stream is over. What follows and is no member is ignored, as
 * gzip does. */
static int next_member_begins(struct byte_source *source)
{
    source->members++;
    refill(source);
    if (source->available == 0 || source->next[0] != 0x1f ||
        (source->available > 1 && source->next[1] != 0x8b)) {
        return 0;
    }
    isal_inflate_reset(&source->inflate);
    return 1;
}

/* One call of isal_inflate on what is buffered; moves the state on. */
static void inflate_piece(struct byte_source *source)
{
    struct inflate_state *inflate = &source->inflate;
    enum { most_at_once = 1 << 30 };
    const uint32_t offered = source->available < most_at_once ? (uint32_t)source->available : most_at_once;
    const uint32_t room = inflate->avail_out;
    inflate->next_in = (uint8_t *)source->next;
    inflate->avail_in = offered;
    const int result = isal_inflate(inflate);
    const uint32_t used = offered - inflate->avail_in;
    source->next += used;
    source->available -= used;
    if (result == ISAL_INCORRECT_CHECKSUM) {
        source->state = source_bad_checksum;
    } else if ((result == ISAL_INVALID_WRAPPER || result == ISAL_UNSUPPORTED_METHOD) && source->members > 0) {
        source->state = source_ended;
    } else if (result < 0 || result == ISAL_NEED_DICT) {
        source->state = source_damaged;
    } else if (used == 0 && inflate->avail_out == room && inflate->block_state != ISAL_BLOCK_FINISH) {
        source->state = source_cut;
    }
}

static size_t read_gzip(struct byte_source *source, unsigned char *out, size_t count)
{
    struct inflate_state *inflate = &source->inflate;
    enum { most_at_once = 1 << 30 };
    size_t done = 0;
    while (done < count && source->state == source_open) {
        const size_t wanted = count - done < most_at_once ? count - done : most_at_once;
        inflate->next_out = out + done;
        inflate->avail_out = (uint32_t)wanted;
        while (inflate->avail_out > 0 && source->state == source_open) {
            if (inflate->block_state == ISAL_BLOCK_FINISH && !next_member_begins(source)) {
                if (source->state == source_open) {
                    source->state = source_ended;
                }
                break;
            }
            refill(source);
            if (source->state == source_open) {
                inflate_piece(source);
            }
        }
        done += wanted - inflate->avail_out;
    }
    return done;
}

size_t byte_source_read(struct byte_source *source, void *out, size_t count)
{
    return source->is_gzip ? read_gzip(source, out, count) : read_plain(source, out, count);
}

uint64_t byte_source_skip(struct byte_source *source, uint64_t count)
{
    unsigned char scratch[4096];
    uint64_t done = 0;
    while (done < count) {
        const uint64_t left = count - done;
        const size_t piece = left < sizeof scratch ? (size_t)left : sizeof scratch;
        const size_t got = byte_source_read(source, scratch, piece);
        done += got;
        if (got < piece) {
            break;
        }
    }
    return done;
}

enum voco_status byte_source_failure(const struct byte_source *source, uint64_t at, const char *what)
{
    const unsigned long long byte = at;
    switch (source->state) {
    case source_unreadable:
        errno = source->error;
        return fail_errno("%s: cannot read at byte %llu of %s", source->name, byte, what);
    case source_cut:
        return fail(VOCO_BAD_INPUT, "%s: gzip stream ends at byte %llu of %s", source->name, byte, what);
    case source_damaged:
        return fail(VOCO_BAD_INPUT, "%s: gzip stream is damaged at byte %llu of %s", source->name, byte,
                    what);
    case source_bad_checksum:
        return fail(VOCO_BAD_INPUT, "%s: gzip checksum is wrong at byte %llu of %s", source->name, byte,
                    what);
    default:
        return fail(VOCO_BAD_INPUT, "%s: the %s ends at byte %llu of %s", source->name,
                    source->is_gzip ? "unpacked file" : "file", byte, what);
    }
}

int byte_source_ended_well(const struct byte_source *source)
{
    return source->state == source_ended;
}

int byte_source_is_gzip(const struct byte_source *source)
{
    return source->is_gzip;
}

uint64_t byte_source_most(const struct byte_source *source)
{
    if (!source->is_gzip) {
        return source->stored;
    }
    return source->stored > UINT64_MAX / 1032 ? UINT64_MAX : source->stored * 1032;
}

const char *byte_source_name(const struct byte_source *source)
{
    return source->name;
}
