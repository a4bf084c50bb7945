/* Decoded chunks kept in memory up to a budget, shared by the threads that make batches: what is used again
 * is not read and decoded again. What batches hold does not depend on it. The least recently used chunks go
 * first, approximately (CLOCK: each use sets a mark, a hand that goes round takes the first without one and
 * clears those it passes). */
#ifndef STORE_CHUNK_CACHE_H
#define STORE_CHUNK_CACHE_H

#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

struct chunk_cache;

/* A budget in bytes, for chunks of one size (chunk_bytes(levels)); memory is taken as it is used. A budget
 * below one chunk keeps nothing. Fails with VOCO_NO_MEMORY only. */
enum voco_status chunk_cache_open(struct chunk_cache **cache, uint64_t budget, size_t chunk_size);

/* NULL is fine. No slot may be held. */
void chunk_cache_close(struct chunk_cache *cache);

/* A place in the cache that its holder must release. */
struct chunk_slot;

/* Which chunk: any pointer that stands for the array, and the chunk's number in it. */
struct chunk_key {
    const void *array;
    uint64_t chunk;
};

/* The chunk's slot where it is kept, else NULL. */
struct chunk_slot *chunk_cache_find(struct chunk_cache *cache, struct chunk_key key);

/* A free slot to decode the chunk of so many bytes into; nobody finds it before chunk_slot_publish. NULL
 * where every slot is held, there is none, another thread is filling one for this chunk, or the cache is for
 * chunks of another size. */
struct chunk_slot *chunk_cache_begin(struct chunk_cache *cache, struct chunk_key key, size_t bytes);
void chunk_slot_publish(struct chunk_cache *cache, struct chunk_slot *slot);

/* The chunk's bytes, aligned to 64. */
void *chunk_slot_bytes(const struct chunk_slot *slot);

/* Ends what find or begin gave. A slot that was begun and not published becomes free again. */
void chunk_slot_release(struct chunk_cache *cache, struct chunk_slot *slot);

/* How many lookups found their chunk, and how many did not. */
void chunk_cache_count(uint64_t *found, uint64_t *missed, struct chunk_cache *cache);

#endif
