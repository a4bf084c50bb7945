/* Signs of life. The ranks stand in a ring; each sends one to the next every two seconds and listens to the
 * one before it, by the same thread that carries out orders, so they do not depend on how long a computation
 * takes. What the listener itself slept through (a suspended machine) does not count. */
#ifndef DIST_MPI_HEARTBEAT_H
#define DIST_MPI_HEARTBEAT_H

#include <mpi.h>

enum sign_of_life { SIGN_HERE, SIGN_GOODBYE, SIGN_END };

struct mpi_heartbeat {
    MPI_Comm comm; /* of its own */
    int size, next, before;
    MPI_Request sending, listening;
    int sent, heard;  /* enum sign_of_life */
    double last_sent; /* seconds of base/clock.h */
    double last_look;
    double silence; /* seconds since the last sign from `before`, in which this rank was awake */
    int said_goodbye, heard_goodbye;
    int heard_end; /* the rank before has ended the run */
};

int mpi_heartbeat_open(struct mpi_heartbeat *heartbeat);
void mpi_heartbeat_close(struct mpi_heartbeat *heartbeat);

/* To be called at least once a second. The rank that has been silent for ranks_patience_seconds; -1: none. */
int mpi_heartbeat_beat(struct mpi_heartbeat *heartbeat);

/* Tells the next rank that this one ends the run; each passes that on. Where MPI_Abort does not reach the
 * others (ranks that srun started), they need not find out by silence, one after the other. Takes two seconds
 * at most. */
void mpi_heartbeat_pass_on_end(struct mpi_heartbeat *heartbeat);

/* Says goodbye, and is to be called until it returns 1: the rank before has said it as well. */
int mpi_heartbeat_end(struct mpi_heartbeat *heartbeat);

#endif
