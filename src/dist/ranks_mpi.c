/* The ranks of an MPI job. One thread makes all calls of MPI, so that it may be any MPI that knows threads at
 * all (MPI_THREAD_FUNNELED); the others put orders into its queue and sleep until they are done. It carries
 * out one order at a time, with calls that do not block, and sleeps between its looks at them. */
#include "dist/ranks_implementation.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dist/mpi_exchange.h"
#include "dist/mpi_heartbeat.h"

#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

struct mpi_link {
    struct ranks *ranks; /* of the caller of ranks_open_mpi; until it is opened */
    int rank;
    pthread_t thread;
    struct node_layout nodes; /* as sums see them */
    struct mpi_exchange exchange;
    struct mpi_heartbeat heartbeat;

    pthread_mutex_t lock; /* for what follows and for done of the orders */
    pthread_cond_t work;  /* there is an order, or it is time to end */
    pthread_cond_t done;  /* an order was carried out, or MPI is set up */
    struct ranks_order *first, *last;
    int opened, ending, aborting;
    enum voco_status status; /* of setting up */
    char message[256];
};

/* ---- the thread ---- */

static void nap(double seconds)
{
    const struct timespec time = {.tv_nsec = (long)(seconds * 1e9)};
    (void)nanosleep(&time, NULL);
}

static void end_job(struct mpi_link *link)
{
    mpi_heartbeat_pass_on_end(&link->heartbeat);
    (void)MPI_Abort(MPI_COMM_WORLD, 1);
    _exit(1); /* where the other machines cannot be reached, this one is left */
}

static void look_after_others(struct mpi_link *link)
{
    pthread_mutex_lock(&link->lock);
    const int aborting = link->aborting;
    pthread_mutex_unlock(&link->lock);
    if (aborting) {
        end_job(link);
    }
    const int silent = mpi_heartbeat_beat(&link->heartbeat);
    if (link->heartbeat.heard_end) {
        log_line(LOG_ERROR, "rank %d: rank %d ends the run", link->rank, link->heartbeat.before);
        end_job(link);
    }
    if (silent >= 0) {
        log_line(LOG_ERROR, "rank %d: no sign of life from rank %d for %d s; this ends the run", link->rank,
                 silent, ranks_patience_seconds);
        end_job(link);
    }
}

/* Sleeps are a small part of what was waited already, so they cost little time and little processor. */
static void carry_out(struct mpi_link *link, const struct ranks_order *order)
{
    const double shortest = 5e-6, longest = 5e-4, part = 0.05;
    double since = seconds_now();
    int moved = 0, error = mpi_exchange_begin(&link->exchange, order);
    while (error == MPI_SUCCESS && !link->exchange.complete) {
        const int before = moved;
        error = mpi_exchange_go_on(&link->exchange, &moved);
        if (link->exchange.complete) {
            break;
        }
        if (moved != before) {
            since = seconds_now();
        }
        const double waited = part * (seconds_now() - since);
        nap(waited < shortest ? shortest : waited > longest ? longest : waited);
        look_after_others(link);
    }
    if (error != MPI_SUCCESS) {
        char text[MPI_MAX_ERROR_STRING] = "";
        int length = 0;
        (void)MPI_Error_string(error, text, &length);
        log_line(LOG_ERROR, "rank %d: lost the other ranks: %s; this ends the run", link->rank, text);
        end_job(link);
    }
}

static int count_processors(const cpu_set_t *sets, int own, int size)
{
    int sharing = 1;
    for (int i = 0; i < size; i++) {
        sharing += i != own && CPU_EQUAL(&sets[i], &sets[own]);
    }
    const int processors = CPU_COUNT(&sets[own]) / sharing;
    return processors > 1 ? processors : 1;
}

