/* The GPU's memory and copies to and from it: what struct compute says of `separate_memory`. */
#ifndef COMPUTE_CUDA_MEMORY_CUH
#define COMPUTE_CUDA_MEMORY_CUH

#include "compute/cuda/cuda_state.h"

void *cuda_allocate(struct compute *c, size_t bytes);
void cuda_release(struct compute *c, void *memory);
void *cuda_allocate_staging(struct compute *c, size_t bytes);
void cuda_release_staging(struct compute *c, void *memory);
void cuda_to_device(struct compute *c, void *to, const void *host, size_t bytes);
void cuda_to_host(struct compute *c, void *host, const void *from, size_t bytes);
void cuda_copy(struct compute *c, void *to, const void *from, size_t bytes);
void cuda_wait(struct compute *c);
size_t cuda_free_memory(struct compute *c);

#endif
