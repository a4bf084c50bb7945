#include "../guarded_arrays.h"
#include "libraries_on_host.h"

#include <cublasLt.h>

#include <string.h>
#include <vector>

struct blas_operation_on_host {
    cublasComputeType_t arithmetic;
    cublasOperation_t transposed[2];
    cublasLtEpilogue_t epilogue;
    const float *bias;
};

/* Column-major. */
struct blas_layout_on_host {
    uint64_t rows, columns;
    int64_t leading;
};

struct blas_preference_on_host {
    uint64_t workspace;
};

enum { algorithms = 2 };

size_t cublasLtGetVersion(void)
{
    return 130000;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = NULL;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *made, cublasComputeType_t arithmetic,
                                        cudaDataType_t scale)
{
    *made =
        new blas_operation_on_host{arithmetic, {CUBLAS_OP_N, CUBLAS_OP_N}, CUBLASLT_EPILOGUE_DEFAULT, NULL};
    return scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t of)
{
    delete of;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t of, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes)
{
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
    case CUBLASLT_MATMUL_DESC_TRANSB:
        memcpy(&of->transposed[name == CUBLASLT_MATMUL_DESC_TRANSB], value, bytes);
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        memcpy(&of->epilogue, value, bytes);
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        memcpy(&of->bias, value, bytes);
        break;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading)
{
    *made = type == CUDA_R_32F ? new blas_layout_on_host{rows, columns, leading} : NULL;
    return *made != NULL ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t of)
{
    delete of;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *made)
{
    *made = new blas_preference_on_host{0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t of)
{
    delete of;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t, const void *,
                                                    size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int most,
                                              cublasLtMatmulHeuristicResult_t *results, int *count)
{
    *count = most < algorithms ? most : (int)algorithms;
    for (int k = 0; k < *count; k++) {
        results[k] = {};
        results[k].algo.data[0] = (uint64_t)k;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* A factor (rows, columns) as it is multiplied, row-major. */
static std::vector<double> factor(const struct blas_layout_on_host *layout, cublasOperation_t transposed,
                                  int tf32, const float *values)
{
    const size_t rows = transposed == CUBLAS_OP_T ? layout->columns : layout->rows;
    const size_t columns = transposed == CUBLAS_OP_T ? layout->rows : layout->columns;
    std::vector<double> made(rows * columns);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            const size_t row = transposed == CUBLAS_OP_T ? j : i, column = transposed == CUBLAS_OP_T ? i : j;
            const float value = values[row + column * (size_t)layout->leading];
            made[i * columns + j] = (double)(tf32 ? rounded_to_tf32(value) : value);
        }
    }
    return made;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *, size_t, cudaStream_t)
{
    cuda_on_host::access_to_arrays access;
    const int tf32 = operation->arithmetic == CUBLAS_COMPUTE_32F_FAST_TF32;
    const std::vector<double> left = factor(a_layout, operation->transposed[0], tf32, (const float *)a);
    const std::vector<double> right = factor(b_layout, operation->transposed[1], tf32, (const float *)b);
    const size_t rows = d_layout->rows, columns = d_layout->columns, depth = left.size() / rows;
    for (size_t j = 0; j < columns; j++) {
        for (size_t i = 0; i < rows; i++) {
            const size_t at = i + j * (size_t)d_layout->leading;
            double sum = 0;
            for (size_t k = 0; k < depth; k++) {
                sum += left[i * depth + k] * right[k * columns + j];
            }
            sum *= (double)*(const float *)alpha;
            if (*(const float *)beta != 0) {
                sum += (double)*(const float *)beta * (double)((const float *)c)[at];
            }
            if (operation->epilogue == CUBLASLT_EPILOGUE_BIAS) {
                sum += (double)operation->bias[i];
            }
            ((float *)d)[at] = (float)sum;
        }
    }
    libraries_on_host.products[tf32]++;
    libraries_on_host.algorithm[tf32] = (int)algorithm->data[0];
    return CUBLAS_STATUS_SUCCESS;
}
