#include "dist/mpi_exchange.h"

#include <stdlib.h>
#include <string.h>

int mpi_exchange_open(struct mpi_exchange *e, const struct node_layout *nodes)
{
    *e = (struct mpi_exchange){.nodes = nodes};
    const int error = MPI_Comm_dup(MPI_COMM_WORLD, &e->comm);
    if (error != MPI_SUCCESS) {
        return error;
    }
    (void)MPI_Comm_set_errhandler(e->comm, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(e->comm, &e->rank);
    (void)MPI_Comm_size(e->comm, &e->size);
    e->counts = calloc((size_t)e->size * 2, sizeof *e->counts);
    e->places = e->counts + e->size;
    return e->counts != NULL ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

void mpi_exchange_close(struct mpi_exchange *e)
{
    exchange_plan_free(&e->plan);
    free(e->counts);
    free(e->requests);
    free(e->incoming);
    free(e->values_bf16);
    (void)MPI_Comm_free(&e->comm);
}

/* ---- bf16 ---- */

static float float_of(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To nearest, ties to even; NaN stays NaN. */
static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffU) > 0x7f800000U) {
        return (uint16_t)(bits >> 16 | 0x40U);
    }
    return (uint16_t)((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

static void narrow(uint16_t *out, const float *inp, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = bf16_of(inp[i]);
    }
}

static void widen(float *out, const uint16_t *inp, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = float_of(inp[i]);
    }
}

/* ---- sums ---- */

static int is_bf16(const struct mpi_exchange *e)
{
    return e->order->form == RANKS_BF16;
}

/* Elements as they travel, from number `first` on. */
static void *element(const struct mpi_exchange *e, void *array, size_t first)
{
    return (char *)array + first * (is_bf16(e) ? sizeof(uint16_t) : sizeof(float));
}

static void *travelling_values(const struct mpi_exchange *e)
{
    return is_bf16(e) ? (void *)e->values_bf16 : e->order->values;
}

static void round_values(struct mpi_exchange *e, size_t first, size_t count)
{
    if (is_bf16(e)) {
        narrow(e->values_bf16 + first, (const float *)e->order->values + first, count);
    }
}

static int make_requests(struct mpi_exchange *e, int count)
{
    e->request_count = 0;
    if (count > e->request_room) {
        free(e->requests);
        e->requests = malloc((size_t)count * sizeof(MPI_Request));
        e->request_room = e->requests != NULL ? count : 0;
    }
    return count <= e->request_room ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

static int make_room(struct mpi_exchange *e)
{
    if (e->plan.room > e->room) {
        free(e->incoming);
        e->incoming = malloc(e->plan.room * sizeof(float));
        e->room = e->incoming != NULL ? e->plan.room : 0;
    }
    if (is_bf16(e) && e->order->count > e->bf16_room) {
        free(e->values_bf16);
        e->values_bf16 = malloc(e->order->count * sizeof *e->values_bf16);
        e->bf16_room = e->values_bf16 != NULL ? e->order->count : 0;
    }
    return e->plan.room <= e->room && (!is_bf16(e) || e->order->count <= e->bf16_room) ? MPI_SUCCESS
                                                                                       : MPI_ERR_NO_MEM;
}

/* The messages of a stage: terms of sums into `incoming`, on the way back whatever it is to its own place. */
static int post(struct mpi_exchange *e, enum mpi_stage stage, const struct transfer_list *sends,
                const struct transfer_list *receives)
{
    const MPI_Datatype type = is_bf16(e) ? MPI_UINT16_T : MPI_FLOAT;
    const int terms = stage == STAGE_WITHIN || stage == STAGE_BETWEEN;
    void *values = travelling_values(e);
    int error = make_requests(e, sends->count + receives->count);
    e->stage = stage;
    for (int k = 0; k < receives->count && error == MPI_SUCCESS; k++) {
        const struct transfer *t = &receives->items[k];
        void *to = terms ? element(e, e->incoming, t->place) : element(e, values, t->first);
        error = MPI_Irecv(to, (int)t->count, type, t->peer, stage, e->comm, &e->requests[e->request_count++]);
    }
    for (int k = 0; k < sends->count && error == MPI_SUCCESS; k++) {
        const struct transfer *t = &sends->items[k];
        error = MPI_Isend(element(e, values, t->first), (int)t->count, type, t->peer, stage, e->comm,
                          &e->requests[e->request_count++]);
    }
    return error;
}

static void add_floats(float *restrict sum, const float *restrict terms, int n, size_t count)
{
    memcpy(sum, terms, count * sizeof *sum);
    for (int term = 1; term < n; term++) {
        const float *restrict more = terms + (size_t)term * count;
        for (size_t i = 0; i < count; i++) {
            sum[i] += more[i];
        }
    }
}

static void add_bf16(float *restrict sum, const uint16_t *restrict terms, int n, size_t count)
{
    widen(sum, terms, count);
    for (int term = 1; term < n; term++) {
        const uint16_t *restrict more = terms + (size_t)term * count;
        for (size_t i = 0; i < count; i++) {
            sum[i] += float_of(more[i]);
        }
    }
}

/* Puts the own terms to the others' and adds. */
static void add(struct mpi_exchange *e, const struct sum_list *sums, float scale)
{
    for (int k = 0; k < sums->count; k++) {
        const struct planned_sum *s = &sums->items[k];
        float *restrict sum = (float *)e->order->values + s->first;
        const size_t own = s->place + (size_t)s->own * s->count;
        const void *terms = element(e, e->incoming, s->place);
        memcpy(element(e, e->incoming, own), element(e, travelling_values(e), s->first),
               s->count * (is_bf16(e) ? sizeof(uint16_t) : sizeof(float)));
        if (is_bf16(e)) {
            add_bf16(sum, terms, s->terms, s->count);
        } else {
            add_floats(sum, terms, s->terms, s->count);
        }
        for (size_t i = 0; scale != 1 && i < s->count; i++) {
            sum[i] *= scale;
        }
        round_values(e, s->first, s->count);
    }
}

static int begin_sum(struct mpi_exchange *e)
{
    const struct exchange_stage *within = &e->plan.within;
    round_values(e, 0, e->order->count);
    return post(e, STAGE_WITHIN, &within->sends, &within->receives);
}

static int begin_sharing(struct mpi_exchange *e)
{
    const struct exchange_stage *between = &e->plan.between;
    return post(e, STAGE_BACK_BETWEEN, &between->receives, &between->sends);
}

/* ---- the others ---- */

static int gather_slices(struct mpi_exchange *e)
{
    size_t first = 0;
    for (int rank = 0; rank < e->size; rank++) {
        e->counts[rank] = (int)node_layout_slice(&first, e->nodes, rank, e->order->count);
        e->places[rank] = (int)first;
    }
    if (e->rank == 0) {
        return MPI_Igatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, e->order->values, e->counts, e->places,
                            MPI_FLOAT, 0, e->comm, e->requests);
    }
    return MPI_Igatherv(e->order->values, e->counts[e->rank], MPI_FLOAT, NULL, NULL, NULL, MPI_DATATYPE_NULL,
                        0, e->comm, e->requests);
}

static int begin_collective(struct mpi_exchange *e)
{
    const struct ranks_order *order = e->order;
    const int error = make_requests(e, 1);
    e->stage = STAGE_COLLECTIVE;
    if (error != MPI_SUCCESS) {
        return error;
    }
    e->request_count = 1;
    if (order->operation == RANKS_GATHER_SLICES) {
        return gather_slices(e);
    }
    return order->operation == RANKS_SHARE
               ? MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, order->values, (int)order->count,
                                MPI_BYTE, e->comm, e->requests)
               : MPI_Ibcast(order->values, (int)order->count, MPI_BYTE, order->root, e->comm, e->requests);
}

