#include "../guarded_arrays.h"
#include "libraries_on_host.h"

#include "compute/cuda/blas_library.cuh"
#include "compute/cuda/cudnn_plan.cuh"
#include "compute/cuda/leaves.cuh"

extern "C" {
#include "compute/cuda/cuda.h"
}

#include <stdlib.h>
#include <string.h>

struct libraries_on_host libraries_on_host;

float rounded_to_tf32(float x)
{
    enum { lost_bits = 13 };
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t kept = ~((1u << lost_bits) - 1);
    if (isfinite(x)) {
        bits = (bits + (libraries_on_host.truncates ? 0 : 1u << (lost_bits - 1))) & kept;
    }
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* cuda.cu's, for the first line of choices as text. */
enum voco_status cuda_gpu_describe(struct gpu *gpu, int)
{
    *gpu = {};
    strcpy(gpu->name, "on host");
    return VOCO_OK;
}

static const struct blas_functions blas_functions = {
    cublasLtGetVersion,
    cublasLtCreate,
    cublasLtDestroy,
    cublasLtMatmul,
    cublasLtMatmulAlgoGetHeuristic,
    cublasLtMatmulDescCreate,
    cublasLtMatmulDescDestroy,
    cublasLtMatmulDescSetAttribute,
    cublasLtMatrixLayoutCreate,
    cublasLtMatrixLayoutDestroy,
    cublasLtMatmulPreferenceCreate,
    cublasLtMatmulPreferenceDestroy,
    cublasLtMatmulPreferenceSetAttribute,
};

static cudnnStatus_t take_any_stream(cudnnHandle_t, cudaStream_t)
{
    return CUDNN_STATUS_SUCCESS;
}

void open_libraries_on_host(struct compute *c)
{
    leaves_close(c); /* what the stand-ins compute is never put off */
    struct cuda_state *state = cuda_state(c);
    state->blas = (struct blas *)calloc(1, sizeof *state->blas);
    state->cudnn = (struct cudnn *)calloc(1, sizeof *state->cudnn);
    if (state->blas == NULL || state->cudnn == NULL) {
        cuda_on_host::stop("no memory for libraries");
    }
    state->blas->functions = blas_functions;
    for (void *&workspace : state->blas->workspaces) {
        workspace = c->allocate(c, 1); /* needs none; the real one makes each launch slow here */
    }
    state->cudnn->version = cudnnGetVersion;
    state->cudnn->error_string = cudnnGetErrorString;
    state->cudnn->set_stream = take_any_stream;
    state->cudnn->create_descriptor = cudnnBackendCreateDescriptor;
    state->cudnn->destroy_descriptor = cudnnBackendDestroyDescriptor;
    state->cudnn->finalize = cudnnBackendFinalize;
    state->cudnn->set_attribute = cudnnBackendSetAttribute;
    state->cudnn->get_attribute = cudnnBackendGetAttribute;
    state->cudnn->execute = cudnnBackendExecute;
    c->choices = c->full->choices = cuda_choices;
    c->take_choices = c->full->take_choices = cuda_take_choices;
}

void close_libraries_on_host(struct compute *c)
{
    struct cuda_state *state = cuda_state(c);
    conv_choices_free(state->cudnn);
    blas_free_plans(c);
    for (void *workspace : state->blas->workspaces) {
        c->release(c, workspace);
    }
    free(state->blas);
    free(state->cudnn);
    state->blas = NULL;
    state->cudnn = NULL;
}
