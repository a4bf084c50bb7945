/* Arrays in the memory of GPUs, summed by NCCL's messages and an adding kernel of our own. NCCL's own sums go
 * in an order that depends on its version and on the network; here each rank gets what it has to add by a
 * group of sends and receives, as the plan of all sums has them (dist/exchange_plan.h), and the sums go back
 * to all. All of it is queued beside the operations, and the host does not wait for any. */
#include "dist/ranks_device.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- failures ---- */

static void lost(struct device_ranks *d, const char *what, enum nccl_result result)
{
    const struct nccl_functions *f = &d->nccl.functions;
    const char *more = f->get_last_error != NULL ? f->get_last_error(d->comm) : NULL;
    char text[512];
    (void)snprintf(text, sizeof text, "NCCL: %s: %s%s%.300s", what, f->get_error_string(result),
                   more != NULL && *more != '\0' ? ": " : "", more != NULL ? more : "");
    if (d->comm != NULL) {
        (void)f->comm_abort(d->comm); /* what is queued would wait for ever */
        d->comm = NULL;
    }
    device_ranks_lost(d, text);
}

static void check(struct device_ranks *d, const char *what, enum nccl_result result)
{
    if (result != NCCL_SUCCESS && d->comm != NULL) {
        lost(d, what, result);
    }
}

/* What the second queue could not do: the other ranks wait for it. */
static void check_device(struct device_ranks *d)
{
    if (compute_status(&d->beside) != VOCO_OK) {
        device_ranks_lost(d, voco_error_message());
    }
}

/* ---- an order ---- */

static int is_bf16(const struct ranks_order *order)
{
    return order->form == RANKS_BF16;
}

static size_t bytes_of(const struct ranks_order *order, size_t elements)
{
    return elements * (is_bf16(order) ? sizeof(uint16_t) : sizeof(float));
}

/* Elements as they travel, from number `first` on. */
static void *element(const struct ranks_order *order, void *array, size_t first)
{
    return (char *)array + bytes_of(order, first);
}

static void *travelling_values(const struct device_ranks *d, const struct ranks_order *order)
{
    return is_bf16(order) ? (void *)d->values_bf16 : order->values;
}

static void make_room(struct device_ranks *d, const struct ranks_order *order)
{
    struct compute *c = &d->beside;
    if (d->plan.room > d->room) {
        c->wait(c);
        c->release(c, d->incoming);
        d->incoming = c->allocate(c, d->plan.room * sizeof(float));
        d->room = d->plan.room;
    }
    if (is_bf16(order) && order->count > d->bf16_room) {
        c->wait(c);
        c->release(c, d->values_bf16);
        d->values_bf16 = c->allocate(c, order->count * sizeof(uint16_t));
        d->bf16_room = order->count;
    }
    check_device(d);
}

/* A stage's messages: terms of sums into `incoming`, on the way back whatever it is to its own place. */
static void exchange(struct device_ranks *d, const struct ranks_order *order,
                     const struct transfer_list *sends, const struct transfer_list *receives, int terms)
{
    const struct nccl_functions *f = &d->nccl.functions;
    void *stream = d->beside.queue(&d->beside), *values = travelling_values(d, order);
    if (sends->count + receives->count == 0) {
        return;
    }
    check(d, "a group", f->group_start());
    for (int k = 0; k < sends->count; k++) {
        const struct transfer *t = &sends->items[k];
        check(d, "sending",
              f->send(element(order, values, t->first), bytes_of(order, t->count), NCCL_UINT8, t->peer,
                      d->comm, stream));
    }
    for (int k = 0; k < receives->count; k++) {
        const struct transfer *t = &receives->items[k];
        void *to = terms ? element(order, d->incoming, t->place) : element(order, values, t->first);
        check(d, "receiving", f->recv(to, bytes_of(order, t->count), NCCL_UINT8, t->peer, d->comm, stream));
    }
    check(d, "an exchange of slices", f->group_end());
}

static void round_values(struct device_ranks *d, const struct ranks_order *order, size_t first, size_t count)
{
    if (is_bf16(order) && count > 0) {
        struct compute *c = &d->beside;
        c->activations_from_reals(c, element(order, d->values_bf16, first),
                                  (const float *)order->values + first, count);
    }
}

static void sum_stage(struct device_ranks *d, const struct ranks_order *order,
                      const struct exchange_stage *stage, float scale)
{
    struct compute *c = is_bf16(order) ? &d->beside : d->beside.full;
    exchange(d, order, &stage->sends, &stage->receives, 1);
    for (int k = 0; k < stage->sums.count; k++) {
        const struct planned_sum *s = &stage->sums.items[k];
        d->beside.copy(&d->beside, element(order, d->incoming, s->place + (size_t)s->own * s->count),
                       element(order, travelling_values(d, order), s->first), bytes_of(order, s->count));
        c->sum_in_order(c, (float *)order->values + s->first, element(order, d->incoming, s->place), s->terms,
                        s->count, scale);
        round_values(d, order, s->first, s->count);
    }
}

static int slices_are_equal(const struct device_ranks *d, size_t count, size_t own)
{
    size_t first = 0;
    int equal = 1;
    for (int rank = 0; rank < d->host.size && equal; rank++) {
        equal = ranks_slice(&first, &d->host, rank, count) == own;
    }
    return equal;
}

