/* The memory functions of struct compute for implementations whose arrays lie in the host's memory. */
#ifndef COMPUTE_HOST_MEMORY_H
#define COMPUTE_HOST_MEMORY_H

#include "compute/compute.h"

void compute_in_host_memory(struct compute *c);

#endif
