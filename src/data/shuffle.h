/* Which volume is seen when. Samples are numbered through a whole run; sample g belongs to epoch g / n and
 * takes position g % n of that epoch's order, a permutation of the n volumes drawn by Fisher and Yates's
 * method from the seed and the epoch. So every volume is seen once an epoch, and the order is a pure function
 * of (seed, g). */
#ifndef DATA_SHUFFLE_H
#define DATA_SHUFFLE_H

#include "voco/status.h"

#include <stdint.h>

/* The order of the epoch that was asked for last, so that it is drawn once an epoch and not once a sample. It
 * changes nothing but time. One per thread; zero-initialised. */
struct epoch_order {
    uint64_t seed;
    uint64_t epoch;
    uint32_t count;    /* n of `volumes`; 0 when nothing was drawn yet */
    uint32_t *volumes; /* (n), owned */
};

void epoch_order_free(struct epoch_order *order);

/* The volume, in [0, count), of sample `sample`. Fails with VOCO_NO_MEMORY only. `count` > 0. */
enum voco_status shuffled_volume(uint32_t *volume, struct epoch_order *order, uint64_t seed, uint64_t sample,
                                 uint32_t count);

#endif
