/* Recordings as CUDA graphs: operations are captured from the stream, and started again as one launch. What a
 * graph does not hold is the making of the weights' forms, which is asked for before each replay where
 * parameters have changed. */
#include "compute/cuda/recording.cuh"

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/measured.cuh"
#include "compute/cuda/memory.cuh"

extern "C" {
#include "base/error.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cuda_recordings_wanted(void)
{
    const char *text = getenv("VOCO_CUDA_GRAPH");
    return text == NULL || strcmp(text, "0") != 0;
}

int cuda_may_do(struct compute *c, const char *what)
{
    char message[96];
    if (cuda_state(c)->recording == NULL) {
        return 1;
    }
    snprintf(message, sizeof message, "%s has no place in a recording", what);
    compute_failed(c, VOCO_UNSUPPORTED, message);
    return 0;
}

/* Other threads may go on allocating meanwhile. */
void cuda_record_begin(struct compute *c)
{
    struct cuda_state *state = cuda_state(c);
    struct recording *recording = (struct recording *)calloc(1, sizeof *recording);
    if (recording == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "no memory for a recording");
        return;
    }
    recording->scratch_moves = state->scratch_moves;
    cuda_wait_for_leaves(c);
    state->recording = recording;
    cuda_check(c, cudaStreamBeginCapture(state->stream, cudaStreamCaptureModeThreadLocal),
               "beginning a recording");
}

static void say_size(cudaGraph_t graph)
{
    size_t nodes = 0;
    if (measuring_is_verbose() && cudaGraphGetNodes(graph, NULL, &nodes) == cudaSuccess) {
        fprintf(stderr, "recorded a graph of %zu kernels, copies and fills\n", nodes);
    }
}

enum voco_status cuda_record_end(struct compute *c, struct recording **recording)
{
    struct cuda_state *state = cuda_state(c);
    struct recording *made = state->recording;
    cudaGraph_t graph = NULL;
    *recording = NULL;
    if (made == NULL) {
        (void)compute_status(c);
        return fail(VOCO_NO_MEMORY, "no memory for a recording");
    }
    cuda_wait_for_leaves(c);
    state->recording = NULL;
    cuda_check(c, cudaStreamEndCapture(state->stream, &graph), "ending a recording");
    if (c->status == VOCO_OK && c->full->status == VOCO_OK) {
        cuda_replace_small_fills(c, graph);
    }
    if (c->status == VOCO_OK && c->full->status == VOCO_OK) {
        cuda_check(c, cudaGraphInstantiate(&made->graph, graph, 0), "making a graph of a recording");
    }
    if (graph != NULL) {
        say_size(graph);
        (void)cudaGraphDestroy(graph);
    }
    (void)cudaGetLastError(); /* what failed would be taken for the next launch's failure */
    const enum voco_status status = compute_status(c);
    if (status != VOCO_OK) {
        cuda_recording_free(c, made);
        return status;
    }
    *recording = made;
    return VOCO_OK;
}

int cuda_can_replay(struct compute *c, const struct recording *recording)
{
    return recording->scratch_moves == cuda_state(c)->scratch_moves;
}

void cuda_replay(struct compute *c, struct recording *recording)
{
    cuda_weights_ask_again(c, recording);
    if (c->status == VOCO_OK && c->full->status == VOCO_OK) {
        cuda_check(c, cudaGraphLaunch(recording->graph, cuda_stream(c)), "starting a recording");
    }
}

void cuda_recording_free(struct compute *c, struct recording *recording)
{
    if (recording == NULL) {
        return;
    }
    if (recording->graph != NULL) {
        cuda_wait(c);
        (void)cudaGraphExecDestroy(recording->graph);
    }
    free(recording->forms);
    free(recording);
}
