#include "dist/ranks.h"

#include "base/error.h"
#include "base/log.h"
#include "dist/node_layout.h"
#include "dist/ranks_implementation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long number_in_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? strtol(text, NULL, 10) : otherwise;
}

/* Open MPI's mpirun, srun --mpi=pmix, and MPICH's mpirun or srun --mpi=pmi2 each leave a name of their own.
 */
static int started_by_mpi(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL ||
           getenv("PMI_RANK") != NULL;
}

enum voco_status ranks_open(struct ranks *ranks)
{
    *ranks = ranks_alone();
    if (started_by_mpi()) {
#ifdef VOCO_MPI
        return ranks_open_mpi(ranks);
#else
        if (number_in_environment("OMPI_COMM_WORLD_SIZE", number_in_environment("PMI_SIZE", 2)) > 1) {
            return fail(VOCO_UNSUPPORTED, "this voco was built without MPI, so it cannot share a run between "
                                          "several processes (configure with -DVOCO_MPI=ON)");
        }
#endif
    }
    if (getenv("SLURM_STEP_ID") != NULL && number_in_environment("SLURM_STEP_NUM_TASKS", 1) > 1 &&
        !started_by_mpi()) {
        return fail(VOCO_UNSUPPORTED,
                    "srun started several processes that do not know of each other: use srun --mpi=pmix");
    }
    return VOCO_OK;
}

void ranks_close(struct ranks *ranks)
{
    ranks->implementation->close(ranks->link);
    *ranks = ranks_alone();
}

void ranks_abort(const struct ranks *ranks)
{
    ranks->implementation->abort(ranks->link);
}

void ranks_start(const struct ranks *ranks, struct ranks_order *order)
{
    order->done = 0;
    ranks->implementation->start(ranks->link, order);
}

void ranks_finish(const struct ranks *ranks, struct ranks_order *order)
{
    ranks->implementation->finish(ranks->link, order);
}

size_t ranks_slice(size_t *first, const struct ranks *ranks, int rank, size_t count)
{
    return node_layout_slice(first, ranks->nodes, rank, count);
}

int ranks_machines(const struct ranks *ranks)
{
    return ranks->nodes->nodes;
}

static void carry_out(const struct ranks *ranks, struct ranks_order *order)
{
    ranks_start(ranks, order);
    ranks_finish(ranks, order);
}

void ranks_share(const struct ranks *ranks, void *pieces, size_t bytes)
{
    struct ranks_order order = {.operation = RANKS_SHARE, .values = pieces, .count = bytes};
    carry_out(ranks, &order);
}

void ranks_broadcast(const struct ranks *ranks, void *values, size_t bytes, int root)
{
    enum { most = 1 << 30 };
    for (size_t done = 0; done < bytes; done += most) {
        struct ranks_order order = {.operation = RANKS_BROADCAST,
                                    .values = (char *)values + done,
                                    .count = bytes - done < most ? bytes - done : most,
                                    .root = root};
        carry_out(ranks, &order);
    }
}

/* Every rank's `own`, one after the other, to be freed. */
static void *gather(const struct ranks *ranks, const void *own, size_t bytes)
{
    char *pieces = calloc((size_t)ranks->size, bytes);
    if (pieces == NULL) {
        log_line(LOG_ERROR, "rank %d: no memory for a message of %d ranks", ranks->rank, ranks->size);
        ranks_abort(ranks);
    } else {
        memcpy(pieces + (size_t)ranks->rank * bytes, own, bytes);
        ranks_share(ranks, pieces, bytes);
    }
    return pieces;
}

void ranks_sum_doubles(const struct ranks *ranks, double *values, int count)
{
    double *pieces = ranks->size > 1 ? gather(ranks, values, (size_t)count * sizeof *values) : NULL;
    for (int i = 0; i < count && pieces != NULL; i++) {
        values[i] = 0;
        for (int rank = 0; rank < ranks->size; rank++) {
            values[i] += pieces[rank * count + i];
        }
    }
    free(pieces);
}

void ranks_largest(const struct ranks *ranks, int *value)
{
    int *pieces = ranks->size > 1 ? gather(ranks, value, sizeof *value) : NULL;
    for (int rank = 0; rank < ranks->size && pieces != NULL; rank++) {
        *value = pieces[rank] > *value ? pieces[rank] : *value;
    }
    free(pieces);
}

/* ---- one outcome for all ---- */

struct outcome {
    enum voco_status status;
    char message[512];
};

static int same_outcome(const struct outcome *a, const struct outcome *b)
{
    return a->status == b->status && strcmp(a->message, b->message) == 0;
}

/* Appends "ranks 3, 5: MESSAGE" for all ranks from `first` on that have its outcome. */
static void describe(char *text, size_t room, const struct outcome *outcomes, int first, int size)
{
    size_t used = strlen(text);
    int count = 0;
    for (int rank = first; rank < size; rank++) {
        count += same_outcome(&outcomes[rank], &outcomes[first]);
    }
    used += (size_t)snprintf(text + used, room - used, "%s%s ", used > 0 ? "; " : "",
                             count > 1 ? "ranks" : "rank");
    for (int rank = first, told = 0; rank < size && used + 16 < room; rank++) {
        if (same_outcome(&outcomes[rank], &outcomes[first])) {
            used += (size_t)snprintf(text + used, room - used, "%s%d", told++ > 0 ? ", " : "", rank);
        }
    }
    (void)snprintf(text + used, room - used, ": %s", outcomes[first].message);
}

static enum voco_status merge(const struct outcome *outcomes, int size)
{
    enum voco_status status = VOCO_OK;
    int shared = 1;
    for (int rank = 0; rank < size; rank++) {
        const enum voco_status own = outcomes[rank].status;
        shared = shared && same_outcome(&outcomes[rank], &outcomes[0]);
        status = status == VOCO_OK || (status == VOCO_STOPPED && own != VOCO_OK) ? own : status;
    }
    if (shared) {
        return fail(status, "%s", outcomes[0].message);
    }
    char text[1024] = "";
    for (int rank = 0; rank < size && strlen(text) + 64 < sizeof text; rank++) {
        int told = outcomes[rank].status == VOCO_OK ||
                   (outcomes[rank].status == VOCO_STOPPED && status != VOCO_STOPPED);
        for (int before = 0; before < rank && !told; before++) {
            told = same_outcome(&outcomes[before], &outcomes[rank]);
        }
        if (!told) {
            describe(text, sizeof text, outcomes, rank, size);
        }
    }
    return fail(status, "%s", text);
}

enum voco_status ranks_agree(const struct ranks *ranks, enum voco_status status)
{
    if (ranks->size == 1) {
        return status;
    }
    int failed = status != VOCO_OK;
    struct outcome own = {.status = status};
    if (failed) {
        (void)snprintf(own.message, sizeof own.message, "%.500s", voco_error_message());
    }
    ranks_largest(ranks, &failed);
    if (!failed) {
        return VOCO_OK;
    }
    struct outcome *outcomes = gather(ranks, &own, sizeof own);
    if (outcomes == NULL) {
        return status;
    }
    const enum voco_status shared = merge(outcomes, ranks->size);
    free(outcomes);
    return shared;
}
