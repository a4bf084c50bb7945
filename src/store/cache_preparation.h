/* Filling the cache: many volumes, several at a time, by one process or by several on one folder, a bad
 * volume never stopping the others. */
#ifndef STORE_CACHE_PREPARATION_H
#define STORE_CACHE_PREPARATION_H

#include "store/volume_cache.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct preparation_options {
    const char *folder; /* of the cache; made where it is not there */
    int jobs;           /* volumes at the same time, >= 1, each on a thread of its own */
    uint64_t
        memory; /* bytes that the volumes under way may take together; 0: half of what the machine has free */
    int verify; /* read every chunk of what is there and prepare again what is damaged */
    int retry;  /* try again what was found bad before */
    int quiet;  /* no progress */
    const volatile sig_atomic_t *stop; /* may be NULL */
};

/* Where a volume that is ready came from. */
enum volume_origin {
    VOLUME_REUSED,    /* it was in the cache */
    VOLUME_MADE,      /* by this call */
    VOLUME_ELSEWHERE, /* by another process while this call went on */
    VOLUME_REPEATED,  /* the same source with the same settings stands in the list before */
};

struct preparation_result {
    enum volume_origin origin;
    uint64_t source_bytes, cache_bytes; /* 0 for VOLUME_REPEATED */
    double thread_seconds;              /* that it took to make, times the threads it was given */
};

struct preparation_failure {
    size_t request;
    char *path;     /* the source, as it was given */
    char *message;  /* one line that names it and the cause */
    int remembered; /* from an earlier call, or another process: the source was not read now */
};

struct preparation {
    char **paths; /* (count) the arrays to train on (cached_array_path) of the volumes that are ready, in the
                     order of their requests */
    size_t *requests;                   /* (count) which request each of them is */
    struct preparation_result *results; /* (count) */
    size_t count;
    size_t reused; /* of `count`, those of VOLUME_REUSED */
    size_t made;   /* ... and VOLUME_MADE */
    struct preparation_failure
        *failures; /* (failure_count) the volumes that were skipped, in the order of requests */
    size_t failure_count;
    uint64_t source_bytes, cache_bytes; /* of what is ready */
    double seconds;
};

/* Brings every request into the cache: reuses what is there and whole, prepares what is missing. May be
 * called by several processes and machines on one folder, which then share the work: each volume is claimed
 * by one of them (store/claim.h), and all wait for all. A source that is listed twice with the same settings
 * is prepared once. What killed processes left in the folder is removed.
 *
 * A source that cannot be read or prepared is skipped and listed in `out->failures`; where its content is to
 * blame that is remembered in the folder (store/skipped_source.h), and later calls tell the cause without
 * reading it again. VOCO_BAD_INPUT only when no volume is left; the message gives the first cause. A cache
 * that cannot be written (VOCO_IO: disk full) ends the work at once. Where `stop` becomes non-zero, the
 * volumes under way are finished and VOCO_STOPPED is returned; what is done stays in the cache. Progress goes
 * to the log with rate and time left.
 *
 * When fewer volumes than jobs are left, each is worked on by several threads.
 *
 * `out` is filled in every case but VOCO_NO_MEMORY; free it with preparation_free. */
enum voco_status volume_cache_prepare(struct preparation *out, const struct cache_request *requests,
                                      size_t count, const struct preparation_options *options);
void preparation_free(struct preparation *preparation);

#endif
