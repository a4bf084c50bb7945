/* How much memory the preparation of one volume takes, before it is begun. */
#ifndef STORE_PREPARATION_MEMORY_H
#define STORE_PREPARATION_MEMORY_H

#include "store/volume_cache.h"

#include <stdint.h>

/* An estimate in bytes, on the high side, from the source's header: the voxels after resampling at their
 * stored width, some slices of the file and the file as it lies on disk; for intensities that depend on the
 * whole volume and for windows that are resized, both volumes as floats. A source whose header cannot be read
 * gets a small one: it fails at once. */
uint64_t preparation_memory(const struct cache_request *request, uint64_t source_bytes);

/* Half of this machine's memory. */
uint64_t preparation_memory_default(void);

#endif
