/* What is loaded from libcublasLt, and what is kept of it. Inside blas_*.cu only. */
#ifndef COMPUTE_CUDA_BLAS_LIBRARY_CUH
#define COMPUTE_CUDA_BLAS_LIBRARY_CUH

#include "compute/cuda/blas.cuh"
#include "compute/cuda/kernel.cuh"

#include <cublasLt.h>

struct blas_functions {
    decltype(&cublasLtGetVersion) get_version;
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtMatmul) matmul;
    decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic;
    decltype(&cublasLtMatmulDescCreate) operation_create;
    decltype(&cublasLtMatmulDescDestroy) operation_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) operation_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
};

struct blas_plan;

struct blas {
    void *library;
    struct blas_functions functions;
    cublasLtHandle_t handle;
    void *workspaces[2]; /* GPU memory, of leaves the second; allocated when a product is first planned */
    struct blas_plan *plans;
    size_t count, capacity;
};

enum { blas_workspace_bytes = 32 << 20 }; /* what the library's documentation recommends for Hopper */

void blas_free_plans(struct compute *c);

#endif
