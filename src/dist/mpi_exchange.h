/* One order (dist/ranks.h) on its way through MPI, in stages that do not block. */
#ifndef DIST_MPI_EXCHANGE_H
#define DIST_MPI_EXCHANGE_H

#include "dist/exchange_plan.h"
#include "dist/ranks.h"

#include <mpi.h>
#include <stdint.h>

/* What is under way: a sum passes the first four, one after the other, as its plan numbers them. */
enum mpi_stage { STAGE_WITHIN, STAGE_BETWEEN, STAGE_BACK_BETWEEN, STAGE_BACK_WITHIN, STAGE_COLLECTIVE };

struct mpi_exchange {
    MPI_Comm comm; /* of its own */
    int rank, size;
    const struct node_layout *nodes; /* borrowed */
    const struct ranks_order *order;
    struct exchange_plan plan;
    enum mpi_stage stage;
    int complete;
    int *counts, *places;  /* (size) of the slices, in elements */
    MPI_Request *requests; /* under way */
    int request_count, request_room;
    size_t room, bf16_room; /* elements of the following, in either form */
    void *incoming;         /* the terms of a stage's sums */
    uint16_t *values_bf16;  /* the order's values as they travel */
};

/* These return what MPI does. An order that does not fit in memory is MPI_ERR_NO_MEM. */
int mpi_exchange_open(struct mpi_exchange *exchange, const struct node_layout *nodes);
void mpi_exchange_close(struct mpi_exchange *exchange);
int mpi_exchange_begin(struct mpi_exchange *exchange, const struct ranks_order *order);

/* Looks once; `complete` says whether the order is done. *moved grows where something has moved. */
int mpi_exchange_go_on(struct mpi_exchange *exchange, int *moved);

#endif
