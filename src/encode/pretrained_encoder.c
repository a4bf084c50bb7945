#include "encode/pretrained_encoder.h"

#include "base/byte_size.h"
#include "base/error.h"
#include "base/machine_memory.h"
#include "compute/compute_arena.h"
#include "compute/reals_on_device.h"
#include "train/evaluate.h"
#include "train/machine.h"

#include <stdlib.h>
#include <string.h>

static enum voco_status settle_patch_merging(struct checkpoint *checkpoint, const char *name)
{
    enum patch_merging order = PATCH_MERGING_LEGACY;
    if (name == NULL) {
        checkpoint_warn_of_patch_merging(checkpoint);
        return VOCO_OK;
    }
    const enum voco_status status = patch_merging_from_name(&order, name);
    if (status == VOCO_OK && checkpoint->stored.says_patch_merging &&
        order != checkpoint->config.patch_merging) {
        return fail(VOCO_BAD_INPUT, "%s: was trained with patch merging %s, not %s", checkpoint->stored.path,
                    patch_merging_name(checkpoint->config.patch_merging), name);
    }
    checkpoint->config.patch_merging = order;
    return status;
}

static enum voco_status read_parameters(struct pretrained_encoder *encoder,
                                        const struct checkpoint *checkpoint)
{
    enum voco_status status = model_create(&encoder->model, &checkpoint->config);
    if (status != VOCO_OK) {
        return status;
    }
    encoder->params = calloc(encoder->model.table.total, sizeof *encoder->params);
    return encoder->params == NULL
               ? fail(VOCO_NO_MEMORY, "%s: no memory for its parameters", encoder->path)
               : checkpoint_read_encoder(checkpoint, &encoder->model.table, encoder->params);
}

/* What a crop takes, where there is a limit to hold it to. */
static enum voco_status measure_memory(struct pretrained_encoder *encoder, uint64_t setting)
{
    const double side = encoder->model.config.roi;
    char size[byte_size_room];
    uint64_t need = 0, activations = 0;
    if (setting == 0) {
        return VOCO_OK;
    }
    encoder->limit = memory_limit_of(setting);
    const enum voco_status status = measure_forward_memory(&need, &activations, &encoder->model,
                                                           &encoder->compute, encoder->on_device, 1, 0);
    encoder->bytes_for_a_voxel = (uint64_t)((double)activations / (side * side * side)) + 1;
    return status == VOCO_OK && need > setting
               ? fail(VOCO_BAD_INPUT, "%s of memory are too little: the least for this encoder is %lluM",
                      format_memory_size(size, setting), (unsigned long long)(need >> 20) + 1)
               : status;
}

enum voco_status pretrained_encoder_open(struct pretrained_encoder *encoder, const char *file_or_run,
                                         const struct pretrained_encoder_settings *settings)
{
    *encoder = (struct pretrained_encoder){0};
    struct checkpoint checkpoint = {0};
    enum compute_precision precision = PRECISION_FLOAT32;
    enum voco_status status = checkpoint_find(encoder->path, file_or_run);
    if (status == VOCO_OK && settings->precision != NULL) {
        status = compute_precision_from_name(&precision, settings->precision);
    }
    if (status == VOCO_OK) {
        status = checkpoint_open(&checkpoint, encoder->path);
    }
    if (status == VOCO_OK) {
        encoder->recipe = checkpoint.recipe;
        encoder->has_recipe = checkpoint.resumable;
        encoder->step = checkpoint.step;
        status = settle_patch_merging(&checkpoint, settings->patch_merging);
    }
    if (status == VOCO_OK) {
        status = read_parameters(encoder, &checkpoint);
    }
    checkpoint_close(&checkpoint);
    if (status == VOCO_OK) {
        status = machine_open(&encoder->compute, settings->compute != NULL ? settings->compute : "cpu",
                              settings->threads, precision);
    }
    if (status == VOCO_OK) {
        encoder->on_device = reals_on_device(&encoder->compute, encoder->params, encoder->model.table.total);
        status = compute_status(&encoder->compute);
    }
    if (status == VOCO_OK) {
        status = evaluation_arena_open(&encoder->arena, &encoder->compute);
    }
    if (status == VOCO_OK) {
        status = measure_memory(encoder, settings->memory);
    }
    if (status != VOCO_OK) {
        pretrained_encoder_close(encoder);
    }
    return status;
}

