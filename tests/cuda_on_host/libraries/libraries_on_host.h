/* Stand-ins for cuBLASLt and cuDNN on the machine of cuda_on_host.h, so that what chooses, plans and asks
 * (blas_product.cu, cudnn_plan.cu, conv_choice.cu, choices_text.cu) runs without a GPU. They know floats only
 * and compute in double what real libraries do in float: factors as they are, or rounded to TF32 where that
 * was asked for. */
#ifndef LIBRARIES_ON_HOST_H
#define LIBRARIES_ON_HOST_H

#ifdef __cplusplus
extern "C" {
#endif
#include "compute/compute.h"

/* What cuDNN offers for every convolution, in its order: what each loses is in its notes. */
enum convolution_engine {
    ENGINE_IN_ANY_ORDER,    /* on tensor cores; sums in no fixed order */
    ENGINE_IN_HALVES,       /* on tensor cores; inputs are rounded to bf16 */
    ENGINE_BY_TRANSFORM,    /* on tensor cores; Winograd's */
    ENGINE_ON_TENSOR_CORES, /* as TF32 is meant */
    ENGINE_BY_FOURIER,
    ENGINE_EXACT,
    convolution_engines
};

extern struct libraries_on_host {
    int truncates;    /* to TF32: cuts off what does not fit; 0: rounds to the nearest */
    long products[2]; /* matrix products so far: in float32, in TF32 */
    int algorithm[2]; /* of the last one */
    long convolutions[convolution_engines]; /* so far */
} libraries_on_host;

/* Gives c of open_cuda_on_host the libraries, and the choices that are made between their ways. */
void open_libraries_on_host(struct compute *c);
void close_libraries_on_host(struct compute *c); /* before c itself */

#ifdef __cplusplus
}

/* As a tensor core reads a float. */
float rounded_to_tf32(float x);
#endif

#endif