/* ---- an order ---- */

int mpi_exchange_begin(struct mpi_exchange *e, const struct ranks_order *order)
{
    e->order = order;
    e->complete = 0;
    if (order->operation != RANKS_SUM && order->operation != RANKS_SUM_SLICES &&
        order->operation != RANKS_SHARE_SLICES) {
        return begin_collective(e);
    }
    const int planned = exchange_plan_make(&e->plan, e->nodes, e->rank, order->count);
    const int error = planned ? make_room(e) : MPI_ERR_NO_MEM;
    if (error != MPI_SUCCESS) {
        return error;
    }
    if (order->operation == RANKS_SHARE_SLICES) {
        size_t first = 0;
        const size_t own = node_layout_slice(&first, e->nodes, e->rank, order->count);
        round_values(e, first, own);
        return begin_sharing(e);
    }
    return begin_sum(e);
}

/* What follows when all messages of a stage have arrived. */
static int next_stage(struct mpi_exchange *e)
{
    const struct exchange_plan *plan = &e->plan;
    const float scale = e->order->scale;
    switch (e->stage) {
    case STAGE_WITHIN:
        add(e, &plan->within.sums, e->nodes->nodes > 1 ? 1 : scale);
        return post(e, STAGE_BETWEEN, &plan->between.sends, &plan->between.receives);
    case STAGE_BETWEEN:
        add(e, &plan->between.sums, scale);
        e->complete = e->order->operation == RANKS_SUM_SLICES;
        return e->complete ? MPI_SUCCESS : begin_sharing(e);
    case STAGE_BACK_BETWEEN:
        return post(e, STAGE_BACK_WITHIN, &plan->within.receives, &plan->within.sends);
    case STAGE_BACK_WITHIN:
        if (is_bf16(e)) {
            widen(e->order->values, e->values_bf16, e->order->count);
        }
        e->complete = 1;
        return MPI_SUCCESS;
    case STAGE_COLLECTIVE:
        e->complete = 1;
        return MPI_SUCCESS;
    }
    return MPI_ERR_OP;
}

int mpi_exchange_go_on(struct mpi_exchange *e, int *moved)
{
    int error = MPI_SUCCESS;
    while (!e->complete) {
        int arrived = 0;
        error = MPI_Testall(e->request_count, e->requests, &arrived, MPI_STATUSES_IGNORE);
        if (error != MPI_SUCCESS || !arrived) {
            return error;
        }
        ++*moved;
        error = next_stage(e);
        if (error != MPI_SUCCESS) {
            return error;
        }
    }
    return error;
}
