/* What is remembered of a source that cannot be prepared, so that its cause is told again without reading it
 * again: a file FOLDER/.KEY.skipped with the message in it. KEY is that of store/volume_cache.h, so a source
 * that has changed, or is to be prepared in another way, is tried afresh. */
#ifndef STORE_SKIPPED_SOURCE_H
#define STORE_SKIPPED_SOURCE_H

#include "voco/status.h"

#include <stdint.h>

/* The message, to be freed; NULL where nothing is remembered. */
char *skipped_source_read(const char *folder, uint64_t key);

/* VOCO_IO where it cannot be written. */
enum voco_status skipped_source_write(const char *folder, uint64_t key, const char *message);

void skipped_source_forget(const char *folder, uint64_t key);

#endif
