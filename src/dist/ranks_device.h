/* What stands behind ranks_join_device: the ranks as they were before for all that lies in the host's memory,
 * and a second queue of the device for what does not. Private to src/dist. */
#ifndef DIST_RANKS_DEVICE_H
#define DIST_RANKS_DEVICE_H

#include "compute/compute.h"
#include "dist/exchange_plan.h"
#include "dist/nccl_library.h"
#include "dist/ranks_implementation.h"

/* An order on its way through the host's memory. */
struct staged_order {
    struct ranks_order *order; /* as it was given; NULL: this place is free */
    struct ranks_order moved;  /* the same on host memory */
    int started;               /* `moved` was, else its values are still on their way from the device */
    float *values;             /* pinned */
    size_t room;               /* elements */
};

enum { staged_orders = 16 };

struct device_ranks {
    struct ranks host;     /* as they were before; ranks->link is this struct */
    struct compute *c;     /* whose arrays are exchanged. Borrowed */
    struct compute beside; /* the queue of the exchange */

    /* By NCCL. */
    struct nccl_library nccl;
    struct nccl_comm *comm;
    struct exchange_plan plan;
    size_t room, bf16_room;  /* elements of the following, which lie in the device's memory; in either form */
    float *incoming;         /* the terms of a stage's sums */
    activation *values_bf16; /* an order's values as they travel */

    /* By way of the host: a ring, in the order of their start. */
    struct staged_order staged[staged_orders];
    int first, count;
};

/* By NCCL: brings the ranks together on d->nccl, which is open on all of them, and makes the connections. One
 * outcome for all. */
extern const struct ranks_implementation ranks_nccl;
enum voco_status nccl_join(struct device_ranks *d);

/* By way of the host. */
extern const struct ranks_implementation ranks_staged;

/* For a failure from which the ranks cannot go on together: says `what` and ends the job. */
void device_ranks_lost(const struct device_ranks *d, const char *what);

#endif
