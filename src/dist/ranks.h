/* The ranks of a job: processes, on one machine or on many, that train one model together, and what they
 * tell each other. A program that was started by itself is the only rank of its job.
 *
 * A rank is a process as `mpirun -n 8 voco ...` or `srun voco ...` starts it. All functions that take `ranks`
 * are collective, but where it says otherwise: every rank must call them, in the same order, with the same
 * counts. They are called from one thread.
 *
 * Arrays are summed slice by slice, and each rank has a slice of its own: it adds what all ranks have there,
 * and gives the sum to all. On one machine it adds in the order of the ranks. On several the ranks of each
 * machine first add, in their order, what they have together; these sums are then added in the order of the
 * machines, which is that of their lowest ranks; and so back (dist/exchange_plan.h). So a sum has the same
 * bits on every rank and in every run with the same ranks on the same machines, whatever the network did.
 * Within a machine of p ranks each sends and receives 2 (p - 1) / p times the array, and over the network a
 * machine, of M, sends and receives 2 (M - 1) / M times the array: the least that any all-reduce does
 * (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel
 * Distrib. Comput. 69, 2009). All ranks of a machine have an equal part in that.
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

struct compute;
struct node_layout;
struct ranks_implementation;

struct ranks {
    int rank;       /* of this process, from 0 to size - 1 */
    int size;       /* >= 1 */
    int host_size;  /* ranks on this rank's machine, itself included */
    int host_rank;  /* of this process among these, from 0 */
    int processors; /* that this rank may take for itself: those it is bound to, or its part of them where
                       several ranks are bound to the same. 0: it is alone, and takes what it wants */
    const struct node_layout *nodes; /* the machines as sums see them (dist/node_layout.h) */
    const struct ranks_implementation *implementation;
    void *link; /* what the implementation keeps */
};

enum { ranks_patience_seconds = 20 };

/* The job of this process, found in the environment: that of MPI where mpirun, or srun by way of PMIx or PMI,
 * started it; else it is alone, and MPI is not touched. Which ranks share a machine MPI says. For sums, and
 * for nothing else, VOCO_NODES says otherwise: a number for each rank, "0,0,1,1", equal for those that are to
 * count as ranks of one machine. It is for tests on one machine, and for comparison ("0,0,0,0": as if there
 * were one).
 *
 * VOCO_UNSUPPORTED where several processes were started and cannot find each other: this program was built
 * without MPI, or srun was not told to set it up. VOCO_BAD_INPUT: VOCO_NODES is something else. Close with
 * ranks_close. */
enum voco_status ranks_open(struct ranks *ranks);

/* The only rank of its job; needs no closing. */
struct ranks ranks_alone(void);

/* On how many machines the job's ranks are, as sums see it. Not collective. */
int ranks_machines(const struct ranks *ranks);

/* Waits for all ranks to come here. */
void ranks_close(struct ranks *ranks);

/* For a failure that the others know nothing of: ends all ranks at once, and does not return where there are
 * others. Say why before. Not collective. */
void ranks_abort(const struct ranks *ranks);

/* ---- a step's arrays ---- */

/* How numbers travel. The sum itself is in float32 in both: with bf16 each number is rounded to nearest once
 * before it is added and the sum once more, however many ranks there are; on several machines each machine's
 * sum as well. */
enum ranks_form { RANKS_FLOAT32, RANKS_BF16 };

enum ranks_operation {
    RANKS_SUM,           /* values <- scale * sum over the ranks */
    RANKS_SUM_SLICES,    /* the same, but only the own slice; what is in the others afterwards is not said */
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
    int on_device; /* values lie in a device's memory, see ranks_join_device */
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
 * multiples of 16 elements and cover the array, on one machine in the order of the ranks. Not collective. */
size_t ranks_slice(size_t *first, const struct ranks *ranks, int rank, size_t count);

/* ---- arrays in the memory of devices ---- */

/* Each rank computes on a device of its own, by c, whose memory is separate (compute/compute.h). From here on
 * orders of RANKS_SUM, RANKS_SUM_SLICES and RANKS_SHARE_SLICES may be on_device: their values are those that
 * are there when all that c was asked for before ranks_start is done, and what c is asked for after
 * ranks_finish finds the results. Nobody waits for c: its operations, the exchange and the host go on beside
 * each other. The sums have the bits of those in the host's memory.
 *
 * Arrays travel by NCCL, straight from GPU to GPU (dist/ranks_nccl.c). Where one rank has none they go
 * through the host's memory and the ranks' other connection, and a log line says so (dist/ranks_staged.c).
 * libnccl.so.2 is loaded at run time; VOCO_NCCL=FILE names another library, VOCO_NCCL=0 none.
 *
 * Collective, with one outcome for all; by the thread that opened c. Where ranks cannot be brought together
 * half way the job ends, as when a message is lost. Until ranks_leave_device c must stay as it is, and *ranks
 * where it is. */
enum voco_status ranks_join_device(struct ranks *ranks, struct compute *c);

/* After all orders are finished, before c is closed; harmless where no device was joined. Collective. */
void ranks_leave_device(struct ranks *ranks);

/* Whether VOCO_NCCL=0: then ranks may share a device, which NCCL does not allow. Not collective. */
int ranks_nccl_is_off(void);

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
