#include "train/machine.h"

#include "base/error.h"
#include "base/log.h"
#include "compute/gpus.h"

#include <string.h>

enum voco_status machine_check(const char *implementation, enum compute_precision precision)
{
    const char *why = NULL;
    struct compute c;
    if (strcmp(implementation, "cuda") == 0) {
        return gpu_count(&why) == 0 ? fail(VOCO_UNSUPPORTED, "there is no GPU to compute on: %s", why)
                                    : VOCO_OK;
    }
    const enum voco_status status = compute_open(&c, implementation, 1, precision);
    if (status == VOCO_OK) {
        compute_close(&c);
    }
    return status;
}

static void *allocate(void *context, size_t bytes)
{
    struct compute *c = context;
    return c->allocate_staging(c, bytes);
}

static void release(void *context, void *memory)
{
    struct compute *c = context;
    c->release_staging(c, memory);
}

struct batch_memory machine_batch_memory(struct compute *c)
{
    return c->separate_memory ? (struct batch_memory){allocate, release, c} : (struct batch_memory){0};
}

enum voxel_form machine_voxel_form(const struct compute *c, int levels)
{
    return c->separate_memory ? stored_voxel_form(levels) : VOXELS_FLOAT;
}

enum voco_status machine_open(struct compute *c, const char *implementation, int threads,
                              enum compute_precision precision)
{
    return machine_open_on_gpu(c, implementation, 0, threads, precision);
}

enum voco_status machine_open_on_gpu(struct compute *c, const char *implementation, int gpu, int threads,
                                     enum compute_precision precision)
{
    const enum voco_status status = compute_open_on_gpu(c, implementation, gpu, threads, precision);
    if (status == VOCO_OK && precision == PRECISION_BF16 && !c->multiplies_bf16) {
        log_line(LOG_INFO,
                 "precision bf16: this processor does not multiply bf16 (no AVX512_BF16 or AMX); it "
                 "halves the memory of activations, but is not faster than float32 here");
    }
    return status;
}
