#include "base/name_order.h"

#include <stdlib.h>
#include <string.h>

static const char *nth_name(const struct name_order *order, size_t n)
{
    return order->name(order->values, order->sorted[n]);
}

static int compare(const void *a, const void *b, void *context)
{
    const struct name_order *order = context;
    return strcmp(order->name(order->values, *(const uint32_t *)a),
                  order->name(order->values, *(const uint32_t *)b));
}

int name_order_make(struct name_order *order, const void *values, size_t count, name_at_place *name)
{
    *order = (struct name_order){.values = values, .count = count, .name = name};
    order->sorted = malloc((count + 1) * sizeof *order->sorted);
    if (order->sorted == NULL) {
        *order = (struct name_order){0};
        return 0;
    }
    for (size_t place = 0; place < count; place++) {
        order->sorted[place] = (uint32_t)place;
    }
    qsort_r(order->sorted, count, sizeof *order->sorted, compare, order);
    return 1;
}

void name_order_free(struct name_order *order)
{
    free(order->sorted);
    *order = (struct name_order){0};
}

int name_order_find(size_t *place, const struct name_order *order, const char *name)
{
    size_t low = 0;
    size_t high = order->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int side = strcmp(name, nth_name(order, middle));
        if (side == 0) {
            *place = order->sorted[middle];
            return 1;
        }
        if (side < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return 0;
}

const char *name_order_repeated(const struct name_order *order)
{
    for (size_t n = 1; n < order->count; n++) {
        if (strcmp(nth_name(order, n - 1), nth_name(order, n)) == 0) {
            return nth_name(order, n);
        }
    }
    return NULL;
}
