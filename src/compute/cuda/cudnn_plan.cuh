/* Execution plans of cuDNN for one convolution each (cuDNN's "backend" or graph API). */
#ifndef COMPUTE_CUDA_CUDNN_PLAN_CUH
#define COMPUTE_CUDA_CUDNN_PLAN_CUH

#include "compute/cuda/conv_choice.cuh"

#include <cudnn.h>

struct conv_choices;

/* The library, loaded at run time, its functions by their names without "cudnn" or "cudnnBackend". */
struct cudnn {
    void *library;
    cudnnHandle_t handle;
    struct conv_choices *choices; /* conv_choice.cu's */
    size_t (*version)(void);
    const char *(*error_string)(cudnnStatus_t);
    void (*last_error_string)(char *, size_t);
    cudnnStatus_t (*create)(cudnnHandle_t *);
    cudnnStatus_t (*destroy)(cudnnHandle_t);
    cudnnStatus_t (*set_stream)(cudnnHandle_t, cudaStream_t);
    cudnnStatus_t (*create_descriptor)(cudnnBackendDescriptorType_t, cudnnBackendDescriptor_t *);
    cudnnStatus_t (*destroy_descriptor)(cudnnBackendDescriptor_t);
    cudnnStatus_t (*finalize)(cudnnBackendDescriptor_t);
    cudnnStatus_t (*set_attribute)(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                   cudnnBackendAttributeType_t, int64_t, const void *);
    cudnnStatus_t (*get_attribute)(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                   cudnnBackendAttributeType_t, int64_t, int64_t *, void *);
    cudnnStatus_t (*execute)(cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t);
};

struct cudnn_plan {
    cudnnBackendDescriptor_t config, plan;
    size_t workspace; /* bytes that running it takes */
    int rounded;      /* the weights' gradient comes in bf16, not in float */
};

/* Plans that give equal bits for equal input and are as exact as the precision wants, the one that cuDNN
 * thinks best first (where the weights' gradient can be had in float, two such before); at most `most`.
 * Returns how many: none where cuDNN knows none, which is no failure. */
int cudnn_make_plans(const struct cudnn *cudnn, struct cudnn_plan *plans, int most,
                     const struct conv3d_shape *shape, enum conv_direction direction,
                     enum compute_precision precision);
void cudnn_free_plan(const struct cudnn *cudnn, struct cudnn_plan *plan);

/* Queues it. input, output: of the shape, or their gradients; weight: (out, taps, in) in the precision, its
 * gradient the same in float, or in bf16 where the plan is `rounded`. All aligned to cudnn_alignment. */
enum { cudnn_alignment = 16 };
cudnnStatus_t cudnn_run_plan(const struct cudnn *cudnn, const struct cudnn_plan *plan, const void *input,
                             const void *weight, const void *output, void *workspace);

#endif
