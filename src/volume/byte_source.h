/* The bytes of a file or of memory from the first to the last, unpacked on the way where they are a gzip
 * stream (one or several members, RFC 1952; the checksums are checked). Nothing but a fixed buffer is held.
 */
#ifndef VOLUME_BYTE_SOURCE_H
#define VOLUME_BYTE_SOURCE_H

#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

struct byte_source;

/* Opens a regular file. VOCO_IO where it cannot be opened, VOCO_BAD_INPUT where it is empty or no regular
 * file; the message names it. Close with byte_source_close. */
enum voco_status byte_source_open(struct byte_source **source, const char *path);

/* Reads from `count` bytes of memory, which must stay; `name` stands for the path in messages and must stay
 * too. */
enum voco_status byte_source_open_memory(struct byte_source **source, const void *bytes, size_t count,
                                         const char *name);

void byte_source_close(struct byte_source *source); /* NULL is fine */

/* Copies up to `count` bytes to `out` and returns how many; fewer only where the source ends or is damaged,
 * which byte_source_failure tells. */
size_t byte_source_read(struct byte_source *source, void *out, size_t count);

/* Reads `count` bytes and forgets them; returns how many there were. */
uint64_t byte_source_skip(struct byte_source *source, uint64_t count);

/* Fails with the reason why byte_source_read gave less than it was asked for, as "PATH: gzip stream ends at
 * byte AT of WHAT". VOCO_IO where the operating system refused to read, else VOCO_BAD_INPUT. */
enum voco_status byte_source_failure(const struct byte_source *source, uint64_t at, const char *what);

/* Whether the source ended in order: all bytes delivered, checksums right. */
int byte_source_ended_well(const struct byte_source *source);

int byte_source_is_gzip(const struct byte_source *source);

/* No more bytes than this can come out of the source: deflate packs at most 258 bytes into 2 bits. */
uint64_t byte_source_most(const struct byte_source *source);

/* The path or name it was opened with. */
const char *byte_source_name(const struct byte_source *source);

#endif
