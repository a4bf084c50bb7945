/* How a timed_compute hands an operation on and keeps account of it: begin, the operation of `timed`, end. */
#ifndef COMPUTE_TIMED_CALL_H
#define COMPUTE_TIMED_CALL_H

#include "base/clock.h"
#include "compute/timed_compute.h"

#include <string.h>

/* What an operation of c, one of the two in a timed_compute, is handed on to. */
static inline struct compute *timed_of(const struct compute *c)
{
    const struct timed_compute *timer = c->state;
    return c == &timer->full ? timer->timed->full : timer->timed;
}

/* An operation at work. */
struct call {
    struct compute *outer, *timed;
    struct operation_total *total;
    double began;
};

static inline struct call begin(struct compute *c, enum operation_kind kind)
{
    const struct timed_compute *timer = c->state;
    return (struct call){
        .outer = c, .timed = timed_of(c), .total = &timer->totals[kind], .began = seconds_now()};
}

/* Hands on a failure. */
static inline void hand_on(struct compute *outer, struct compute *timed)
{
    if (timed->status != VOCO_OK && outer->status == VOCO_OK) {
        outer->status = timed->status;
        memcpy(outer->message, timed->message, sizeof outer->message);
    }
    timed->status = VOCO_OK;
}

/* Adds it to its total, and hands on a failure. */
static inline void end(const struct call *call, double flops, double bytes)
{
    const struct timed_compute *timer = call->outer->state;
    if (timer->waits) {
        call->timed->wait(call->timed);
    }
    call->total->seconds += seconds_now() - call->began;
    call->total->calls++;
    call->total->flops += flops;
    call->total->bytes += bytes;
    hand_on(call->outer, call->timed);
}

/* Sets the operations of convolutions, linear layers and attention, as far as `timed` has them. */
void add_timed_arithmetic(struct compute *c, const struct compute *timed);

#endif
