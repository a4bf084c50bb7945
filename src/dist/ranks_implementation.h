/* What stands behind struct ranks. Private to src/dist. */
#ifndef DIST_RANKS_IMPLEMENTATION_H
#define DIST_RANKS_IMPLEMENTATION_H

#include "dist/ranks.h"

struct ranks_implementation {
    void (*start)(void *link, struct ranks_order *order);
    void (*finish)(void *link, struct ranks_order *order);
    void (*abort)(void *link);
    void (*close)(void *link);
};

extern const struct ranks_implementation ranks_none;

/* Sets up MPI and fills `ranks`. Only where the program is built with it. */
enum voco_status ranks_open_mpi(struct ranks *ranks);

#endif
