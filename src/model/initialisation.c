#include "model/parameters.h"

#include "base/philox.h"

#include <string.h>

/* The table's cut at -2 and 2 lies 100 standard deviations out, where random_normal (32-bit Box-Muller,
 * below 6.7 by construction) never comes. */
static const double normal_std = 0.02;

static real draw(const struct parameter *p, const struct random_key *key, uint32_t element)
{
    switch (p->init) {
    case INIT_UNIFORM:
        return (real)((2.0 * (double)random_uniform(key, element) - 1.0) * p->bound);
    case INIT_TRUNCATED_NORMAL:
        return (real)(normal_std * (double)random_normal(key, element));
    case INIT_ONE:
        return 1;
    case INIT_ZERO:
        break;
    }
    return 0;
}

void parameters_initialise(real *values, const struct parameter_table *table, uint64_t seed)
{
    memset(values, 0, table->total * sizeof *values);
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        const struct random_key key = {.seed = seed, .step = (uint64_t)i, .purpose = RANDOM_INITIALISATION};
        real *out = values + p->offset;
        const uint32_t count = (uint32_t)p->count;
#pragma omp parallel for schedule(static)
        for (uint32_t j = 0; j < count; j++) {
            out[j] = draw(p, &key, j);
        }
    }
}
