#include "dist/ranks_device.h"

#include "base/error.h"
#include "base/log.h"

#include <stdlib.h>

void device_ranks_lost(const struct device_ranks *d, const char *what)
{
    log_line(LOG_ERROR, "rank %d: %s; this ends the run", d->host.rank, what);
    ranks_abort(&d->host);
}

static struct device_ranks *device_of(const struct ranks *ranks)
{
    return ranks->implementation == &ranks_nccl || ranks->implementation == &ranks_staged ? ranks->link
                                                                                          : NULL;
}

/* By NCCL where all have it. */
static enum voco_status choose_way(struct device_ranks *d, const struct ranks_implementation **way)
{
    char text[32];
    enum voco_status status = ranks_agree(&d->host, nccl_library_open(&d->nccl));
    if (status != VOCO_OK) {
        *way = &ranks_staged;
        log_line(
            LOG_INFO,
            "%d processes: sums go through the host's memory and not from GPU to GPU, which is slower: %s",
            d->host.size, voco_error_message());
        return VOCO_OK;
    }
    *way = &ranks_nccl;
    status = nccl_join(d);
    if (status == VOCO_OK) {
        log_line(LOG_INFO, "%d processes: sums go from GPU to GPU by NCCL %s", d->host.size,
                 nccl_version_text(text, d->nccl.version));
    }
    return status;
}

/* Everything that is in it; d->beside is open. */
static void free_device(struct device_ranks *d)
{
    struct compute *beside = &d->beside;
    beside->wait(beside);
    if (d->comm != NULL) {
        (void)d->nccl.functions.comm_destroy(d->comm);
    }
    beside->release(beside, d->incoming);
    beside->release(beside, d->values_bf16);
    exchange_plan_free(&d->plan);
    for (int k = 0; k < staged_orders; k++) {
        beside->release_staging(beside, d->staged[k].values);
    }
    compute_close(beside);
    nccl_library_close(&d->nccl);
    free(d);
}

/* NULL where it cannot be opened, with the cause in *status. */
static struct device_ranks *open_device(enum voco_status *status, const struct ranks *ranks,
                                        struct compute *c)
{
    struct device_ranks *d = calloc(1, sizeof *d);
    if (d == NULL) {
        *status = fail(VOCO_NO_MEMORY, "no memory for the connection of the GPUs");
        return NULL;
    }
    *status = c->open_beside(c, &d->beside);
    if (*status != VOCO_OK) {
        free(d);
        return NULL;
    }
    d->host = *ranks;
    d->c = c;
    return d;
}

enum voco_status ranks_join_device(struct ranks *ranks, struct compute *c)
{
    enum voco_status status = VOCO_OK;
    const struct ranks_implementation *way = NULL;
    struct device_ranks *d = open_device(&status, ranks, c);
    status = ranks_agree(ranks, status);
    if (d == NULL) {
        return status;
    }
    if (status == VOCO_OK) {
        status = choose_way(d, &way);
    }
    if (status != VOCO_OK) {
        free_device(d);
        return status;
    }
    ranks->implementation = way;
    ranks->link = d;
    return VOCO_OK;
}

void ranks_leave_device(struct ranks *ranks)
{
    struct device_ranks *d = device_of(ranks);
    if (d == NULL) {
        return;
    }
    ranks->implementation = d->host.implementation;
    ranks->link = d->host.link;
    free_device(d);
}
