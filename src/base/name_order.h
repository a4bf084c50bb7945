/* Values in the order of their names, to find one by its name. */
#ifndef BASE_NAME_ORDER_H
#define BASE_NAME_ORDER_H

#include <stddef.h>
#include <stdint.h>

/* The name of the value at a place. */
typedef const char *name_at_place(const void *values, size_t place);

struct name_order {
    const void *values; /* borrowed */
    size_t count;
    name_at_place *name;
    uint32_t *sorted; /* (count) places */
};

/* Of `count` values, up to 2^32, which must stay where they are. Returns 0 where there is no memory.
 * name_order_free is harmless on a failed or zeroed one. */
int name_order_make(struct name_order *order, const void *values, size_t count, name_at_place *name);
void name_order_free(struct name_order *order);

/* Returns 0 where there is none of that name. */
int name_order_find(size_t *place, const struct name_order *order, const char *name);

/* The first name that two values have; NULL where all differ. */
const char *name_order_repeated(const struct name_order *order);

#endif
