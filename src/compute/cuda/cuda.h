/* The "cuda" implementation: cuDNN and cuBLASLt, loaded at run time, and own kernels, on one NVIDIA GPU.
 *
 * Arrays of operations lie in the GPU's memory (separate_memory of struct compute). Operations are queued and
 * run in their order; what one of them finds wrong is known after wait(). This header is C; everything else
 * in this folder is CUDA C++. */
#ifndef COMPUTE_CUDA_CUDA_H
#define COMPUTE_CUDA_CUDA_H

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/compute.h"
#include "compute/gpus.h"

/* See gpus.h; `why` may be NULL. */
int cuda_gpu_count(const char **why);
enum voco_status cuda_gpu_describe(struct gpu *gpu, int index);
enum voco_status cuda_gpu_identify(struct gpu_identity *identity, int index);

/* Opens GPU number `gpu` of those that CUDA_VISIBLE_DEVICES leaves, for this thread and others.
 * VOCO_UNSUPPORTED, with the cause, where there is no GPU, no driver, no cuDNN or no cuBLASLt, or where the
 * GPU is older than compute capability 8.0. */
enum voco_status cuda_compute_open(struct compute *c, int gpu, enum compute_precision precision);

#ifdef __cplusplus
}
#endif

#endif
