#include "compute/compute.h"

#include "base/error.h"
#include "compute/reference/reference.h"
#if !defined(VOCO_REAL_DOUBLE) && !defined(VOCO_NO_CPU)
#include "compute/cpu/cpu.h"
#define HAS_CPU
#endif
#ifdef VOCO_CUDA
#include "compute/cuda/cuda.h"
#endif

#include <stdio.h>
#include <string.h>

const char *const compute_precision_names[compute_precisions + 1] = {
    [PRECISION_FLOAT32] = "float32", [PRECISION_BF16] = "bf16", [PRECISION_TF32] = "tf32"};

enum voco_status compute_precision_from_name(enum compute_precision *precision, const char *name)
{
    for (int k = 0; k < compute_precisions; k++) {
        if (strcmp(name, compute_precision_names[k]) == 0) {
            *precision = (enum compute_precision)k;
            return VOCO_OK;
        }
    }
    return fail(VOCO_BAD_INPUT, "no precision is called \"%s\" (there are: float32, bf16, tf32)", name);
}

enum voco_status compute_status(struct compute *c)
{
    struct compute *full = c->full != NULL ? c->full : c;
    const struct compute *failed = c->status != VOCO_OK ? c : full;
    const enum voco_status status = failed->status;
    c->status = full->status = VOCO_OK;
    return status == VOCO_OK ? VOCO_OK : fail(status, "%s", failed->message);
}

void compute_failed(struct compute *c, enum voco_status status, const char *what)
{
    if (c->status == VOCO_OK) {
        c->status = status;
        snprintf(c->message, sizeof c->message, "%s: %s", c->name, what);
    }
}

static enum voco_status open_by_name(struct compute *c, const char *name, int gpu, int threads,
                                     enum compute_precision precision)
{
    if (strcmp(name, "reference") == 0) {
        return reference_compute_open(c, precision);
    }
#ifdef HAS_CPU
    if (strcmp(name, "cpu") == 0) {
        return cpu_compute_open(c, threads, precision);
    }
#else
    (void)threads;
    if (strcmp(name, "cpu") == 0) {
        return fail(VOCO_UNSUPPORTED, "the cpu implementation was left out of this program");
    }
#endif
#ifdef VOCO_CUDA
    if (strcmp(name, "cuda") == 0) {
        return cuda_compute_open(c, gpu, precision);
    }
#else
    (void)gpu;
#endif
    if (strcmp(name, "cuda") == 0) {
        return fail(VOCO_UNSUPPORTED, "this voco was built without CUDA (see VOCO_CUDA in docs/cuda.md)");
    }
    return fail(VOCO_BAD_INPUT,
                "no compute implementation is called \"%s\" (there are: reference, cpu, cuda)", name);
}

enum voco_status compute_open(struct compute *c, const char *name, int threads,
                              enum compute_precision precision)
{
    return compute_open_on_gpu(c, name, 0, threads, precision);
}

enum voco_status compute_open_on_gpu(struct compute *c, const char *name, int gpu, int threads,
                                     enum compute_precision precision)
{
    *c = (struct compute){0};
    const enum voco_status status = open_by_name(c, name, gpu, threads, precision);
    if (status == VOCO_OK && c->full == NULL) {
        c->full = c;
    }
    c->threads = threads;
    c->gpu = gpu;
    return status;
}

void compute_close(struct compute *c)
{
    if (c->close != NULL) {
        c->close(c);
    }
    *c = (struct compute){0};
}

enum voco_status compute_restart(struct compute *c)
{
    const char *name = c->name;
    const int threads = c->threads, gpu = c->gpu;
    const enum compute_precision precision = c->precision;
    compute_close(c);
    return compute_open_on_gpu(c, name, gpu, threads, precision);
}

void attention_window_of_axis(int tokens, int odd_block, int *window, int *shift)
{
    const int whole = tokens <= relative_table_window;
    *window = whole ? tokens : relative_table_window;
    *shift = whole || !odd_block ? 0 : relative_table_window / 2;
}

void patch_merging_offset(enum patch_merging order, int j, int offset[3])
{
    static const unsigned char offsets[3][8][3] = {
        [PATCH_MERGING_LEGACY] =
            {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 0, 1}, {0, 1, 0}, {0, 0, 1}, {1, 1, 1}},
        [PATCH_MERGING_FIXED] =
            {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0}, {1, 0, 1}, {0, 1, 1}, {1, 1, 1}},
        [PATCH_MERGING_V2] =
            {{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 1, 1}, {1, 0, 0}, {1, 0, 1}, {1, 1, 0}, {1, 1, 1}},
    };
    for (int axis = 0; axis < 3; axis++) {
        offset[axis] = offsets[order][j][axis];
    }
}

/* The reference takes the norms of z and t, dz and three arrays (S, K), others three numbers a pair: those of
 * the random crops with bases, three times, and all (K, K) of a volume's bases. */
size_t contrast_loss_work(const struct contrast_shape *shape)
{
    const size_t volumes = (size_t)shape->volumes, crops = (size_t)shape->crops;
    const size_t bases = (size_t)shape->bases, rows = volumes * (crops + bases);
    return rows * ((size_t)shape->width + 2) + 3 * volumes * bases * (3 * crops + bases);
}
