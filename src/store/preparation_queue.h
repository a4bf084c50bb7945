/* Which volume the next free thread takes, and when there is memory for it. Volumes are taken in order; one
 * that another process works on is put back and looked at again behind the others. Private to the preparation
 * of volumes. */
#ifndef STORE_PREPARATION_QUEUE_H
#define STORE_PREPARATION_QUEUE_H

#include "voco/status.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct deferred_unit {
    size_t unit;
    double not_before; /* seconds_now() */
};

struct preparation_queue {
    size_t count; /* units are numbered from 0 */
    int jobs;
    uint64_t memory; /* that all units under way may take together */
    const volatile sig_atomic_t *stop;

    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t changed;
    size_t next;
    struct deferred_unit *deferred; /* a ring of `count` places */
    size_t first_deferred, deferred_count;
    int active; /* taken and neither done nor deferred */
    uint64_t reserved;
    unsigned long next_ticket, served; /* who waits for memory gets it in the order of asking */
    int ended;
};

/* `stop` may be NULL. VOCO_NO_MEMORY. */
enum voco_status preparation_queue_open(struct preparation_queue *queue, size_t count, int jobs,
                                        uint64_t memory, const volatile sig_atomic_t *stop);
void preparation_queue_close(struct preparation_queue *queue);

/* Waits for a unit. 0: nothing is left for this thread, or the work was stopped or ended. */
int preparation_queue_take(struct preparation_queue *queue, size_t *unit);
void preparation_queue_done(struct preparation_queue *queue);

/* Puts the unit back, to be taken again `seconds` from now. */
void preparation_queue_defer(struct preparation_queue *queue, size_t unit, double seconds);

/* Waits until the memory is free; a unit that asks for more than there is may start when it is alone. Returns
 * with how many threads it should be worked on: more than one where fewer units are left, or fit into memory,
 * than there are threads. 0 where the work was stopped or ended. */
int preparation_queue_reserve(struct preparation_queue *queue, uint64_t bytes);
void preparation_queue_release(struct preparation_queue *queue, uint64_t bytes);

/* No thread gets another unit. */
void preparation_queue_end(struct preparation_queue *queue);

#endif