/* The machine of a rank by the lowest rank that is on it; where VOCO_NODES is set, by what that says. */
static enum voco_status name_node(int *name, MPI_Comm host, const struct ranks *ranks)
{
    const char *given = getenv("VOCO_NODES"), *text = given;
    *name = ranks->rank;
    if (MPI_Bcast(name, 1, MPI_INT, 0, host) != MPI_SUCCESS) {
        return fail(VOCO_IO, "MPI cannot tell which ranks are on this machine");
    }
    for (int rank = 0; rank < ranks->size && given != NULL && *given != '\0'; rank++) {
        char *end = NULL;
        const long number = strtol(text, &end, 10);
        if (end == text || number < 0 || number > INT_MAX || *end != (rank + 1 < ranks->size ? ',' : '\0')) {
            return fail(VOCO_BAD_INPUT,
                        "VOCO_NODES=%s: it takes a number for each of the %d processes, as 0,0,1", given,
                        ranks->size);
        }
        *name = rank == ranks->rank ? (int)number : *name;
        text = end + 1;
    }
    return VOCO_OK;
}

/* Which ranks are on which machine. */
static enum voco_status lay_out_nodes(struct mpi_link *link, MPI_Comm host)
{
    struct ranks *ranks = link->ranks;
    int *names = calloc((size_t)ranks->size, sizeof *names), own = 0;
    enum voco_status status = names != NULL ? name_node(&own, host, ranks)
                                            : fail(VOCO_NO_MEMORY, "no memory for a list of machines");
    if (status == VOCO_OK &&
        MPI_Allgather(&own, 1, MPI_INT, names, 1, MPI_INT, MPI_COMM_WORLD) != MPI_SUCCESS) {
        status = fail(VOCO_IO, "MPI cannot tell which ranks share a machine");
    }
    if (status == VOCO_OK && !node_layout_create(&link->nodes, names, ranks->size)) {
        status = fail(VOCO_NO_MEMORY, "no memory for a list of machines");
    }
    ranks->nodes = &link->nodes;
    free(names);
    return status;
}

/* Who is on this machine, and bound to which processors. */
static enum voco_status look_around(struct mpi_link *link)
{
    struct ranks *ranks = link->ranks;
    MPI_Comm host = MPI_COMM_NULL;
    int own = 0;
    cpu_set_t set;
    CPU_ZERO(&set);
    (void)sched_getaffinity(0, sizeof set, &set);
    if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host) != MPI_SUCCESS ||
        MPI_Comm_size(host, &ranks->host_size) != MPI_SUCCESS || MPI_Comm_rank(host, &own) != MPI_SUCCESS) {
        return fail(VOCO_IO, "MPI cannot tell which ranks are on this machine");
    }
    cpu_set_t *sets = calloc((size_t)ranks->host_size, sizeof *sets);
    if (sets == NULL ||
        MPI_Allgather(&set, sizeof set, MPI_BYTE, sets, sizeof set, MPI_BYTE, host) != MPI_SUCCESS) {
        free(sets);
        return fail(VOCO_IO, "MPI cannot tell how the ranks of this machine share its processors");
    }
    ranks->host_rank = own;
    ranks->processors = count_processors(sets, own, ranks->host_size);
    free(sets);
    const enum voco_status status = lay_out_nodes(link, host);
    (void)MPI_Comm_free(&host);
    return status;
}

static enum voco_status set_up(struct mpi_link *link)
{
    int provided = 0;
    struct ranks *ranks = link->ranks;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
        provided < MPI_THREAD_FUNNELED) {
        return fail(VOCO_UNSUPPORTED, "MPI cannot be used in a program with threads here");
    }
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &ranks->rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &ranks->size);
    link->rank = ranks->rank;
    enum voco_status status = look_around(link);
    if (status == VOCO_OK && (mpi_exchange_open(&link->exchange, &link->nodes) != MPI_SUCCESS ||
                              mpi_heartbeat_open(&link->heartbeat) != MPI_SUCCESS)) {
        status = fail(VOCO_IO, "MPI cannot set up its communicators");
    }
    return status;
}

/* The next order; NULL when it is time to look after the others or to end. */
static struct ranks_order *next_order(struct mpi_link *link)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&link->lock);
    int waited = 0;
    while (link->first == NULL && !link->ending && !link->aborting && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&link->work, &link->lock, &until);
    }
    struct ranks_order *order = link->first;
    pthread_mutex_unlock(&link->lock);
    return order;
}

static void take_off(struct mpi_link *link, struct ranks_order *order)
{
    pthread_mutex_lock(&link->lock);
    link->first = order->next;
    link->last = link->first == NULL ? NULL : link->last;
    order->done = 1;
    pthread_cond_broadcast(&link->done);
    pthread_mutex_unlock(&link->lock);
}

