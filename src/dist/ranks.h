/* The ranks of a job: processes, on one machine or on many, that train one model together, and what they
 * tell each other. A program that was started by itself is the only rank of its job.
 *
 * A rank is a process as `mpirun -n 8 voco ...` or `srun voco ...` starts it. All functions that take `ranks`
 * are collective, but where it says otherwise: every rank must call them, in the same order, with the same
 * counts. They are called from one thread.
 *
 * Arrays are summed slice by slice: slice r of an array goes to rank r, which adds what all ranks have there,
 * in the order of the ranks, and gives the sum back to all. So a sum has the same bits on every rank and in
 * every run, whatever the network did, and each rank sends and receives 2 (size - 1) / size times the array,
 * the least that any all-reduce does (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
 * clusters of workstations", J. Parallel Distrib. Comput. 69, 2009).
 *
 * Work that was started goes on beside the computation, on a thread of its own that sleeps between its looks
 * at the network. Telling each other something does not fail: ranks that cannot reach each other are no job
 * any more. A rank that has given no sign of life for `ranks_patience_seconds`, or that the network reports
 * as gone, is named in a log line (LOG_ERROR), and the job is ended on all machines as ranks_abort does it.
 */
#ifndef DIST_RANKS_H
#define DIST_RANKS_H

#include "voco/status.h"

#include <stddef.h>

struct ranks_implementation;

struct ranks {
    int rank;       /* of this process, from 0 to size - 1 */
    int size;       /* >= 1 */
    int host_size;  /* ranks on this rank's machine, itself included */
    int processors; /* that this rank may take for itself: those it is bound to, or its part of them where
                       several ranks are bound to the same. 0: it is alone, and takes what it wants */
    const struct ranks_implementation *implementation;
    void *link; /* what the implementation keeps */
};

enum { ranks_patience_seconds = 20 };

/* The job of this process, found in the environment: that of MPI where mpirun, or srun by way of PMIx or PMI,
 * started it; else it is alone, and MPI is not touched. VOCO_UNSUPPORTED where several processes were started
 * and cannot find each other: this program was built without MPI, or srun was not told to set it up. Close
 * with ranks_close. */
enum voco_status ranks_open(struct ranks *ranks);

/* The only rank of its job; needs no closing. */
struct ranks ranks_alone(void);

/* Waits for all ranks to come here. */
void ranks_close(struct ranks *ranks);

/* For a failure that the others know nothing of: ends all ranks at once, and does not return where there are
 * others. Say why before. Not collective. */
void ranks_abort(const struct ranks *ranks);

/* ---- a step's arrays ---- */

/* How numbers travel. The sum itself is in float32 in both: with bf16 each number is rounded to nearest once
 * before it is added and the sum once more, however many ranks there are. */
enum ranks_form { RANKS_FLOAT32, RANKS_BF16 };

enum ranks_operation {
    RANKS_SUM,           /* values <- scale * sum over the ranks */
    RANKS_SUM_SLICES,    /* the same, but only the own slice; the others are left as they are */
    RANKS_SHARE_SLICES,  /* every rank's own slice of values goes to all */
    RANKS_GATHER_SLICES, /* every rank's own slice goes to rank 0, into values there; elsewhere `values` is
                            the own slice */
    RANKS_SHARE,         /* bytes: piece r of the `size` pieces at `values`, of `count` bytes each, goes from
                            rank r to all */
    RANKS_BROADCAST,     /* bytes: those of rank `root` go to all */
};

/* Something to be done together. The caller fills the first part and keeps it, and what `values` points to,
 * untouched from ranks_start to ranks_finish. */
struct ranks_order {
    enum ranks_operation operation;
    void *values;
    size_t count; /* floats, or bytes of RANKS_SHARE and RANKS_BROADCAST: at most 2^30 */
    float scale;
    enum ranks_form form;
    int root;

    int done; /* private from here on */
    struct ranks_order *next;
};

/* Orders are carried out in the order of their start. ranks_finish waits for one. */
void ranks_start(const struct ranks *ranks, struct ranks_order *order);
void ranks_finish(const struct ranks *ranks, struct ranks_order *order);

/* The slice of rank `rank` in an array of `count` elements: [*first, *first + return value). Slices begin at
 * multiples of 16 elements and follow each other. Not collective. */
size_t ranks_slice(size_t *first, size_t count, int rank, int size);

/* ---- small things, done when they return ---- */

void ranks_share(const struct ranks *ranks, void *pieces, size_t bytes);
void ranks_broadcast(const struct ranks *ranks, void *values, size_t bytes, int root);

/* values <- their sums over the ranks, added in the order of the ranks. At most 64. */
void ranks_sum_doubles(const struct ranks *ranks, double *values, int count);

/* One outcome for all: VOCO_OK where every rank's `status` is. Else the status of the first that failed, with
 * a message that has each rank's own: "rank 2: MESSAGE; ranks 3, 5: MESSAGE", or the message alone where all
 * have the same. A rank whose status is VOCO_STOPPED counts as failed only where no other failed in another
 * way. */
enum voco_status ranks_agree(const struct ranks *ranks, enum voco_status status);

/* The largest of the ranks' values. */
void ranks_largest(const struct ranks *ranks, int *value);

#endif
