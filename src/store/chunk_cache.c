#include "store/chunk_cache.h"

#include "base/error.h"

#include <pthread.h>
#include <stdlib.h>

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_KEPT };

struct chunk_slot {
    struct chunk_key key;
    void *bytes;             /* NULL until the slot is first used */
    struct chunk_slot *next; /* in its bucket, unless free */
    enum slot_state state;
    int holders;
    int used; /* since the hand came by */
};

struct chunk_cache {
    pthread_mutex_t lock;
    struct chunk_slot *slots;
    struct chunk_slot **buckets; /* a power of two of them */
    size_t slot_count;
    size_t bucket_mask;
    size_t chunk_size;
    size_t hand;
    uint64_t found;
    uint64_t missed;
};

enum voco_status chunk_cache_open(struct chunk_cache **out, uint64_t budget, size_t chunk_size)
{
    *out = NULL;
    struct chunk_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL) {
        return fail(VOCO_NO_MEMORY, "out of memory");
    }
    cache->chunk_size = chunk_size;
    cache->slot_count = (size_t)(budget / chunk_size);
    size_t buckets = 1;
    while (buckets < cache->slot_count) {
        buckets *= 2;
    }
    cache->bucket_mask = buckets - 1;
    cache->slots = calloc(cache->slot_count + 1, sizeof *cache->slots);
    cache->buckets = calloc(buckets, sizeof(struct chunk_slot *));
    if (cache->slots == NULL || cache->buckets == NULL) {
        free(cache->slots);
        free(cache->buckets);
        free(cache);
        return fail(VOCO_NO_MEMORY, "no memory for a cache of %zu chunks", (size_t)(budget / chunk_size));
    }
    pthread_mutex_init(&cache->lock, NULL);
    *out = cache;
    return VOCO_OK;
}

void chunk_cache_close(struct chunk_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < cache->slot_count; i++) {
        free(cache->slots[i].bytes);
    }
    pthread_mutex_destroy(&cache->lock);
    free(cache->slots);
    free(cache->buckets);
    free(cache);
}

static struct chunk_slot **bucket_of(const struct chunk_cache *cache, struct chunk_key key)
{
    uint64_t hash = (uint64_t)(uintptr_t)key.array * 0x9E3779B97F4A7C15U + key.chunk;
    hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93U;
    return &cache->buckets[(hash ^ (hash >> 32)) & cache->bucket_mask];
}

static struct chunk_slot *look_up(const struct chunk_cache *cache, struct chunk_key key)
{
    struct chunk_slot *slot = *bucket_of(cache, key);
    while (slot != NULL && (slot->key.array != key.array || slot->key.chunk != key.chunk)) {
        slot = slot->next;
    }
    return slot;
}

static void unlink_slot(struct chunk_cache *cache, struct chunk_slot *slot)
{
    struct chunk_slot **link = bucket_of(cache, slot->key);
    while (*link != slot) {
        link = &(*link)->next;
    }
    *link = slot->next;
    slot->state = SLOT_FREE;
}

struct chunk_slot *chunk_cache_find(struct chunk_cache *cache, struct chunk_key key)
{
    pthread_mutex_lock(&cache->lock);
    struct chunk_slot *slot = look_up(cache, key);
    if (slot != NULL && slot->state == SLOT_KEPT) {
        slot->holders++;
        slot->used = 1;
        cache->found++;
    } else {
        slot = NULL;
        cache->missed++;
    }
    pthread_mutex_unlock(&cache->lock);
    return slot;
}

/* The first slot from the hand on that nobody holds and that was not used since the hand came by; NULL where
 * all are held. */
static struct chunk_slot *slot_to_reuse(struct chunk_cache *cache)
{
    for (size_t tries = 0; tries < 2 * cache->slot_count; tries++) {
        struct chunk_slot *slot = &cache->slots[cache->hand];
        cache->hand = (cache->hand + 1) % cache->slot_count;
        if (slot->holders == 0 && !slot->used) {
            return slot;
        }
        slot->used = 0;
    }
    return NULL;
}

struct chunk_slot *chunk_cache_begin(struct chunk_cache *cache, struct chunk_key key, size_t bytes)
{
    if (bytes != cache->chunk_size) {
        return NULL;
    }
    pthread_mutex_lock(&cache->lock);
    struct chunk_slot *slot = look_up(cache, key) == NULL ? slot_to_reuse(cache) : NULL;
    if (slot != NULL && slot->bytes == NULL) {
        slot->bytes = aligned_alloc(64, (cache->chunk_size + 63) / 64 * 64);
        slot = slot->bytes != NULL ? slot : NULL;
    }
    if (slot != NULL) {
        if (slot->state != SLOT_FREE) {
            unlink_slot(cache, slot);
        }
        struct chunk_slot **bucket = bucket_of(cache, key);
        *slot = (struct chunk_slot){key, slot->bytes, *bucket, SLOT_FILLING, 1, 1};
        *bucket = slot;
    }
    pthread_mutex_unlock(&cache->lock);
    return slot;
}

void chunk_slot_publish(struct chunk_cache *cache, struct chunk_slot *slot)
{
    pthread_mutex_lock(&cache->lock);
    slot->state = SLOT_KEPT;
    pthread_mutex_unlock(&cache->lock);
}

void *chunk_slot_bytes(const struct chunk_slot *slot)
{
    return slot->bytes;
}

void chunk_slot_release(struct chunk_cache *cache, struct chunk_slot *slot)
{
    pthread_mutex_lock(&cache->lock);
    slot->holders--;
    if (slot->state == SLOT_FILLING) {
        unlink_slot(cache, slot);
        slot->used = 0;
    }
    pthread_mutex_unlock(&cache->lock);
}

void chunk_cache_count(uint64_t *found, uint64_t *missed, struct chunk_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    *found = cache->found;
    *missed = cache->missed;
    pthread_mutex_unlock(&cache->lock);
}