static int is_ending(struct mpi_link *link)
{
    pthread_mutex_lock(&link->lock);
    const int ending = link->ending && link->first == NULL;
    pthread_mutex_unlock(&link->lock);
    return ending;
}

static void *communicate(void *context)
{
    struct mpi_link *link = context;
    (void)prctl(PR_SET_TIMERSLACK, 1000UL);
    const enum voco_status status = set_up(link);
    pthread_mutex_lock(&link->lock);
    link->status = status;
    (void)snprintf(link->message, sizeof link->message, "%.250s",
                   status != VOCO_OK ? voco_error_message() : "");
    link->opened = 1;
    pthread_cond_broadcast(&link->done);
    pthread_mutex_unlock(&link->lock);
    while (status == VOCO_OK && !is_ending(link)) {
        struct ranks_order *order = next_order(link);
        if (order != NULL) {
            carry_out(link, order);
            take_off(link, order);
        }
        look_after_others(link);
    }
    while (status == VOCO_OK && !mpi_heartbeat_end(&link->heartbeat)) {
        nap(1e-3);
        look_after_others(link);
    }
    if (status == VOCO_OK) {
        mpi_exchange_close(&link->exchange);
        mpi_heartbeat_close(&link->heartbeat);
        (void)MPI_Finalize();
    }
    return NULL;
}

/* ---- the other threads ---- */

static void start(void *context, struct ranks_order *order)
{
    struct mpi_link *link = context;
    order->next = NULL;
    pthread_mutex_lock(&link->lock);
    if (link->last != NULL) {
        link->last->next = order;
    } else {
        link->first = order;
    }
    link->last = order;
    pthread_cond_signal(&link->work);
    pthread_mutex_unlock(&link->lock);
}

static void finish(void *context, struct ranks_order *order)
{
    struct mpi_link *link = context;
    pthread_mutex_lock(&link->lock);
    while (!order->done) {
        pthread_cond_wait(&link->done, &link->lock);
    }
    pthread_mutex_unlock(&link->lock);
}

static void abort_all(void *context)
{
    struct mpi_link *link = context;
    pthread_mutex_lock(&link->lock);
    link->aborting = 1;
    pthread_cond_signal(&link->work);
    pthread_mutex_unlock(&link->lock);
    for (;;) {
        (void)pause(); /* until the thread ends the process */
    }
}

static void release(struct mpi_link *link)
{
    (void)pthread_mutex_destroy(&link->lock);
    (void)pthread_cond_destroy(&link->work);
    (void)pthread_cond_destroy(&link->done);
    node_layout_free(&link->nodes);
    free(link);
}

static void close_link(void *context)
{
    struct mpi_link *link = context;
    pthread_mutex_lock(&link->lock);
    link->ending = 1;
    pthread_cond_signal(&link->work);
    pthread_mutex_unlock(&link->lock);
    (void)pthread_join(link->thread, NULL);
    release(link);
}

static const struct ranks_implementation ranks_mpi = {start, finish, abort_all, close_link};

enum voco_status ranks_open_mpi(struct ranks *ranks)
{
    struct mpi_link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the connection of the ranks");
    }
    link->ranks = ranks;
    (void)pthread_mutex_init(&link->lock, NULL);
    (void)pthread_cond_init(&link->work, NULL);
    (void)pthread_cond_init(&link->done, NULL);
    if (pthread_create(&link->thread, NULL, communicate, link) != 0) {
        release(link);
        return fail(VOCO_IO, "the thread that speaks with the other ranks cannot be started");
    }
    pthread_mutex_lock(&link->lock);
    while (!link->opened) {
        pthread_cond_wait(&link->done, &link->lock);
    }
    const enum voco_status status = link->status;
    pthread_mutex_unlock(&link->lock);
    if (status != VOCO_OK) {
        (void)pthread_join(link->thread, NULL);
        (void)fail(status, "%s", link->message);
        release(link);
        *ranks = ranks_alone();
        return status;
    }
    ranks->implementation = &ranks_mpi;
    ranks->link = link;
    return VOCO_OK;
}
