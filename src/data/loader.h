/* Threads that make the batches ahead of the computation. What a step's batch holds does not depend on how
 * many threads there are (data/make_batch.h); only the time that the caller waits does. */
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include "data/make_batch.h"

struct loader;

/* Starts `threads` threads that stay up to `ahead` (>= 1) batches ahead, the first batch being that of
 * `first_step`. 0 threads: every batch is made when it is asked for. What `source` points to is borrowed
 * until loader_close. Memory: ahead + 1 batches with threads, 1 without. */
enum voco_status loader_open(struct loader **loader, const struct batch_source *source, uint64_t first_step,
                             int threads, int ahead);

/* Bytes that such a loader takes, at most; the chunk cache of `source` not counted. */
uint64_t loader_memory(const struct batch_source *source, int threads, int ahead);

/* The batch of the next step; the steps come in order. It stays valid until the next call or loader_close. An
 * error is that of making this step's batch, in whatever thread it occurred, and comes again at every later
 * call. */
enum voco_status loader_next(struct loader *loader, const struct batch **batch);

/* How long loader_next has kept its caller, in all. */
double loader_waited_seconds(const struct loader *loader);

/* Ends the threads, after the batches they are at, and frees everything. NULL is allowed. */
void loader_close(struct loader *loader);

#endif
