/* Own kernels for the products of linear layers, beside cuBLASLt's. */
#ifndef COMPUTE_CUDA_PRODUCTS_CUH
#define COMPUTE_CUDA_PRODUCTS_CUH

#include "compute/cuda/blas.cuh"

/* ---- plain_product.cu: any sizes, any alignment, no tensor cores ---- */

/* As blas_product. bias (columns) may be NULL and is added in float whatever the output. Calls cuda_scratch.
 */
void plain_product(struct compute *c, const struct matrix_product *product, void *d, const void *a,
                   const void *b, const float *bias);

/* x (rows, features) += bias (features), rounded, then residual (rows, features), which may be NULL. */
void add_bias(struct compute *c, activation *x, const float *bias, const activation *residual, size_t rows,
              int features);

/* ---- narrow_product.cu: bf16, many rows, weights that fit into shared memory ---- */

/* What happens to the product before it is written, with another array of out's size. */
enum narrow_finish {
    FINISH_PLAIN,         /* nothing; other is NULL */
    FINISH_GELU,          /* other = GELU(out) is written too */
    FINISH_ADD,           /* other is added */
    FINISH_GELU_GRADIENT, /* it is multiplied by GELU's derivative at other */
};

/* out (rows, columns) = inp (rows, depth) weight^T + bias, finished, all bf16 but bias (columns), which may
 * be NULL; weight is (columns, depth). Finishing takes the product as it is rounded to bf16, so that it gives
 * what a pass of its own would. Variants differ in the columns of a block, and give equal bits. Returns 0,
 * with nothing done, where the variant is not for these sizes: depth and columns must be multiples of 8,
 * arrays aligned to 16 bytes, and a block's weights must fit into shared memory. */
enum { narrow_variants = 4 };
int narrow_product(struct compute *c, int variant, enum narrow_finish finish, activation *out,
                   activation *other, const activation *inp, const void *weight, const float *bias,
                   size_t rows, int depth, int columns);

/* ---- weight_gradient.cu: bf16, sums over many rows ---- */

/* dweight (out_features, in_features) += dout^T inp; dbias (out_features) += the sum of dout over rows, if
 * not NULL. Returns 0, with nothing done, where it has no kernel: as narrow_product. Calls cuda_scratch. */
int weight_gradient(struct compute *c, float *dweight, float *dbias, const activation *dout,
                    const activation *inp, size_t rows, int in_features, int out_features);

#endif
