/* The cuda implementation's own kernels on the processor, as a struct compute: see cuda_on_host.h. */
#ifndef OPEN_CUDA_ON_HOST_H
#define OPEN_CUDA_ON_HOST_H

#ifdef __cplusplus
extern "C" {
#endif
#include "compute/compute.h"

/* What the GPU is taken to be: set it before opening. */
struct gpu_on_host {
    int multiprocessors;
    int major, minor;
    size_t shared_per_block;
    size_t free_memory; /* what it says; arrays may take more. Arenas fill it, and large ones are slow here */
    int leaves;         /* whether they run beside other operations */
};
extern struct gpu_on_host gpu_on_host;

/* Arrays lie in separate memory: c->allocate, to_device, to_host. Operations that are not linked are NULL. */
void open_cuda_on_host(struct compute *c, enum compute_precision precision);

#ifdef __cplusplus
}
#endif

#endif
