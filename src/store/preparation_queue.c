#include "store/preparation_queue.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdlib.h>
#include <time.h>

static const double longest_wait = 0.5; /* seconds, after which a stop is noticed */

enum voco_status preparation_queue_open(struct preparation_queue *queue, size_t count, int jobs,
                                        uint64_t memory, const volatile sig_atomic_t *stop)
{
    *queue = (struct preparation_queue){
        .count = count, .jobs = jobs > 1 ? jobs : 1, .memory = memory, .stop = stop};
    queue->deferred = malloc((count > 0 ? count : 1) * sizeof *queue->deferred);
    if (queue->deferred == NULL) {
        return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", count);
    }
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&queue->lock, NULL);
    (void)pthread_cond_init(&queue->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return VOCO_OK;
}

void preparation_queue_close(struct preparation_queue *queue)
{
    (void)pthread_cond_destroy(&queue->changed);
    (void)pthread_mutex_destroy(&queue->lock);
    free(queue->deferred);
    queue->deferred = NULL;
}

static int is_over(const struct preparation_queue *queue)
{
    return queue->ended || (queue->stop != NULL && *queue->stop);
}

static void wait_for_change(struct preparation_queue *queue, double seconds)
{
    struct timespec until;
    const double wait = seconds < longest_wait ? seconds : longest_wait;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    const long nanoseconds = until.tv_nsec + (long)(wait * 1e9);
    until.tv_sec += nanoseconds / 1000000000L;
    until.tv_nsec = nanoseconds % 1000000000L;
    (void)pthread_cond_timedwait(&queue->changed, &queue->lock, &until);
}

int preparation_queue_take(struct preparation_queue *queue, size_t *unit)
{
    int taken = 0;
    pthread_mutex_lock(&queue->lock);
    while (!taken && !is_over(queue)) {
        if (queue->next < queue->count) {
            *unit = queue->next++;
            taken = 1;
        } else if (queue->deferred_count > 0) {
            const struct deferred_unit *first = &queue->deferred[queue->first_deferred];
            const double wait = first->not_before - seconds_now();
            if (wait > 0.0) {
                wait_for_change(queue, wait);
                continue;
            }
            *unit = first->unit;
            queue->first_deferred = (queue->first_deferred + 1) % queue->count;
            queue->deferred_count--;
            taken = 1;
        } else {
            break; /* a thread that defers its unit from now on takes it again itself */
        }
    }
    queue->active += taken;
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

void preparation_queue_done(struct preparation_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->active--;
    pthread_mutex_unlock(&queue->lock);
}

void preparation_queue_defer(struct preparation_queue *queue, size_t unit, double seconds)
{
    pthread_mutex_lock(&queue->lock);
    const size_t place = (queue->first_deferred + queue->deferred_count) % queue->count;
    queue->deferred[place] = (struct deferred_unit){unit, seconds_now() + seconds};
    queue->deferred_count++;
    queue->active--;
    pthread_mutex_unlock(&queue->lock);
}

/* With the lock held. */
static int threads_for(const struct preparation_queue *queue, uint64_t bytes)
{
    const uint64_t left = queue->count - queue->next + (uint64_t)queue->active;
    const uint64_t fit = bytes > 0 && queue->memory / bytes > 0 ? queue->memory / bytes : 1;
    uint64_t side_by_side = left < (uint64_t)queue->jobs ? left : (uint64_t)queue->jobs;
    side_by_side = fit < side_by_side ? fit : side_by_side;
    return side_by_side > 1 ? queue->jobs / (int)side_by_side : queue->jobs;
}

int preparation_queue_reserve(struct preparation_queue *queue, uint64_t bytes)
{
    int threads = 0;
    pthread_mutex_lock(&queue->lock);
    const unsigned long ticket = queue->next_ticket++;
    while (!is_over(queue)) {
        const int fits = bytes <= queue->memory && queue->reserved <= queue->memory - bytes;
        if (queue->served == ticket && (queue->reserved == 0 || fits)) {
            queue->reserved += bytes;
            threads = threads_for(queue, bytes);
            break;
        }
        wait_for_change(queue, longest_wait);
    }
    queue->served += queue->served == ticket;
    (void)pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return threads;
}

void preparation_queue_release(struct preparation_queue *queue, uint64_t bytes)
{
    pthread_mutex_lock(&queue->lock);
    queue->reserved -= bytes;
    (void)pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

void preparation_queue_end(struct preparation_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->ended = 1;
    (void)pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}
