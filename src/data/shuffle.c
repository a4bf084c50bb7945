#include "data/shuffle.h"

#include "base/error.h"
#include "base/philox.h"

#include <stdlib.h>

void epoch_order_free(struct epoch_order *order)
{
    free(order->volumes);
    *order = (struct epoch_order){0};
}

static enum voco_status draw_order(struct epoch_order *order, uint64_t seed, uint64_t epoch, uint32_t count)
{
    if (order->count != count) {
        epoch_order_free(order);
        order->volumes = malloc((size_t)count * sizeof *order->volumes);
        if (order->volumes == NULL) {
            return fail(VOCO_NO_MEMORY, "the order of %u volumes does not fit in memory", count);
        }
        order->count = count;
    }
    struct random_key key = {.seed = seed, .step = epoch, .purpose = RANDOM_SHUFFLE};
    for (uint32_t i = 0; i < count; i++) {
        key.sample = i;
        const uint32_t j = random_below(&key, 0, i + 1);
        order->volumes[i] = order->volumes[j];
        order->volumes[j] = i;
    }
    order->seed = seed;
    order->epoch = epoch;
    return VOCO_OK;
}

enum voco_status shuffled_volume(uint32_t *volume, struct epoch_order *order, uint64_t seed, uint64_t sample,
                                 uint32_t count)
{
    const uint64_t epoch = sample / count;
    if (order->count != count || order->seed != seed || order->epoch != epoch) {
        const enum voco_status status = draw_order(order, seed, epoch, count);
        if (status != VOCO_OK) {
            return status;
        }
    }
    *volume = order->volumes[sample % count];
    return VOCO_OK;
}
