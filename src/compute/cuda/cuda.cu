#include "compute/cuda/cuda.h"

#include "compute/cuda/blas.cuh"
#include "compute/cuda/cudnn.cuh"
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/memory.cuh"
#include "compute/cuda/recording.cuh"

extern "C" {
#include "base/error.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cuda_gpu_count(const char **why)
{
    int count = 0, driver = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    (void)cudaDriverGetVersion(&driver);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        count = 0;
    }
    if (why != NULL) {
        *why = count > 0              ? ""
               : driver == 0          ? "no NVIDIA driver is loaded"
               : error == cudaSuccess ? "the driver shows none"
                                      : cudaGetErrorString(error);
    }
    return count;
}

enum voco_status cuda_gpu_describe(struct gpu *device, int index)
{
    struct cudaDeviceProp properties;
    *device = gpu{};
    cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (error == cudaSuccess) {
        error = cudaSetDevice(index);
    }
    if (error == cudaSuccess) {
        error = cudaMemGetInfo(&device->free_memory, &device->memory);
    }
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return fail(VOCO_UNSUPPORTED, "GPU %d: %s", index, cudaGetErrorString(error));
    }
    snprintf(device->name, sizeof device->name, "%.*s", (int)sizeof device->name - 1, properties.name);
    device->major = properties.major;
    device->minor = properties.minor;
    device->multiprocessors = properties.multiProcessorCount;
    return VOCO_OK;
}

enum voco_status cuda_gpu_identify(struct gpu_identity *identity, int index)
{
    struct cudaDeviceProp properties;
    static_assert(sizeof identity->bytes == sizeof properties.uuid, "a GPU's UUID has 16 bytes");
    const cudaError_t error = cudaGetDeviceProperties(&properties, index);
    *identity = gpu_identity{};
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return fail(VOCO_UNSUPPORTED, "GPU %d: %s", index, cudaGetErrorString(error));
    }
    memcpy(identity->bytes, &properties.uuid, sizeof identity->bytes);
    return VOCO_OK;
}

static void close_cuda(struct compute *c)
{
    struct cuda_state *state = cuda_state(c);
    if (state->stream != NULL) {
        (void)cudaStreamSynchronize(state->stream);
    }
    leaves_close(c);
    cuda_weights_free(c);
    cudnn_close(c);
    blas_close(c);
    cuda_release(c, state->scratch);
    if (state->stream != NULL) {
        (void)cudaStreamDestroy(state->stream);
    }
    if (state->event != NULL) {
        (void)cudaEventDestroy(state->event);
    }
    free(state);
}

static void fill_operations(struct compute *c)
{
    c->name = "cuda";
    c->separate_memory = 1;
    c->allocate = cuda_allocate;
    c->release = cuda_release;
    c->allocate_staging = cuda_allocate_staging;
    c->release_staging = cuda_release_staging;
    c->free_memory = cuda_free_memory;
    c->to_device = cuda_to_device;
    c->to_host = cuda_to_host;
    c->copy = cuda_copy;
    c->wait = cuda_wait;
    c->open_beside = cuda_open_beside;
    c->follow = cuda_follow;
    c->done = cuda_done;
    c->queue = cuda_queue;
    if (cuda_recordings_wanted()) {
        c->record_begin = cuda_record_begin;
        c->record_end = cuda_record_end;
        c->replay = cuda_replay;
        c->can_replay = cuda_can_replay;
        c->recording_free = cuda_recording_free;
    }
    c->activations_from_reals = cuda_activations_from_reals;
    c->reals_from_activations = cuda_reals_from_activations;
    c->transform_crops = cuda_transform_crops;
    c->conv3d_forward = cuda_conv3d_forward;
    c->conv3d_backward = cuda_conv3d_backward;
    c->normed_conv3d_forward = cuda_normed_conv3d_forward;
    c->normed_conv3d_backward = cuda_normed_conv3d_backward;
    c->normed_conv3d_pair_backward = cuda_normed_conv3d_pair_backward;
    c->normed_conv3d_work = cuda_normed_conv3d_work;
    c->linear_forward = cuda_linear_forward;
    c->linear_backward = cuda_linear_backward;
    c->linear_gelu_forward = cuda_linear_gelu_forward;
    c->linear_gelu_backward = cuda_linear_gelu_backward;
    c->linear_add_forward = cuda_linear_add_forward;
    c->mlp_forward = cuda_mlp_forward;
    c->mlp_backward = cuda_mlp_backward;
    c->mlp_fits = cuda_mlp_fits;
    c->normed_linear_forward = cuda_normed_linear_forward;
    c->normed_linear_backward = cuda_normed_linear_backward;
    c->normed_linear_fits = cuda_normed_linear_fits;
    c->layer_norm_forward = cuda_layer_norm_forward;
    c->layer_norm_backward = cuda_layer_norm_backward;
    c->instance_norm_forward = cuda_instance_norm_forward;
    c->instance_norm_backward = cuda_instance_norm_backward;
    c->instance_norm_moments = cuda_instance_norm_moments;
    c->instance_norm_apply = cuda_instance_norm_apply;
    c->pooled_norm_forward = cuda_pooled_norm_forward;
    c->pooled_norm_backward = cuda_pooled_norm_backward;
    c->channel_scale_forward = cuda_channel_scale_forward;
    c->channel_scale_backward = cuda_channel_scale_backward;
    c->window_attention_forward = cuda_window_attention_forward;
    c->window_attention_backward = cuda_window_attention_backward;
    c->gelu_forward = cuda_gelu_forward;
    c->gelu_backward = cuda_gelu_backward;
    c->patch_merge_forward = cuda_patch_merge_forward;
    c->patch_merge_backward = cuda_patch_merge_backward;
    c->add = cuda_add;
    c->apply_mask = cuda_apply_mask;
    c->contrast_loss = cuda_contrast_loss;
    c->adamw_step = cuda_adamw_step;
    c->undo_if_skipped = cuda_undo_if_skipped;
    c->moving_average = cuda_moving_average;
    c->zero = cuda_zero;
    c->sum_in_order = cuda_sum_in_order;
    c->sum_of_squares = cuda_sum_of_squares;
    c->parameters_changed = cuda_weights_changed;
    c->choices = cuda_choices;
    c->take_choices = cuda_take_choices;
    c->measure_peak = cuda_measure_peak;
    c->close = close_cuda;
}

