/* A compute that does what another one does and keeps account: seconds, calls, arithmetic and memory traffic
 * of each kind of operation. Results are the same to the bit. */
#ifndef COMPUTE_TIMED_COMPUTE_H
#define COMPUTE_TIMED_COMPUTE_H

#include "compute/compute.h"

enum operation_kind {
    OPERATION_CONVOLUTION,
    OPERATION_LINEAR, /* with the norm, the GELU or the sum that an operation takes along */
    OPERATION_ATTENTION,
    OPERATION_NORM, /* layer and instance norm, with the activation and the residual that they take along */
    OPERATION_ELEMENTWISE, /* GELU, sums, patch merging's gathering, pooling, conversions, crops, masks, the
                              loss */
    OPERATION_OPTIMISER,   /* AdamW, moving average, sum of squares */
    operation_kinds
};

struct operation_total {
    double seconds;
    long long calls;
    double flops; /* of convolution, linear and attention, as compute/operation_arithmetic.h counts; what is
                     called again counts again */
    double bytes; /* of the others: every large array that goes in or out, once */
};

struct timed_compute {
    struct compute compute; /* to be used in place of the other; what its `full` does is counted too */
    struct compute full;
    struct compute *timed;
    struct operation_total *totals; /* (operation_kinds) what the next operations are added to; may be pointed
                                       elsewhere between operations */
    int waits; /* 1: each operation is waited for, so that `seconds` are its own where operations are only
                  queued; 0: they are then those of the queueing */
};

/* The timed implementation and the totals are borrowed. *timer must stay where it is. Nothing is to be closed
 * but the timed implementation. */
void timed_compute_open(struct timed_compute *timer, struct compute *timed, struct operation_total *totals);

#endif
