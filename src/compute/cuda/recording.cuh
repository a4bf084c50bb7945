/* Operations that are kept to be asked for again: what struct compute says of recordings. */
#ifndef COMPUTE_CUDA_RECORDING_CUH
#define COMPUTE_CUDA_RECORDING_CUH

#include "compute/cuda/cuda_state.h"

struct CUgraph_st;     /* cudaGraph_t points to it */
struct CUgraphExec_st; /* cudaGraphExec_t points to it */

struct recording {
    struct CUgraphExec_st *graph;
    int scratch_moves; /* before it: its operations have scratch memory where it was then */
    size_t *forms;     /* of weights that they read: their numbers in the list of weights.cu */
    size_t form_count, form_capacity;
};

void cuda_record_begin(struct compute *c);
enum voco_status cuda_record_end(struct compute *c, struct recording **recording);
void cuda_replay(struct compute *c, struct recording *recording);
int cuda_can_replay(struct compute *c, const struct recording *recording);
void cuda_recording_free(struct compute *c, struct recording *recording);

/* Whether recordings are wanted: unless the environment says VOCO_CUDA_GRAPH=0. */
int cuda_recordings_wanted(void);

/* ---- graph_fills.cu ---- */

/* Puts kernels in place of the graph's fills with zeros of a few bytes. */
void cuda_replace_small_fills(struct compute *c, struct CUgraph_st *graph);

#endif
