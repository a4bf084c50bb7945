/* A LIFO arena: the memory of a training step. Forward pushes what backward needs, backward releases it in
 * the opposite order; nothing in a step calls malloc.
 *
 * Address space is reserved once and pages are taken by the kernel when first touched, so a generous capacity
 * costs nothing until it is used. Not thread-safe: one arena per thread that allocates. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "voco/status.h"

#include <stddef.h>

enum { arena_alignment = 64 };

struct arena {
    unsigned char *base;
    size_t capacity; /* bytes reserved */
    size_t used;
    size_t peak;        /* the largest `used` so far */
    int exhausted;      /* set by the first push that did not fit; stays until arena_reset */
    int borrowed;       /* the memory belongs to somebody else */
    struct arena *host; /* NULL, or: this arena's memory is not the host's, and what the host itself looks
                           into is pushed onto that one */
};

/* How full an arena is. */
struct arena_mark {
    size_t used, host_used;
};

/* Reserves `capacity` bytes of address space. Fails with VOCO_NO_MEMORY. Free with arena_close. */
enum voco_status arena_open(struct arena *arena, size_t capacity);
void arena_close(struct arena *arena);

/* An arena over `capacity` bytes at `base`, aligned to 64, which belong to the caller. Where they are a
 * device's the arena never looks into them, and `host`, open and otherwise unused, holds what arena_push_host
 * pushes. */
void arena_borrow(struct arena *arena, void *base, size_t capacity, struct arena *host);

/* `bytes` bytes, aligned to 64, uninitialised; NULL and arena->exhausted when the capacity is used up. */
void *arena_push(struct arena *arena, size_t bytes);

/* The same in memory that the host can look into, whatever the arena's own is. */
void *arena_push_host(struct arena *arena, size_t bytes);

/* Everything pushed after arena_mark() is gone after arena_release() with that mark. */
struct arena_mark arena_mark(const struct arena *arena);
void arena_release(struct arena *arena, struct arena_mark mark);

/* Empties the arena and clears `exhausted`; `peak` stays. */
void arena_reset(struct arena *arena);

#endif
