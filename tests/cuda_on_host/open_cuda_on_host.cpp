/* The cuda implementation on the machine of cuda_on_host.h: its memory, and the operations that a program has
 * linked. */
#include "open_cuda_on_host.h"
#include "compute/cuda/blas.cuh"
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/memory.cuh"
#include "guarded_arrays.h"
#include "leaves_on_host.h"
#include "recording_on_host.h"

struct gpu_on_host gpu_on_host = {5, 9, 0, 227 << 10, (size_t)160 << 20, 1};

/* ---- memory.cu ---- */

void *cuda_allocate(struct compute *c, size_t bytes)
{
    return c->status == VOCO_OK && cuda_may_do(c, "allocating") ? cuda_on_host::new_array(bytes) : NULL;
}

extern decltype(cuda_weights_may_be_gone) cuda_weights_may_be_gone __attribute__((weak));

void cuda_release(struct compute *c, void *memory)
{
    if (!cuda_may_do(c, "releasing")) {
        return;
    }
    if (memory != NULL && cuda_weights_may_be_gone != NULL) {
        cuda_weights_may_be_gone(c);
    }
    cuda_on_host::do_what_was_put_off(c);
    cuda_on_host::free_array(memory);
}

void *cuda_allocate_staging(struct compute *c, size_t bytes)
{
    return c->status == VOCO_OK ? malloc(bytes > 0 ? bytes : 1) : NULL;
}

void cuda_release_staging(struct compute *, void *memory)
{
    free(memory);
}

void cuda_copy(struct compute *c, void *to, const void *from, size_t bytes)
{
    if (c->status == VOCO_OK && bytes > 0) {
        cuda_on_host::ask(c, [=] {
            cuda_on_host::access_to_arrays access;
            memcpy(to, from, bytes);
        });
    }
}

void cuda_to_device(struct compute *c, void *to, const void *host, size_t bytes)
{
    if (cuda_may_do(c, "a copy from the host")) {
        cuda_copy(c, to, host, bytes);
    }
}

void cuda_to_host(struct compute *c, void *host, const void *from, size_t bytes)
{
    if (cuda_may_do(c, "a copy to the host")) {
        cuda_copy(c, host, from, bytes);
    }
}

void cuda_wait(struct compute *c)
{
    if (cuda_may_do(c, "waiting")) {
        cuda_wait_for_leaves(c);
    }
}

size_t cuda_free_memory(struct compute *)
{
    return gpu_on_host.free_memory;
}

void *cuda_scratch(struct compute *c, size_t bytes)
{
    struct cuda_state *state = cuda_state(c);
    if (c->status != VOCO_OK) {
        return NULL;
    }
    if (cuda_on_host::of_leaf(c)) {
        return cuda_on_host::leaf_array(c, cuda_aligned(bytes));
    }
    if (state->recording != NULL) {
        return cuda_on_host::recorded_scratch(c, cuda_aligned(bytes));
    }
    cuda_on_host::free_array(state->scratch);
    state->scratch = cuda_allocate(c, cuda_aligned(bytes)); /* so that it begins aligned to 256 */
    state->scratch_bytes = bytes;
    return state->scratch;
}

void cuda_fill_zero(struct compute *c, void *to, size_t bytes)
{
    if (c->status == VOCO_OK && bytes > 0) {
        cuda_on_host::ask(c, [=] {
            cuda_on_host::access_to_arrays access;
            memset(to, 0, bytes);
        });
    }
}

/* ---- libraries: there are none ---- */

__attribute__((weak)) int blas_product(struct compute *, const struct matrix_product *, void *, const void *,
                                       const void *, const float *)
{
    return 0;
}

/* ---- struct compute ---- */

#define OPERATION(operation) extern decltype(cuda_##operation) cuda_##operation __attribute__((weak))
#include "every_operation.h"
#undef OPERATION
extern decltype(cuda_weights_changed) cuda_weights_changed __attribute__((weak));
extern decltype(cuda_weights_free) cuda_weights_free __attribute__((weak));

static void own_activations_from_reals(struct compute *c, activation *out, const float *inp, size_t count)
{
    cuda_wait_for_leaves(c);
    cuda_on_host::access_to_arrays access;
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        if (c->precision == PRECISION_BF16) {
            ((bf16 *)out)[k] = from_float<bf16>(inp[k]);
        } else {
            ((float *)out)[k] = inp[k];
        }
    }
}

static void own_reals_from_activations(struct compute *c, float *out, const activation *inp, size_t count)
{
    cuda_wait_for_leaves(c);
    cuda_on_host::access_to_arrays access;
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        out[k] = c->precision == PRECISION_BF16 ? to_float(((const bf16 *)inp)[k]) : ((const float *)inp)[k];
    }
}

static void nothing_derived(struct compute *)
{
}

static void close_on_host(struct compute *c)
{
    leaves_close(c);
    if (cuda_weights_free != NULL) {
        cuda_weights_free(c);
    }
    cuda_release(c, cuda_state(c)->scratch);
    free(cuda_state(c));
}

void open_cuda_on_host(struct compute *c, enum compute_precision precision)
{
    struct cuda_state *state = (struct cuda_state *)calloc(1, sizeof *state);
    cuda_on_host::start_gpu();
    *c = compute{};
    c->name = "cuda on host";
    c->state = state;
    c->full = c;
    c->threads = 1;
    c->precision = precision;
    c->activation_size = precision == PRECISION_BF16 ? sizeof(bf16) : sizeof(float);
    c->multiplies_bf16 = 1;
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
    c->record_begin = cuda_record_begin;
    c->record_end = cuda_record_end;
    c->replay = cuda_replay;
    c->can_replay = cuda_can_replay;
    c->recording_free = cuda_recording_free;
#define OPERATION(operation) c->operation = cuda_##operation
#include "every_operation.h"
#undef OPERATION
    if (c->activations_from_reals == NULL) {
        c->activations_from_reals = own_activations_from_reals;
        c->reals_from_activations = own_reals_from_activations;
    }
    c->parameters_changed = cuda_weights_changed != NULL ? cuda_weights_changed : nothing_derived;
    c->close = close_on_host;
    if (gpu_on_host.leaves) {
        (void)leaves_open(c);
    }
    state->multiprocessors = gpu_on_host.multiprocessors;
    state->major = gpu_on_host.major;
    state->minor = gpu_on_host.minor;
    state->shared_per_block = gpu_on_host.shared_per_block;
    if (precision != PRECISION_FLOAT32) {
        state->full = *c;
        state->full.precision = PRECISION_FLOAT32;
        state->full.activation_size = sizeof(float);
        state->full.close = NULL;
        state->full.full = &state->full;
        c->full = &state->full;
    }
}
