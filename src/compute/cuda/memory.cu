#include "compute/cuda/memory.cuh"

#include "compute/cuda/kernel.cuh"

#include <stdio.h>

void cuda_check(struct compute *c, cudaError_t error, const char *what)
{
    char message[256];
    if (error == cudaSuccess || c->status != VOCO_OK) {
        return;
    }
    snprintf(message, sizeof message, "%s: %s", what, cudaGetErrorString(error));
    compute_failed(c, error == cudaErrorMemoryAllocation ? VOCO_NO_MEMORY : VOCO_UNSUPPORTED, message);
}

void *cuda_allocate(struct compute *c, size_t bytes)
{
    void *memory = NULL;
    size_t free_bytes = 0, total = 0;
    char message[192];
    if (c->status != VOCO_OK || !cuda_may_do(c, "allocating GPU memory")) {
        return NULL;
    }
    const cudaError_t error = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* it is reported here, not by the next operation */
        (void)cudaMemGetInfo(&free_bytes, &total);
        snprintf(message, sizeof message, "%.2f GiB of GPU memory are needed, %.2f of %.2f GiB are free",
                 (double)bytes / (1 << 30), (double)free_bytes / (1 << 30), (double)total / (1 << 30));
        compute_failed(c, VOCO_NO_MEMORY, message);
        return NULL;
    }
    cuda_check(c, error, "allocating GPU memory");
    return error == cudaSuccess ? memory : NULL;
}

void cuda_release(struct compute *c, void *memory)
{
    if (memory != NULL && cuda_may_do(c, "releasing GPU memory")) {
        cuda_weights_may_be_gone(c);
        (void)cudaFree(memory);
    }
}

void *cuda_allocate_staging(struct compute *c, size_t bytes)
{
    void *memory = NULL;
    (void)cudaSetDevice(cuda_state(c)->gpu); /* a thread begins with the first one, and would open it */
    if (c->status == VOCO_OK) {
        const cudaError_t error = cudaHostAlloc(&memory, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
        if (error != cudaSuccess) {
            (void)cudaGetLastError();
            memory = NULL;
        }
        cuda_check(c, error, "allocating pinned host memory");
    }
    return memory;
}

void cuda_release_staging(struct compute *c, void *memory)
{
    (void)cudaSetDevice(cuda_state(c)->gpu);
    (void)cudaFreeHost(memory);
}

void cuda_to_device(struct compute *c, void *to, const void *host, size_t bytes)
{
    if (c->status == VOCO_OK && bytes > 0 && cuda_may_do(c, "a copy from the host")) {
        cuda_check(c, cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda_stream(c)),
                   "copying to the GPU");
    }
}

void cuda_to_host(struct compute *c, void *host, const void *from, size_t bytes)
{
    if (c->status == VOCO_OK && bytes > 0 && cuda_may_do(c, "a copy to the host")) {
        cuda_check(c, cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, cuda_stream(c)),
                   "copying from the GPU");
    }
}

void cuda_copy(struct compute *c, void *to, const void *from, size_t bytes)
{
    if (c->status == VOCO_OK && bytes > 0) {
        cuda_check(c, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_stream(c)),
                   "copying within the GPU's memory");
    }
}

void cuda_wait(struct compute *c)
{
    if (cuda_may_do(c, "waiting")) {
        cuda_wait_for_leaves(c);
        cuda_check(c, cudaStreamSynchronize(cuda_state(c)->stream), "an operation on the GPU");
    }
}

size_t cuda_free_memory(struct compute *c)
{
    size_t free_bytes = 0, total = 0;
    cuda_check(c, cudaMemGetInfo(&free_bytes, &total), "asking for free GPU memory");
    return free_bytes;
}

void *cuda_grown(struct compute *c, void **memory, size_t *have, size_t bytes)
{
    if (c->status != VOCO_OK || (bytes > *have && !cuda_may_do(c, "more scratch memory"))) {
        return NULL;
    }
    if (bytes > *have) {
        cuda_wait(c);
        cuda_release(c, *memory);
        *memory = cuda_allocate(c, bytes);
        *have = *memory != NULL ? bytes : 0;
        cuda_state(c)->scratch_moves++;
    }
    return *memory;
}

void *cuda_scratch(struct compute *c, size_t bytes)
{
    struct cuda_state *state = cuda_state(c);
    return cuda_grown(c, &state->scratch, &state->scratch_bytes, bytes);
}

void cuda_fill_zero(struct compute *c, void *to, size_t bytes)
{
    if (c->status == VOCO_OK && bytes > 0) {
        cuda_check(c, cudaMemsetAsync(to, 0, bytes, cuda_stream(c)), "zeroing GPU memory");
    }
}