/* Every rank's own slice to all, where slices lie in the order of the ranks: the way that NCCL finds best. */
static void share_at_once(struct device_ranks *d, const struct ranks_order *order)
{
    const struct nccl_functions *f = &d->nccl.functions;
    void *stream = d->beside.queue(&d->beside), *values = travelling_values(d, order);
    size_t place = 0;
    const size_t own = ranks_slice(&place, &d->host, d->host.rank, order->count);
    if (slices_are_equal(d, order->count, own)) {
        check(d, "gathering slices",
              f->all_gather(element(order, values, place), values, bytes_of(order, own), NCCL_UINT8, d->comm,
                            stream));
        return;
    }
    check(d, "a group", f->group_start());
    for (int rank = 0; rank < d->host.size; rank++) {
        const size_t count = ranks_slice(&place, &d->host, rank, order->count);
        void *slice = element(order, values, place);
        if (count > 0) {
            check(d, "a broadcast",
                  f->broadcast(slice, slice, bytes_of(order, count), NCCL_UINT8, rank, d->comm, stream));
        }
    }
    check(d, "gathering slices", f->group_end());
}

/* Which are as they travel already. */
static void share_slices(struct device_ranks *d, const struct ranks_order *order)
{
    const struct exchange_plan *plan = &d->plan;
    if (node_layout_is_flat(d->host.nodes)) {
        share_at_once(d, order);
    } else {
        exchange(d, order, &plan->between.receives, &plan->between.sends, 0);
        exchange(d, order, &plan->within.receives, &plan->within.sends, 0);
    }
    if (is_bf16(order)) {
        struct compute *c = &d->beside;
        c->reals_from_activations(c, order->values, d->values_bf16, order->count);
    }
}

static void sum(struct device_ranks *d, const struct ranks_order *order)
{
    round_values(d, order, 0, order->count);
    sum_stage(d, order, &d->plan.within, d->host.nodes->nodes > 1 ? 1 : order->scale);
    sum_stage(d, order, &d->plan.between, order->scale);
    if (order->operation == RANKS_SUM) {
        share_slices(d, order);
    }
}

static void start(void *link, struct ranks_order *order)
{
    struct device_ranks *d = link;
    if (!order->on_device) {
        ranks_start(&d->host, order);
        return;
    }
    if (!exchange_plan_make(&d->plan, d->host.nodes, d->host.rank, order->count)) {
        device_ranks_lost(d, "no memory for the plan of a sum");
    }
    make_room(d, order);
    d->beside.follow(&d->beside, d->c);
    if (order->operation != RANKS_SHARE_SLICES) {
        sum(d, order);
        return;
    }
    size_t first = 0;
    const size_t own = ranks_slice(&first, &d->host, d->host.rank, order->count);
    round_values(d, order, first, own);
    share_slices(d, order);
}

/* Until the queue is empty: orders that were started later are waited for as well. Meanwhile the thread that
 * speaks with the other ranks listens for signs of life. */
static void finish(void *link, struct ranks_order *order)
{
    struct device_ranks *d = link;
    const double shortest = 5e-6, longest = 5e-4, part = 0.05, began = seconds_now();
    if (!order->on_device) {
        ranks_finish(&d->host, order);
        return;
    }
    while (!d->beside.done(&d->beside)) {
        enum nccl_result error = NCCL_SUCCESS;
        check(d, "asking for failures", d->nccl.functions.comm_get_async_error(d->comm, &error));
        if (error != NCCL_SUCCESS && error != NCCL_IN_PROGRESS) {
            lost(d, "while it was at work", error);
        }
        const double waited = part * (seconds_now() - began);
        const double seconds = waited < shortest ? shortest : waited > longest ? longest : waited;
        const struct timespec time = {.tv_nsec = (long)(seconds * 1e9)};
        (void)nanosleep(&time, NULL);
    }
    check_device(d);
}

static void abort_all(void *link)
{
    const struct device_ranks *d = link;
    ranks_abort(&d->host);
}

static void close_link(void *link)
{
    struct ranks joined = {.implementation = &ranks_nccl, .link = link};
    ranks_leave_device(&joined);
    ranks_close(&joined);
}

const struct ranks_implementation ranks_nccl = {start, finish, abort_all, close_link};

/* ---- beginning ---- */

/* A sum of zeros, which makes the connections: what they take of the device's memory is taken before it is
 * planned, and what does not work shows before the first step. */
static enum voco_status connect(struct device_ranks *d)
{
    struct compute *c = &d->beside;
    const size_t count = (size_t)d->host.size * 1024;
    float *zeros = c->allocate(c, count * sizeof *zeros);
    d->c->wait(d->c);
    if (zeros != NULL) {
        d->c->zero(d->c, zeros, count);
    }
    struct ranks_order order = {
        .operation = RANKS_SUM, .values = zeros, .count = count, .scale = 1, .on_device = 1};
    const enum voco_status status = ranks_agree(&d->host, compute_status(c));
    if (status == VOCO_OK) {
        start(d, &order);
        finish(d, &order);
    }
    c->release(c, zeros);
    return status;
}

enum voco_status nccl_join(struct device_ranks *d)
{
    const struct nccl_functions *f = &d->nccl.functions;
    struct nccl_unique_id id;
    memset(&id, 0, sizeof id);
    const enum nccl_result result = d->host.rank == 0 ? f->get_unique_id(&id) : NCCL_SUCCESS;
    const enum voco_status status = ranks_agree(
        &d->host, result == NCCL_SUCCESS
                      ? VOCO_OK
                      : fail(VOCO_UNSUPPORTED, "NCCL does not start: %s (NCCL_DEBUG=WARN says more)",
                             f->get_error_string(result)));
    if (status != VOCO_OK) {
        return status;
    }
    ranks_broadcast(&d->host, &id, sizeof id, 0);
    const enum nccl_result joined = f->comm_init_rank(&d->comm, d->host.size, id, d->host.rank);
    if (joined != NCCL_SUCCESS) {
        d->comm = NULL;
        lost(d, "bringing the GPUs together (NCCL_DEBUG=WARN says more)", joined);
    }
    return connect(d);
}
