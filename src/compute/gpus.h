/* The GPUs of this machine, also for programs that were built without CUDA: these have none. */
#ifndef COMPUTE_GPUS_H
#define COMPUTE_GPUS_H

#include "voco/status.h"

#include <stddef.h>

struct gpu {
    char name[128];
    int major, minor; /* compute capability */
    int multiprocessors;
    size_t memory, free_memory; /* bytes */
};

/* How many there are; where there are none *why says so in a few words. */
int gpu_count(const char **why);

/* Describes GPU `index` of them. VOCO_UNSUPPORTED where it cannot be asked. */
enum voco_status gpu_describe(struct gpu *gpu, int index);

/* What tells GPU `index` from every other, on this machine and elsewhere: processes that see the same GPU
 * under different numbers find the same. VOCO_UNSUPPORTED where it cannot be asked. Takes no memory of the
 * GPU. */
struct gpu_identity {
    unsigned char bytes[16];
};
enum voco_status gpu_identify(struct gpu_identity *identity, int index);

#endif
