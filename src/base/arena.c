#include "base/arena.h"

#include "base/error.h"

#include <sys/mman.h>

enum voco_status arena_open(struct arena *arena, size_t capacity)
{
    *arena = (struct arena){0};
    void *base =
        mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return fail(VOCO_NO_MEMORY, "cannot reserve %zu MiB of address space for activations",
                    capacity >> 20);
    }
    /* Large tensors are streamed through: huge pages save most of their page faults. It is advice, so the
     * result does not matter. */
    (void)madvise(base, capacity, MADV_HUGEPAGE);
    arena->base = base;
    arena->capacity = capacity;
    return VOCO_OK;
}

void arena_close(struct arena *arena)
{
    if (arena->base != NULL && !arena->borrowed) {
        (void)munmap(arena->base, arena->capacity);
    }
    *arena = (struct arena){0};
}

void arena_borrow(struct arena *arena, void *base, size_t capacity, struct arena *host)
{
    *arena = (struct arena){.base = base, .capacity = capacity, .borrowed = 1, .host = host};
}

void *arena_push(struct arena *arena, size_t bytes)
{
    const size_t left = arena->capacity - arena->used;
    if (arena->exhausted || bytes > left || left - bytes < arena_alignment) {
        arena->exhausted = 1;
        return NULL;
    }
    void *result = arena->base + arena->used;
    arena->used += (bytes + arena_alignment - 1) / arena_alignment * arena_alignment;
    if (arena->used > arena->peak) {
        arena->peak = arena->used;
    }
    return result;
}

void *arena_push_host(struct arena *arena, size_t bytes)
{
    if (arena->host == NULL) {
        return arena_push(arena, bytes);
    }
    void *result = arena->exhausted ? NULL : arena_push(arena->host, bytes);
    arena->exhausted |= result == NULL;
    return result;
}

struct arena_mark arena_mark(const struct arena *arena)
{
    return (struct arena_mark){arena->used, arena->host != NULL ? arena->host->used : 0};
}

void arena_release(struct arena *arena, struct arena_mark mark)
{
    arena->used = mark.used;
    if (arena->host != NULL) {
        arena->host->used = mark.host_used;
    }
}

void arena_reset(struct arena *arena)
{
    arena->used = 0;
    arena->exhausted = 0;
    if (arena->host != NULL) {
        arena_reset(arena->host);
    }
}
