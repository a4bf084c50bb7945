/* An array that lives as long as its owner, as operations take it: for parameters. */
#ifndef COMPUTE_REALS_ON_DEVICE_H
#define COMPUTE_REALS_ON_DEVICE_H

#include "compute/compute.h"

/* `host` itself where operations work in the host's memory, else a copy of `count` reals in c's own. NULL
 * where there is no room, which is then c's status. Free with release_reals. */
real *reals_on_device(struct compute *c, real *host, size_t count);

/* Brings the copy up to date, and tells c that parameters have changed. */
void update_reals(struct compute *c, real *on_device, const real *host, size_t count);

void release_reals(struct compute *c, real *on_device, const real *host); /* NULL: nothing */

#endif
