/* cuBLASLt, loaded at run time, and the matrix products planned with it. linear.cu is what calls. */
#ifndef COMPUTE_CUDA_BLAS_CUH
#define COMPUTE_CUDA_BLAS_CUH

#include "compute/cuda/cuda_state.h"

/* Loads libcublasLt and opens a handle, in c's state. VOCO_UNSUPPORTED, naming the library, where it cannot
 * be loaded. */
enum voco_status blas_open(struct compute *c);
void blas_close(struct compute *c); /* harmless where it was never opened */

/* d (rows, columns) = a (rows, depth) b (depth, columns), all row-major and contiguous. */
struct matrix_product {
    size_t rows, columns, depth;
    int a_transposed; /* a lies in memory as (depth, rows) */
    int b_transposed; /* b lies in memory as (columns, depth) */
    int bf16_inputs;  /* a and b are bf16; else float */
    int tf32;         /* floats may be rounded to TF32 before they are multiplied */
    int bf16_output;
    int accumulates; /* d += a b */
};

/* Queues it with the algorithm that was the fastest for these sizes when they were first met. bias (columns)
 * may be NULL, and must be NULL where bf16_output is set: cuBLASLt would want it rounded to bf16. Returns 0,
 * with nothing done, where cuBLASLt has no algorithm for it. Sums are in the same order every time. */
int blas_product(struct compute *c, const struct matrix_product *product, void *d, const void *a,
                 const void *b, const float *bias);

#endif
