/* Filling the cache: many volumes, several at a time, a bad one never stopping the others. */
#ifndef STORE_CACHE_PREPARATION_H
#define STORE_CACHE_PREPARATION_H

#include "store/volume_cache.h"

#include <signal.h>
#include <stddef.h>

struct preparation_failure {
    char *path;    /* the source, as it was given */
    char *message; /* one line that names it and the cause */
};

struct preparation {
    char **paths;    /* (count) cache files of the volumes that are ready, in the order of their sources */
    size_t *sources; /* (count) which source each of them is */
    size_t count;
    size_t reused; /* of `count`, those that were in the cache already, whole */
    struct preparation_failure
        *failures; /* (failure_count) the volumes that were skipped, in the order of sources */
    size_t failure_count;
};

/* Brings every source into the cache, `jobs` (>= 1) at a time on threads of their own: reuses a file that is
 * there and whole, prepares what is missing or damaged. How: voco.md section 5 with the cache's preset; with
 * WINDOW_CROP a volume is padded to at least the cache's window, with WINDOW_RESIZE it is padded to at least
 * window[2] on every axis and then resized to the window.
 *
 * A source that cannot be read or prepared is skipped and listed in `out->failures`. VOCO_BAD_INPUT only when
 * none is left; the message gives the first cause. A cache file that cannot be written (VOCO_IO: disk full)
 * ends the work at once. Where `stop` is not NULL and becomes non-zero, the volumes under way are finished
 * and VOCO_STOPPED is returned; what is done stays in the cache. Progress goes to the log with rate and time
 * left.
 *
 * `out` is filled in every case but VOCO_NO_MEMORY; free it with preparation_free. */
enum voco_status volume_cache_prepare(struct preparation *out, const struct volume_cache *cache,
                                      const char *const *sources, size_t count, int jobs,
                                      const volatile sig_atomic_t *stop);
void preparation_free(struct preparation *preparation);

#endif
