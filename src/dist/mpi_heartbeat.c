#include "dist/mpi_heartbeat.h"

#include "base/clock.h"
#include "dist/ranks.h"

static const double seconds_between = 2;
static const double longest_look = 3; /* what is longer was sleep */

static int listen(struct mpi_heartbeat *h)
{
    return MPI_Irecv(&h->heard, 1, MPI_INT, h->before, 0, h->comm, &h->listening);
}

int mpi_heartbeat_open(struct mpi_heartbeat *h)
{
    int rank = 0;
    *h = (struct mpi_heartbeat){.sending = MPI_REQUEST_NULL, .listening = MPI_REQUEST_NULL};
    const int error = MPI_Comm_dup(MPI_COMM_WORLD, &h->comm);
    if (error != MPI_SUCCESS) {
        return error;
    }
    (void)MPI_Comm_set_errhandler(h->comm, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(h->comm, &rank);
    (void)MPI_Comm_size(h->comm, &h->size);
    h->next = (rank + 1) % h->size;
    h->before = (rank + h->size - 1) % h->size;
    h->last_look = h->last_sent = seconds_now();
    return h->size > 1 ? listen(h) : MPI_SUCCESS;
}

void mpi_heartbeat_close(struct mpi_heartbeat *h)
{
    (void)MPI_Comm_free(&h->comm);
}

static int is_sent(struct mpi_heartbeat *h)
{
    int sent = 1;
    if (h->sending != MPI_REQUEST_NULL) {
        (void)MPI_Test(&h->sending, &sent, MPI_STATUS_IGNORE);
    }
    return sent;
}

/* Errors of MPI show as silence. */
static void send(struct mpi_heartbeat *h, enum sign_of_life sign)
{
    if (is_sent(h) && !h->said_goodbye) {
        h->sent = (int)sign;
        h->said_goodbye = sign == SIGN_GOODBYE;
        h->last_sent = seconds_now();
        (void)MPI_Isend(&h->sent, 1, MPI_INT, h->next, 0, h->comm, &h->sending);
    }
}

static void hear(struct mpi_heartbeat *h)
{
    int heard = 0;
    while (!h->heard_goodbye && MPI_Test(&h->listening, &heard, MPI_STATUS_IGNORE) == MPI_SUCCESS && heard) {
        h->silence = 0;
        h->heard_goodbye = h->heard == SIGN_GOODBYE;
        h->heard_end = h->heard_end || h->heard == SIGN_END;
        if (!h->heard_goodbye && listen(h) != MPI_SUCCESS) {
            break;
        }
        heard = 0;
    }
}

int mpi_heartbeat_beat(struct mpi_heartbeat *h)
{
    if (h->size == 1) {
        return -1;
    }
    const double now = seconds_now(), since = now - h->last_look;
    h->last_look = now;
    h->silence += since < longest_look ? since : 0;
    if (now - h->last_sent >= seconds_between) {
        send(h, SIGN_HERE);
    }
    hear(h);
    return !h->heard_goodbye && h->silence > ranks_patience_seconds ? h->before : -1;
}

static void wait_until_sent(struct mpi_heartbeat *h)
{
    const double until = seconds_now() + 1;
    while (!is_sent(h) && seconds_now() < until) {
    }
}

void mpi_heartbeat_pass_on_end(struct mpi_heartbeat *h)
{
    if (h->size > 1) {
        wait_until_sent(h); /* an earlier sign */
        send(h, SIGN_END);
        wait_until_sent(h);
    }
}

int mpi_heartbeat_end(struct mpi_heartbeat *h)
{
    if (h->size == 1) {
        return 1;
    }
    send(h, SIGN_GOODBYE);
    hear(h);
    return is_sent(h) && h->heard_goodbye && h->said_goodbye;
}
