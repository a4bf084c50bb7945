/* A second queue beside that of the operations: a stream of its own in a struct compute of its own. */
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/memory.cuh"

extern "C" {
#include "base/error.h"
}

#include <stdlib.h>

static void close_beside(struct compute *c)
{
    struct cuda_state *state = cuda_state(c);
    (void)cudaStreamSynchronize(state->stream);
    (void)cudaStreamDestroy(state->stream);
    if (state->event != NULL) {
        (void)cudaEventDestroy(state->event);
    }
    free(state);
}

static void fill(struct compute *beside, const struct compute *c, struct cuda_state *state)
{
    *beside = compute{};
    beside->name = c->name;
    beside->state = state;
    beside->threads = c->threads;
    beside->gpu = c->gpu;
    beside->multiplies_bf16 = c->multiplies_bf16;
    beside->separate_memory = 1;
    beside->allocate = cuda_allocate;
    beside->release = cuda_release;
    beside->allocate_staging = cuda_allocate_staging;
    beside->release_staging = cuda_release_staging;
    beside->free_memory = cuda_free_memory;
    beside->to_device = cuda_to_device;
    beside->to_host = cuda_to_host;
    beside->copy = cuda_copy;
    beside->wait = cuda_wait;
    beside->follow = cuda_follow;
    beside->done = cuda_done;
    beside->queue = cuda_queue;
    beside->activations_from_reals = cuda_activations_from_reals;
    beside->reals_from_activations = cuda_reals_from_activations;
    beside->sum_in_order = cuda_sum_in_order;
}

enum voco_status cuda_open_beside(struct compute *c, struct compute *beside)
{
    struct cuda_state *state = (struct cuda_state *)calloc(1, sizeof *state);
    int least = 0, greatest = 0;
    if (state == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for a second queue of the GPU");
    }
    state->gpu = cuda_state(c)->gpu;
    state->multiprocessors = cuda_state(c)->multiprocessors;
    state->major = cuda_state(c)->major;
    state->minor = cuda_state(c)->minor;
    state->shared_per_block = cuda_state(c)->shared_per_block;
    /* What others wait for goes first where blocks of both queues are ready. */
    (void)cudaDeviceGetStreamPriorityRange(&least, &greatest);
    const cudaError_t error = cudaStreamCreateWithPriority(&state->stream, cudaStreamNonBlocking, greatest);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        free(state);
        return fail(VOCO_UNSUPPORTED, "a second queue of the GPU: %s", cudaGetErrorString(error));
    }
    fill(beside, c, state);
    fill(&state->full, c, state);
    beside->precision = PRECISION_BF16;
    beside->activation_size = sizeof(bf16);
    beside->full = state->full.full = &state->full;
    state->full.precision = PRECISION_FLOAT32;
    state->full.activation_size = sizeof(float);
    beside->close = close_beside;
    return VOCO_OK;
}

/* An event may be recorded anew while queues still follow what it was before. */
void cuda_follow(struct compute *c, struct compute *other)
{
    struct cuda_state *leader = cuda_state(other);
    if (!cuda_may_do(c, "following a queue") || !cuda_may_do(other, "being followed")) {
        return;
    }
    if (c->status == VOCO_OK && leader->event == NULL) {
        cuda_check(c, cudaEventCreateWithFlags(&leader->event, cudaEventDisableTiming), "creating an event");
    }
    if (c->status == VOCO_OK) {
        cuda_check(c, cudaEventRecord(leader->event, cuda_stream(other)), "recording an event");
        cuda_check(c, cudaStreamWaitEvent(cuda_state(c)->stream, leader->event, 0), "following a queue");
    }
}

int cuda_done(struct compute *c)
{
    if (!cuda_may_do(c, "asking whether all is done")) {
        return 1;
    }
    const cudaError_t error = cudaStreamQuery(cuda_stream(c));
    if (error == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* it is no failure, but would be taken for the next launch's */
        return 0;
    }
    cuda_check(c, error, "work beside the operations on the GPU");
    return 1;
}

void *cuda_queue(struct compute *c)
{
    return cuda_stream(c);
}
