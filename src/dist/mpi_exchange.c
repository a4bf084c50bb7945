#include "dist/mpi_exchange.h"

#include <stdlib.h>
#include <string.h>

int mpi_exchange_open(struct mpi_exchange *e)
{
    *e = (struct mpi_exchange){.request = MPI_REQUEST_NULL};
    const int error = MPI_Comm_dup(MPI_COMM_WORLD, &e->comm);
    if (error != MPI_SUCCESS) {
        return error;
    }
    (void)MPI_Comm_set_errhandler(e->comm, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(e->comm, &e->rank);
    (void)MPI_Comm_size(e->comm, &e->size);
    e->counts = calloc((size_t)e->size * 4, sizeof *e->counts);
    e->places = e->counts + e->size;
    e->incoming_counts = e->places + e->size;
    e->incoming_places = e->incoming_counts + e->size;
    return e->counts != NULL ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

void mpi_exchange_close(struct mpi_exchange *e)
{
    free(e->counts);
    free(e->incoming);
    free(e->outgoing_bf16);
    free(e->incoming_bf16);
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

static int place_slices(struct mpi_exchange *e)
{
    size_t first = 0;
    const size_t own = ranks_slice(&first, e->order->count, e->rank, e->size);
    for (int rank = 0; rank < e->size; rank++) {
        e->counts[rank] = (int)ranks_slice(&first, e->order->count, rank, e->size);
        e->places[rank] = (int)first;
        e->incoming_counts[rank] = (int)own;
        e->incoming_places[rank] = (int)((size_t)rank * own);
    }
    const size_t whole = own * (size_t)e->size;
    const size_t room = whole > e->order->count ? whole : e->order->count;
    if (room <= e->room) {
        return MPI_SUCCESS;
    }
    free(e->incoming);
    free(e->outgoing_bf16);
    free(e->incoming_bf16);
    e->incoming = malloc(room * sizeof *e->incoming);
    e->outgoing_bf16 = malloc(room * sizeof *e->outgoing_bf16);
    e->incoming_bf16 = malloc(room * sizeof *e->incoming_bf16);
    e->room = room;
    return e->incoming != NULL && e->outgoing_bf16 != NULL && e->incoming_bf16 != NULL ? MPI_SUCCESS
                                                                                       : MPI_ERR_NO_MEM;
}

static int scatter_slices(struct mpi_exchange *e)
{
    e->adding = 1;
    if (e->order->form == RANKS_FLOAT32) {
        return MPI_Ialltoallv(e->order->values, e->counts, e->places, MPI_FLOAT, e->incoming,
                              e->incoming_counts, e->incoming_places, MPI_FLOAT, e->comm, &e->request);
    }
    narrow(e->outgoing_bf16, e->order->values, e->order->count);
    return MPI_Ialltoallv(e->outgoing_bf16, e->counts, e->places, MPI_UINT16_T, e->incoming_bf16,
                          e->incoming_counts, e->incoming_places, MPI_UINT16_T, e->comm, &e->request);
}

static void add_slices(struct mpi_exchange *e)
{
    float *restrict sum = (float *)e->order->values + e->places[e->rank];
    const size_t count = (size_t)e->counts[e->rank];
    if (e->order->form == RANKS_BF16) {
        widen(e->incoming, e->incoming_bf16, count * (size_t)e->size);
    }
    memcpy(sum, e->incoming, count * sizeof *sum);
    for (int rank = 1; rank < e->size; rank++) {
        const float *restrict more = e->incoming + (size_t)rank * count;
        for (size_t i = 0; i < count; i++) {
            sum[i] += more[i];
        }
    }
    for (size_t i = 0; e->order->scale != 1 && i < count; i++) {
        sum[i] *= e->order->scale;
    }
}

static int share_slices(struct mpi_exchange *e)
{
    e->adding = 0;
    float *values = e->order->values;
    if (e->order->form == RANKS_FLOAT32) {
        return MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, e->counts, e->places, MPI_FLOAT,
                               e->comm, &e->request);
    }
    narrow(e->outgoing_bf16 + e->places[e->rank], values + e->places[e->rank], (size_t)e->counts[e->rank]);
    return MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, e->outgoing_bf16, e->counts, e->places,
                           MPI_UINT16_T, e->comm, &e->request);
}

static int gather_slices(struct mpi_exchange *e)
{
    if (e->rank == 0) {
        return MPI_Igatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, e->order->values, e->counts, e->places,
                            MPI_FLOAT, 0, e->comm, &e->request);
    }
    return MPI_Igatherv(e->order->values, e->counts[e->rank], MPI_FLOAT, NULL, NULL, NULL, MPI_DATATYPE_NULL,
                        0, e->comm, &e->request);
}

int mpi_exchange_begin(struct mpi_exchange *e, const struct ranks_order *order)
{
    e->order = order;
    e->complete = 0;
    e->adding = 0;
    int error = MPI_SUCCESS;
    switch (order->operation) {
    case RANKS_SUM:
    case RANKS_SUM_SLICES:
        error = place_slices(e);
        return error == MPI_SUCCESS ? scatter_slices(e) : error;
    case RANKS_SHARE_SLICES:
        error = place_slices(e);
        return error == MPI_SUCCESS ? share_slices(e) : error;
    case RANKS_GATHER_SLICES:
        error = place_slices(e);
        return error == MPI_SUCCESS ? gather_slices(e) : error;
    case RANKS_SHARE:
        return MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, order->values, (int)order->count, MPI_BYTE,
                              e->comm, &e->request);
    case RANKS_BROADCAST:
        return MPI_Ibcast(order->values, (int)order->count, MPI_BYTE, order->root, e->comm, &e->request);
    }
    return MPI_ERR_OP;
}

int mpi_exchange_go_on(struct mpi_exchange *e, int *stage)
{
    int arrived = 0;
    const int error = MPI_Test(&e->request, &arrived, MPI_STATUS_IGNORE);
    if (error != MPI_SUCCESS || !arrived) {
        return error;
    }
    ++*stage;
    if (e->adding) {
        add_slices(e);
        e->complete = e->order->operation == RANKS_SUM_SLICES;
        return e->complete ? MPI_SUCCESS : share_slices(e);
    }
    const int sum_or_slices = e->order->operation == RANKS_SUM || e->order->operation == RANKS_SHARE_SLICES;
    if (sum_or_slices && e->order->form == RANKS_BF16) {
        widen(e->order->values, e->outgoing_bf16, e->order->count);
    }
    e->complete = 1;
    return MPI_SUCCESS;
}
