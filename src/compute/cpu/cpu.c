#include "compute/cpu/cpu.h"

#include "base/error.h"
#include "compute/cpu/cpu_state.h"
#include "compute/cpu/isa.h"
#include "compute/cpu/kernels/install.h"
#include "compute/cpu/onednn.h"
#include "compute/cpu/packed_weights.h"
#include "compute/host_memory.h"
#include "compute/reference/operations.h"

#include <omp.h>
#include <stdlib.h>

enum { most_threads = 1024 };

/* *memory, made anew where it has less than `bytes`. */
static void *at_least(struct compute *c, void **memory, size_t *present, size_t bytes)
{
    if (bytes > *present) {
        free(*memory);
        const size_t rounded = (bytes + 4095) / 4096 * 4096;
        *memory = aligned_alloc(4096, rounded);
        *present = *memory != NULL ? rounded : 0;
        if (*memory == NULL) {
            compute_failed(c, VOCO_NO_MEMORY, "no scratch memory");
        }
    }
    return *memory;
}

void *cpu_scratch(struct compute *c, size_t bytes)
{
    struct cpu_state *state = cpu_state(c);
    return at_least(c, &state->scratch, &state->scratch_bytes, bytes);
}

int cpu_float_arrays(struct compute *c, float **a, size_t a_count, float **b, size_t b_count)
{
    struct cpu_state *state = cpu_state(c);
    const size_t first = float_bytes(a_count);
    *a = at_least(c, &state->floats, &state->floats_bytes, first + float_bytes(b_count));
    *b = *a != NULL ? *a + first / sizeof **a : NULL;
    return *a != NULL;
}

void use_threads(const struct compute *c)
{
    if (omp_get_max_threads() != cpu_state(c)->threads) {
        omp_set_num_threads(cpu_state(c)->threads);
    }
}

static void parameters_changed(struct compute *c)
{
    onednn_forget_weights(cpu_state(c)->onednn);
    packed_weights_forget(cpu_state(c)->packed);
}

static void close_cpu(struct compute *c)
{
    struct cpu_state *state = cpu_state(c);
    onednn_close(state->onednn);
    packed_weights_close(state->packed);
    free(state->scratch);
    free(state->floats);
    free(state);
}

static void install_kernels(struct compute *c, enum isa isa)
{
    typedef void (*installation)(struct compute * c);
    static const installation installations[isa_count][2] = {
        [ISA_PORTABLE] = {install_kernels_portable_float32, install_kernels_portable_bf16},
#ifdef VOCO_X86_KERNELS
        [ISA_AVX2] = {install_kernels_avx2_float32, install_kernels_avx2_bf16},
        [ISA_AVX512] = {install_kernels_avx512_float32, install_kernels_avx512_bf16},
        [ISA_AVX512BF16] = {install_kernels_avx512_float32, install_kernels_avx512bf16_bf16},
        [ISA_AMX] = {install_kernels_amx_float32, install_kernels_amx_bf16},
#endif
    };
    installations[isa][c->precision](c);
}

static void fill(struct compute *c, struct cpu_state *state, enum compute_precision precision, enum isa isa)
{
    *c = (struct compute){
        .name = "cpu",
        .state = state,
        .precision = precision,
        .multiplies_bf16 = isa >= ISA_AVX512BF16,
        .transform_crops = reference_transform_crops, /* a host's crops come changed (data/augment.h) */
        .conv3d_forward = cpu_conv3d_forward,
        .conv3d_backward = cpu_conv3d_backward,
        .normed_conv3d_forward = cpu_normed_conv3d_forward,
        .normed_conv3d_backward = cpu_normed_conv3d_backward,
        .normed_conv3d_pair_backward = reference_normed_conv3d_pair_backward,
        .normed_conv3d_work = cpu_normed_conv3d_work,
        .linear_forward = cpu_linear_forward,
        .linear_backward = cpu_linear_backward,
        .linear_gelu_forward = reference_linear_gelu_forward, /* by the operations above and the kernels' */
        .linear_gelu_backward = reference_linear_gelu_backward,
        .linear_add_forward = reference_linear_add_forward,
        .channel_scale_forward = reference_channel_scale_forward, /* a value a channel */
        .channel_scale_backward = reference_channel_scale_backward,
        .apply_mask = reference_apply_mask, /* a value a feature of each crop */
        .contrast_loss = reference_contrast_loss,
        .parameters_changed = parameters_changed,
    };
    compute_in_host_memory(c);
    install_kernels(c, isa);
}

enum voco_status cpu_compute_open(struct compute *c, int threads, enum compute_precision precision)
{
    enum isa isa;
    if (precision == PRECISION_TF32) {
        return fail(VOCO_UNSUPPORTED, "the cpu implementation computes in float32 or bf16, not in tf32, "
                                      "which is for GPUs (cuda)");
    }
    const enum voco_status status = isa_choose(&isa);
    if (status != VOCO_OK) {
        return status;
    }
    const int count = threads > 0 ? threads : omp_get_max_threads();
    if (count > most_threads) {
        return fail(VOCO_BAD_INPUT, "%d threads are more than %d", count, most_threads);
    }
    struct cpu_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the cpu implementation");
    }
    state->threads = count;
    state->onednn = onednn_open();
    state->packed = packed_weights_open();
    if (state->onednn == NULL || state->packed == NULL) {
        onednn_close(state->onednn);
        packed_weights_close(state->packed);
        free(state);
        return fail(VOCO_NO_MEMORY, "cannot start oneDNN");
    }
    fill(c, state, precision, isa);
    c->close = close_cpu;
    if (precision != PRECISION_FLOAT32) {
        fill(&state->full, state, PRECISION_FLOAT32, isa);
        c->full = state->full.full = &state->full;
    }
    return VOCO_OK;
}
