/* What the log says while volumes are prepared. Private to the preparation of volumes. */
#ifndef STORE_PREPARATION_PROGRESS_H
#define STORE_PREPARATION_PROGRESS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct preparation_progress {
    size_t count;   /* volumes in all */
    uint64_t bytes; /* of their sources */
    int quiet;
    double started;

    pthread_mutex_t lock; /* for what follows */
    size_t done, worked_on;
    uint64_t bytes_done, bytes_worked_on;
    double last_said;
};

void preparation_progress_open(struct preparation_progress *progress, size_t count, uint64_t bytes,
                               int quiet);
void preparation_progress_close(struct preparation_progress *progress);

/* One more volume is done; `worked_on`: it was not there when the work began. Says so at most 5 times a
 * second, and at the end. */
void preparation_progress_done(struct preparation_progress *progress, uint64_t bytes, int worked_on);

/* A volume is put back because another process is at it. Says so where nothing else was to be said for a
 * while. */
void preparation_progress_waiting(struct preparation_progress *progress);

#endif
