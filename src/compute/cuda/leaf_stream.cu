/* The stream of leaves, with its memory and events. */
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/memory.cuh"

extern "C" {
#include "base/error.h"
}

#include <stdlib.h>
#include <utility>

static void create_event(struct compute *c, cudaEvent_t *event)
{
    cuda_check(c, cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
}

enum voco_status leaves_open(struct compute *c)
{
    struct leaves *leaves = (struct leaves *)calloc(1, sizeof *leaves);
    int least = 0, greatest = 0;
    if (leaves == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the list of leaves");
    }
    cuda_state(c)->leaves = leaves;
    (void)cudaDeviceGetStreamPriorityRange(&least, &greatest);
    cuda_check(c, cudaStreamCreateWithPriority(&leaves->stream, cudaStreamNonBlocking, least),
               "creating a stream");
    create_event(c, &leaves->begun);
    for (struct leaf &leaf : leaves->running) {
        create_event(c, &leaf.done);
    }
    return compute_status(c);
}

static void destroy_event(cudaEvent_t event)
{
    if (event != NULL) {
        (void)cudaEventDestroy(event);
    }
}

void leaves_close(struct compute *c)
{
    struct leaves *leaves = cuda_state(c)->leaves;
    if (leaves == NULL) {
        return;
    }
    if (leaves->stream != NULL) {
        (void)cudaStreamSynchronize(leaves->stream);
        (void)cudaStreamDestroy(leaves->stream);
    }
    destroy_event(leaves->begun);
    for (const struct leaf &leaf : leaves->running) {
        destroy_event(leaf.done);
    }
    cuda_release(c, leaves->scratch);
    cuda_release(c, leaves->inputs);
    free(leaves);
    cuda_state(c)->leaves = NULL;
}

static void change_streams(struct cuda_state *state)
{
    std::swap(state->stream, state->leaves->stream);
    std::swap(state->scratch, state->leaves->scratch);
    std::swap(state->scratch_bytes, state->leaves->scratch_bytes);
}

/* Streams fork and join also where c has failed: else a recording ends with another cause than its own. */
void leaf_stream_begin(struct compute *c)
{
    struct cuda_state *state = cuda_state(c);
    cuda_check(c, cudaEventRecord(state->leaves->begun, state->stream), "recording an event");
    cuda_check(c, cudaStreamWaitEvent(state->leaves->stream, state->leaves->begun, 0), "following a stream");
    change_streams(state);
}

void leaf_stream_end(struct compute *c, const struct leaf *leaf)
{
    struct cuda_state *state = cuda_state(c);
    cuda_check(c, cudaEventRecord(leaf->done, state->stream), "recording an event");
    change_streams(state);
}

void leaf_stream_wait(struct compute *c, const struct leaf *leaf)
{
    cuda_check(c, cudaStreamWaitEvent(cuda_state(c)->stream, leaf->done, 0), "waiting for a leaf");
}

/* All grow together: their turns are others when what was asked for once is recorded, where none may grow. */
void *leaf_input(struct compute *c, size_t bytes)
{
    struct leaves *leaves = cuda_state(c)->leaves;
    if (leaves == NULL) {
        return cuda_scratch(c, bytes);
    }
    if (cuda_aligned(bytes) > leaves->input_bytes) {
        size_t have = leaf_inputs * leaves->input_bytes;
        (void)cuda_grown(c, &leaves->inputs, &have, leaf_inputs * cuda_aligned(bytes));
        leaves->input_bytes = have / leaf_inputs;
    }
    if (bytes > leaves->input_bytes) {
        return NULL;
    }
    leaves->turn = (leaves->turn + 1) % leaf_inputs;
    char *input = (char *)leaves->inputs + (size_t)leaves->turn * leaves->input_bytes;
    wait_for_leaves_at(c, {{input, leaves->input_bytes}});
    return input;
}
