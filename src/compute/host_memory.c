#include "compute/host_memory.h"

#include "compute/gradient_scale.h"

#include <stdlib.h>
#include <string.h>

enum { alignment = 64 };

static void *allocate(struct compute *c, size_t bytes)
{
    void *memory = NULL;
    if (c->status != VOCO_OK) {
        return NULL;
    }
    if (posix_memalign(&memory, alignment, bytes > 0 ? bytes : 1) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "no memory for its arrays");
        return NULL;
    }
    return memory;
}

static void release(struct compute *c, void *memory)
{
    (void)c;
    free(memory);
}

static void copy(struct compute *c, void *to, const void *from, size_t bytes)
{
    if (c->status == VOCO_OK && bytes > 0) {
        memcpy(to, from, bytes);
    }
}

static void undo_if_skipped(struct compute *c, real *array, const real *before, const double *squares,
                            size_t count)
{
    if (c->status == VOCO_OK && !can_update(*squares)) {
        memcpy(array, before, count * sizeof *array);
    }
}

static void nothing_to_wait_for(struct compute *c)
{
    (void)c;
}

void compute_in_host_memory(struct compute *c)
{
    c->separate_memory = 0;
    c->allocate = allocate;
    c->release = release;
    c->allocate_staging = allocate;
    c->release_staging = release;
    c->to_device = copy;
    c->to_host = copy;
    c->copy = copy;
    c->undo_if_skipped = undo_if_skipped;
    c->wait = nothing_to_wait_for;
}
