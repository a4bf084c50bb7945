#include "compute/compute_arena.h"

#include "base/error.h"

#include <stdlib.h>

/* Of a device's free memory, for scratch memory and libraries: at most 3 GiB, at most a quarter. */
static size_t reserve_of(size_t free_memory)
{
    const size_t most = (size_t)3 << 30;
    return free_memory / 4 < most ? free_memory / 4 : most;
}

static enum voco_status open_on_device(struct arena *arena, struct compute *c, size_t capacity)
{
    const size_t free_memory = c->free_memory(c), room = free_memory - reserve_of(free_memory);
    const size_t bytes = capacity < room ? capacity : room, host_room = (size_t)16 << 30;
    struct arena *host = malloc(sizeof *host);
    if (host == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for an arena");
    }
    enum voco_status status = arena_open(host, host_room);
    void *memory = status == VOCO_OK ? c->allocate(c, bytes) : NULL;
    if (status == VOCO_OK) {
        status = compute_status(c);
    }
    if (status != VOCO_OK) {
        arena_close(host);
        free(host);
        return status;
    }
    arena_borrow(arena, memory, bytes, host);
    return VOCO_OK;
}

enum voco_status compute_arena_open(struct arena *arena, struct compute *c, size_t capacity)
{
    *arena = (struct arena){0};
    return c->separate_memory ? open_on_device(arena, c, capacity) : arena_open(arena, capacity);
}

void compute_arena_close(struct arena *arena, struct compute *c)
{
    if (arena->borrowed) {
        c->wait(c);
        c->release(c, arena->base);
        arena_close(arena->host);
        free(arena->host);
    }
    arena_close(arena);
}

enum voco_status compute_arena_reserve(struct arena *arena, struct compute *c, size_t bytes)
{
    if (!c->separate_memory || bytes + arena_alignment <= arena->capacity) {
        return VOCO_OK;
    }
    compute_arena_close(arena, c);
    return compute_arena_open(arena, c, bytes + arena_alignment);
}

const real *reals_for_operations(struct compute *c, struct arena *arena, const real *host, size_t count)
{
    if (!c->separate_memory) {
        return host;
    }
    real *copy = arena_push(arena, count * sizeof *copy);
    if (copy != NULL) {
        c->to_device(c, copy, host, count * sizeof *copy);
    }
    return copy;
}
