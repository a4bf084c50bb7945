#include "data/loader.h"

#include "base/clock.h"
#include "base/error.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* One place in the ring: step s lies in slot s % slot_count. */
struct slot {
    struct batch batch;
    int ready;               /* made, or failed, and not yet given back by the caller */
    enum voco_status status; /* of making it */
    char *message;           /* owned; where it failed */
};

struct loader {
    struct batch_source source;
    struct slot *slots;
    size_t slot_count;
    pthread_t *threads;
    int thread_count;
    struct batch_maker maker; /* of the caller's thread, where there are no others */
    double waited;
    int holding; /* the caller holds the batch of step next_given - 1 */

    pthread_mutex_t lock; /* for what follows and for slots[].ready */
    pthread_cond_t work;  /* there is room in the ring, or it is time to end */
    pthread_cond_t done;  /* a slot became ready */
    uint64_t next_made;
    uint64_t next_given;
    uint64_t limit; /* steps below it have room in the ring */
    int ending;
};

static struct slot *slot_of(const struct loader *loader, uint64_t step)
{
    return &loader->slots[step % loader->slot_count];
}

static void make_step(const struct loader *loader, struct slot *slot, struct batch_maker *maker,
                      uint64_t step)
{
    slot->status = make_batch(&slot->batch, &loader->source, maker, step);
    if (slot->status != VOCO_OK) {
        slot->message = strdup(voco_error_message());
    }
}

static void *make_batches(void *context)
{
    struct loader *loader = context;
    struct batch_maker maker = {0};
    pthread_mutex_lock(&loader->lock);
    while (!loader->ending) {
        if (loader->next_made >= loader->limit) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        const uint64_t step = loader->next_made++;
        struct slot *slot = slot_of(loader, step);
        pthread_mutex_unlock(&loader->lock);
        make_step(loader, slot, &maker, step);
        pthread_mutex_lock(&loader->lock);
        slot->ready = 1;
        pthread_cond_signal(&loader->done);
    }
    pthread_mutex_unlock(&loader->lock);
    batch_maker_free(&maker);
    return NULL;
}

static enum voco_status start_threads(struct loader *loader, int threads)
{
    loader->threads = calloc((size_t)threads, sizeof *loader->threads);
    if (loader->threads == NULL) {
        return fail(VOCO_NO_MEMORY, "%d loader threads do not fit in memory", threads);
    }
    for (int i = 0; i < threads; i++) {
        const int error = pthread_create(&loader->threads[i], NULL, make_batches, loader);
        if (error != 0) {
            return fail(VOCO_NO_MEMORY, "cannot start loader thread %d of %d: %s", i + 1, threads,
                        strerror(error));
        }
        loader->thread_count++;
    }
    return VOCO_OK;
}

/* How many batches lie in the ring. */
static size_t slots_for(int threads, int ahead)
{
    return threads > 0 ? (size_t)ahead + 1 : 1;
}

uint64_t loader_memory(const struct batch_source *source, int threads, int ahead)
{
    const uint64_t makers = threads > 0 ? (uint64_t)threads : 1;
    return slots_for(threads, ahead) * batch_source_bytes(source) + makers * batch_maker_bytes;
}

enum voco_status loader_open(struct loader **loader, const struct batch_source *source, uint64_t first_step,
                             int threads, int ahead)
{
    *loader = NULL;
    enum voco_status status = batch_source_check(source);
    if (status != VOCO_OK) {
        return status;
    }
    if (threads < 0 || (threads > 0 && ahead < 1)) {
        return fail(VOCO_BAD_INPUT, "%d loader threads that stay %d batches ahead", threads, ahead);
    }
    struct loader *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return fail(VOCO_NO_MEMORY, "out of memory");
    }
    pthread_mutex_init(&opened->lock, NULL);
    pthread_cond_init(&opened->work, NULL);
    pthread_cond_init(&opened->done, NULL);
    opened->source = *source;
    opened->slot_count = slots_for(threads, ahead);
    opened->slots = calloc(opened->slot_count, sizeof *opened->slots);
    opened->next_made = first_step;
    opened->next_given = first_step;
    opened->limit = first_step + opened->slot_count;
    if (opened->slots == NULL) {
        status = fail(VOCO_NO_MEMORY, "a loader %d batches ahead does not fit in memory", ahead);
    }
    for (size_t i = 0; status == VOCO_OK && i < opened->slot_count; i++) {
        status = batch_source_create_batch(&opened->slots[i].batch, source);
    }
    if (status == VOCO_OK && threads > 0) {
        status = start_threads(opened, threads);
    }
    if (status != VOCO_OK) {
        loader_close(opened);
        return status;
    }
    *loader = opened;
    return VOCO_OK;
}

/* What the caller held is free for a further step. */
static void give_back(struct loader *loader)
{
    if (!loader->holding) {
        return;
    }
    loader->holding = 0;
    pthread_mutex_lock(&loader->lock);
    slot_of(loader, loader->next_given - 1)->ready = 0;
    loader->limit++;
    pthread_cond_signal(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

enum voco_status loader_next(struct loader *loader, const struct batch **batch)
{
    *batch = NULL;
    const double began = seconds_now();
    give_back(loader);
    struct slot *slot = slot_of(loader, loader->next_given);
    if (loader->thread_count > 0) {
        pthread_mutex_lock(&loader->lock);
        while (!slot->ready) {
            pthread_cond_wait(&loader->done, &loader->lock);
        }
        pthread_mutex_unlock(&loader->lock);
    } else if (!slot->ready) {
        make_step(loader, slot, &loader->maker, loader->next_given);
        slot->ready = 1;
    }
    loader->waited += seconds_now() - began;
    if (slot->status != VOCO_OK) {
        return fail(slot->status, "%s", slot->message != NULL ? slot->message : "out of memory");
    }
    loader->next_given++;
    loader->holding = 1;
    *batch = &slot->batch;
    return VOCO_OK;
}

double loader_waited_seconds(const struct loader *loader)
{
    return loader->waited;
}

void loader_close(struct loader *loader)
{
    if (loader == NULL) {
        return;
    }
    pthread_mutex_lock(&loader->lock);
    loader->ending = 1;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->thread_count; i++) {
        pthread_join(loader->threads[i], NULL);
    }
    free(loader->threads);
    for (size_t i = 0; loader->slots != NULL && i < loader->slot_count; i++) {
        batch_free(&loader->slots[i].batch);
        free(loader->slots[i].message);
    }
    free(loader->slots);
    batch_maker_free(&loader->maker);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->done);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}
