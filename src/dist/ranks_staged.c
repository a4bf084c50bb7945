/* Arrays in the memory of devices, by way of the host's: for ranks that have no NCCL. An array is copied to
 * pinned memory on the second queue, exchanged there as any array of the host's, and copied back. Orders are
 * handed on when the next one is started and when one is finished, so that most of what the network does goes
 * on beside the operations; an order on host memory first hands on all those before it, so that all ranks
 * hand them on in one order. */
#include "dist/ranks_device.h"

#include "base/error.h"

static struct staged_order *place_of(struct device_ranks *d, int number)
{
    return &d->staged[(d->first + number) % staged_orders];
}

/* What the second queue could not do: the other ranks wait for it. */
static void check_device(struct device_ranks *d)
{
    if (compute_status(&d->beside) != VOCO_OK) {
        device_ranks_lost(d, voco_error_message());
    }
}

/* Everything whose values have come to the host. */
static void hand_on(struct device_ranks *d)
{
    check_device(d);
    for (int k = 0; k < d->count; k++) {
        struct staged_order *staged = place_of(d, k);
        if (!staged->started) {
            ranks_start(&d->host, &staged->moved);
            staged->started = 1;
        }
    }
}

static void hand_on_all(struct device_ranks *d)
{
    d->beside.wait(&d->beside);
    hand_on(d);
}

/* The oldest: its results are on their way back when this returns. */
static void complete_first(struct device_ranks *d)
{
    struct compute *c = &d->beside;
    struct staged_order *staged = place_of(d, 0);
    const struct ranks_order *order = staged->order;
    size_t first = 0, count = order->count;
    if (!staged->started) {
        hand_on_all(d);
    }
    ranks_finish(&d->host, &staged->moved);
    if (order->operation == RANKS_SUM_SLICES) {
        count = ranks_slice(&first, &d->host, d->host.rank, order->count);
    }
    c->to_device(c, (float *)order->values + first, staged->values + first, count * sizeof(float));
    staged->order->done = 1;
    staged->order = NULL;
    d->first = (d->first + 1) % staged_orders;
    d->count--;
}

static void make_room(struct device_ranks *d, struct staged_order *staged, size_t count)
{
    struct compute *c = &d->beside;
    if (count > staged->room) {
        c->wait(c);
        c->release_staging(c, staged->values);
        staged->values = c->allocate_staging(c, count * sizeof(float));
        staged->room = count;
        check_device(d);
    }
}

static void start(void *link, struct ranks_order *order)
{
    struct device_ranks *d = link;
    struct compute *c = &d->beside;
    if (!order->on_device) {
        hand_on_all(d);
        ranks_start(&d->host, order);
        return;
    }
    if (d->count == staged_orders) {
        complete_first(d);
    }
    if (c->done(c)) {
        hand_on(d);
    }
    struct staged_order *staged = place_of(d, d->count++);
    size_t first = 0, count = order->count;
    make_room(d, staged, order->count);
    staged->order = order;
    staged->started = 0;
    staged->moved = *order;
    staged->moved.on_device = 0;
    staged->moved.values = staged->values;
    if (order->operation == RANKS_SHARE_SLICES) {
        count = ranks_slice(&first, &d->host, d->host.rank, order->count);
    }
    c->follow(c, d->c);
    c->to_host(c, staged->values + first, (const float *)order->values + first, count * sizeof(float));
}

static void finish(void *link, struct ranks_order *order)
{
    struct device_ranks *d = link;
    if (!order->on_device) {
        ranks_finish(&d->host, order);
        return;
    }
    while (!order->done) {
        complete_first(d);
    }
    d->c->follow(d->c, &d->beside);
    check_device(d);
}

static void abort_all(void *link)
{
    const struct device_ranks *d = link;
    ranks_abort(&d->host);
}

static void close_link(void *link)
{
    struct ranks joined = {.implementation = &ranks_staged, .link = link};
    ranks_leave_device(&joined);
    ranks_close(&joined);
}

const struct ranks_implementation ranks_staged = {start, finish, abort_all, close_link};
