/* The public face of the pre-trained encoder: voco/voco.h. */
#include "voco/voco.h"

#include "base/error.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"

#include <stdlib.h>

struct voco_encoder {
    struct model model;
    struct compute compute;
    struct arena arena;
    float *params;
};

enum voco_status voco_encoder_open(struct voco_encoder **out, const char *path, int threads)
{
    *out = NULL;
    struct checkpoint checkpoint = {0};
    struct voco_encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    enum voco_status status = checkpoint_open(&checkpoint, path);
    if (status == VOCO_OK) {
        status = model_create(&encoder->model, &checkpoint.config);
    }
    if (status == VOCO_OK) {
        encoder->params = calloc(encoder->model.table.total, sizeof *encoder->params);
        status = encoder->params == NULL
                     ? fail(VOCO_NO_MEMORY, "%s: no memory for its parameters", path)
                     : checkpoint_read_params(&checkpoint, &encoder->model.table, encoder->params);
    }
    if (status == VOCO_OK) {
        status = compute_open(&encoder->compute, "cpu", threads, PRECISION_FLOAT32);
    }
    if (status == VOCO_OK) {
        status = evaluation_arena_open(&encoder->arena);
    }
    checkpoint_close(&checkpoint);
    if (status != VOCO_OK) {
        voco_encoder_close(encoder);
        return status;
    }
    *out = encoder;
    return VOCO_OK;
}

void voco_encoder_close(struct voco_encoder *encoder)
{
    if (encoder != NULL) {
        arena_close(&encoder->arena);
        compute_close(&encoder->compute);
        free(encoder->params);
        model_free(&encoder->model);
        free(encoder);
    }
}

int voco_encoder_roi(const struct voco_encoder *encoder)
{
    return encoder->model.config.roi;
}

int voco_encoder_width(const struct voco_encoder *encoder)
{
    return model_embedding_size(&encoder->model.config);
}

enum voco_status voco_encoder_embed(struct voco_encoder *encoder, float *embedding, const float *crops,
                                    int count)
{
    const size_t roi = (size_t)voco_encoder_roi(encoder);
    const size_t width = (size_t)voco_encoder_width(encoder);
    enum voco_status status = VOCO_OK;
    for (int i = 0; i < count && status == VOCO_OK; i++) {
        arena_reset(&encoder->arena);
        status = encoder_forward(&encoder->model, &encoder->compute, &encoder->arena, encoder->params,
                                 embedding + (size_t)i * width, crops + (size_t)i * roi * roi * roi, 1, NULL);
    }
    return status;
}
