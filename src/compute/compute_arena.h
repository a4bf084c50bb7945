/* Arenas (base/arena.h) whose memory operations can work on, wherever that is. */
#ifndef COMPUTE_COMPUTE_ARENA_H
#define COMPUTE_COMPUTE_ARENA_H

#include "base/arena.h"
#include "compute/compute.h"

/* In the host's memory: `capacity` bytes of address space, as arena_open. In separate memory: `capacity`
 * bytes, or what is free of it but for a reserve that operations may need for themselves, whichever is less;
 * what the host looks into then lies beside it (arena_push_host). VOCO_NO_MEMORY. Close with
 * compute_arena_close. */
enum voco_status compute_arena_open(struct arena *arena, struct compute *c, size_t capacity);
void compute_arena_close(struct arena *arena, struct compute *c); /* harmless on a zeroed one */

/* Sees to it that an empty arena in separate memory has room for `bytes`, or for what there is where that is
 * less: what it had is given back, and more is taken. An arena in the host's memory stays as it is, for it
 * takes pages as they are touched. VOCO_NO_MEMORY, and then it is closed. */
enum voco_status compute_arena_reserve(struct arena *arena, struct compute *c, size_t bytes);

/* `count` reals that are the host's, as operations take them: the array itself where operations work in the
 * host's memory, else a copy on the arena. NULL where that is exhausted. */
const real *reals_for_operations(struct compute *c, struct arena *arena, const real *host, size_t count);

#endif