void pretrained_encoder_close(struct pretrained_encoder *encoder)
{
    compute_arena_close(&encoder->arena, &encoder->compute);
    release_reals(&encoder->compute, encoder->on_device, encoder->params);
    compute_close(&encoder->compute);
    free(encoder->params);
    model_free(&encoder->model);
    *encoder = (struct pretrained_encoder){0};
}

enum voco_status pretrained_encoder_check_memory(const struct pretrained_encoder *encoder, const char *name,
                                                 const int size[3], uint64_t beside)
{
    char needed[byte_size_room], allowed[byte_size_room];
    const uint64_t voxels = (uint64_t)size[0] * (uint64_t)size[1] * (uint64_t)size[2];
    const uint64_t need = memory_resident() + voxels * encoder->bytes_for_a_voxel + beside;
    if (encoder->limit.bytes == 0 || need <= encoder->limit.bytes) {
        return VOCO_OK;
    }
    return fail(VOCO_NO_MEMORY, "%s: takes about %s of memory, %s are allowed", name,
                format_memory_size(needed, need), format_memory_size(allowed, encoder->limit.bytes));
}

/* A box as operations take it, and where they write what becomes `host`: itself where they work in the host's
 * memory. */
static enum voco_status begin_box(struct pretrained_encoder *encoder, const float *box, const int size[3],
                                  float *host, size_t count, const float **input, float **result)
{
    struct compute *c = &encoder->compute;
    const size_t voxels = (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
    arena_reset(&encoder->arena);
    const enum voco_status status =
        compute_arena_reserve(&encoder->arena, c,
                              (voxels + count) * sizeof(real) + 2 * arena_alignment +
                                  encoder_passing_bytes(&encoder->model.config, voxels, c->activation_size));
    if (status != VOCO_OK) {
        return status;
    }
    *result = c->separate_memory ? arena_push(&encoder->arena, count * sizeof *host) : host;
    *input = reals_for_operations(c, &encoder->arena, box, voxels);
    return encoder->arena.exhausted
               ? fail(VOCO_NO_MEMORY, "a box of %d x %d x %d voxels does not fit into memory", size[0],
                      size[1], size[2])
               : VOCO_OK;
}

static enum voco_status fetch_result(struct pretrained_encoder *encoder, float *host, const float *result,
                                     size_t count)
{
    struct compute *c = &encoder->compute;
    if (host != result) {
        c->to_host(c, host, result, count * sizeof *host);
        c->wait(c);
    }
    return compute_status(c);
}

enum voco_status pretrained_encoder_embed(struct pretrained_encoder *encoder, float *embedding,
                                          const float *box, const int size[3])
{
    const size_t count = (size_t)model_embedding_size(&encoder->model.config);
    const float *input = NULL;
    float *result = NULL;
    enum voco_status status = begin_box(encoder, box, size, embedding, count, &input, &result);
    if (status != VOCO_OK) {
        return status;
    }
    status = encoder_box_forward(&encoder->model, &encoder->compute, &encoder->arena, encoder->on_device,
                                 result, input, 1, size);
    return status == VOCO_OK ? fetch_result(encoder, embedding, result, count) : status;
}

enum voco_status pretrained_encoder_features(struct pretrained_encoder *encoder, float *features, int level,
                                             const float *box, const int size[3])
{
    const struct encoder_level part = encoder_level_of(&encoder->model.config, level);
    size_t count = (size_t)part.channels;
    for (int axis = 0; axis < 3; axis++) {
        count *= (size_t)tokens_of(size[axis], part.stride);
    }
    const float *input = NULL;
    float *result = NULL;
    enum voco_status status = begin_box(encoder, box, size, features, count, &input, &result);
    if (status != VOCO_OK) {
        return status;
    }
    status = encoder_box_features(&encoder->model, &encoder->compute, &encoder->arena, encoder->on_device,
                                  result, level, input, size);
    return status == VOCO_OK ? fetch_result(encoder, features, result, count) : status;
}

int tokens_of(int size, int stride)
{
    return (size + stride - 1) / stride;
}
