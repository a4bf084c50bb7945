/* One order (dist/ranks.h) on its way through MPI, in stages that do not block. */
#ifndef DIST_MPI_EXCHANGE_H
#define DIST_MPI_EXCHANGE_H

#include "dist/ranks.h"

#include <mpi.h>
#include <stdint.h>

struct mpi_exchange {
    MPI_Comm comm; /* of its own */
    int rank, size;
    const struct ranks_order *order;
    MPI_Request request;
    int adding; /* the slices are on their way to those who add them */
    int complete;
    int *counts, *places; /* (size) of the slices, in elements */
    int *incoming_counts, *incoming_places;
    size_t room;     /* elements of the following */
    float *incoming; /* every rank's values of the own slice, one rank after the other */
    uint16_t *outgoing_bf16, *incoming_bf16;
};

/* These return what MPI does. An order that does not fit in memory is MPI_ERR_NO_MEM. */
int mpi_exchange_open(struct mpi_exchange *exchange);
void mpi_exchange_close(struct mpi_exchange *exchange);
int mpi_exchange_begin(struct mpi_exchange *exchange, const struct ranks_order *order);

/* Looks once; `complete` says whether the order is done. *stage grows where something has moved. */
int mpi_exchange_go_on(struct mpi_exchange *exchange, int *stage);

#endif
