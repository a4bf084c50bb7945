/* How much memory the preparation of one volume takes, before it is begun. */
#ifndef STORE_PREPARATION_MEMORY_H
#define STORE_PREPARATION_MEMORY_H

#include "store/volume_cache.h"

#include <stdint.h>

/* An estimate in bytes, on the high side, from the source's header: the volume after resampling, as it is
 * stored where it is streamed, else as floats, some slices, and the whole source as floats where its axes are
 * sheared. A source whose header cannot be read gets a small one: it fails at once. */
uint64_t preparation_memory(const struct cache_request *request);

/* Half of what the machine has free (base/machine_memory.h). */
uint64_t preparation_memory_default(void);

#endif
