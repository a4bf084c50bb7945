/* A job of one rank: a sum is what this rank has. */
#include "dist/node_layout.h"
#include "dist/ranks_implementation.h"

static void start(void *link, struct ranks_order *order)
{
    (void)link;
    float *values = order->values;
    const int sums = order->operation == RANKS_SUM || order->operation == RANKS_SUM_SLICES;
    for (size_t i = 0; sums && i < order->count; i++) {
        values[i] *= order->scale;
    }
}

static void finish(void *link, struct ranks_order *order)
{
    (void)link;
    (void)order;
}

static void nothing(void *link)
{
    (void)link;
}

const struct ranks_implementation ranks_none = {start, finish, nothing, nothing};

struct ranks ranks_alone(void)
{
    return (struct ranks){.size = 1, .host_size = 1, .nodes = &layout_of_one, .implementation = &ranks_none};
}
