/* The requests of a preparation, told apart by data set and by how they are prepared: what reports and
 * forecasts are about. */
#ifndef STORE_PREPARATION_SETS_H
#define STORE_PREPARATION_SETS_H

#include "store/volume_cache.h"

#include <jansson.h>
#include <stddef.h>

struct preparation_set {
    const char *name;
    const struct cache_settings *settings;
    size_t listed; /* requests */
};

struct preparation_sets {
    struct preparation_set *sets; /* (count) in the order in which they first appear */
    size_t count;
    size_t *of_request; /* which set each request belongs to */
};

/* What it points to belongs to the requests. VOCO_NO_MEMORY. Free with preparation_sets_free. */
enum voco_status preparation_sets_list(struct preparation_sets *sets, const struct cache_request *requests,
                                       size_t count);
void preparation_sets_free(struct preparation_sets *sets);

/* How a set is prepared, as an object of its own. NULL without memory. */
json_t *cache_settings_json(const struct cache_settings *settings);

/* The moment, as "2026-01-31T23:59:59Z". */
void format_moment(char text[24]);

#endif