/* Whether there is this GPU, and whether it will do. */
static enum voco_status choose_device(struct cuda_state *state)
{
    const char *why = NULL;
    struct gpu device;
    int shared = 0;
    if (cuda_gpu_count(&why) == 0) {
        return fail(VOCO_UNSUPPORTED, "there is no GPU to compute on: %s", why);
    }
    const enum voco_status status = cuda_gpu_describe(&device, state->gpu);
    if (status != VOCO_OK) {
        return status;
    }
    if (device.major < 8) {
        return fail(VOCO_UNSUPPORTED,
                    "the GPU %s has compute capability %d.%d; 8.0 and later ones are supported", device.name,
                    device.major, device.minor);
    }
    (void)cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, state->gpu);
    state->multiprocessors = device.multiprocessors;
    state->major = device.major;
    state->minor = device.minor;
    state->shared_per_block = (size_t)shared;
    return VOCO_OK;
}

static enum voco_status open_state(struct compute *c)
{
    struct cuda_state *state = cuda_state(c);
    enum voco_status status = choose_device(state);
    if (status != VOCO_OK) {
        return status;
    }
    int least = 0, greatest = 0;
    (void)cudaDeviceGetStreamPriorityRange(&least, &greatest);
    /* Its blocks go before those of leaves where both are ready. */
    cuda_check(c,
               cudaStreamCreateWithPriority(&state->stream, cudaStreamNonBlocking,
                                            least > greatest ? least - 1 : least),
               "creating a stream");
    status = compute_status(c);
    if (status == VOCO_OK) {
        status = leaves_open(c);
    }
    if (status == VOCO_OK) {
        status = cudnn_open(c);
    }
    if (status == VOCO_OK) {
        status = blas_open(c);
    }
    return status;
}

enum voco_status cuda_compute_open(struct compute *c, int gpu, enum compute_precision precision)
{
    struct cuda_state *state = (struct cuda_state *)calloc(1, sizeof *state);
    if (state == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the cuda implementation");
    }
    fill_operations(c);
    state->gpu = gpu;
    c->state = state;
    c->precision = precision;
    c->activation_size = precision == PRECISION_BF16 ? sizeof(bf16) : sizeof(float);
    c->multiplies_bf16 = 1;
    const enum voco_status status = open_state(c);
    if (status != VOCO_OK) {
        close_cuda(c);
        *c = compute{};
        return status;
    }
    if (precision != PRECISION_FLOAT32) {
        state->full = *c;
        state->full.precision = PRECISION_FLOAT32;
        state->full.activation_size = sizeof(float);
        state->full.close = NULL;
        state->full.full = &state->full;
        c->full = &state->full;
    }
    return VOCO_OK;
}
