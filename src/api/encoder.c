/* The public face of the pre-trained encoder: voco/voco.h. */
#include "voco/voco.h"

#include "base/error.h"
#include "encode/embed_volume.h"
#include "encode/pretrained_encoder.h"

#include <stdlib.h>
#include <string.h>

struct voco_encoder {
    struct pretrained_encoder pretrained;
};

enum voco_status voco_encoder_open_with(struct voco_encoder **out, const char *path,
                                        const struct voco_encoder_options *options)
{
    *out = NULL;
    struct voco_encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    const struct pretrained_encoder_settings settings = {.compute = options->compute,
                                                         .precision = options->precision,
                                                         .patch_merging = options->patch_merging,
                                                         .threads = options->threads};
    const enum voco_status status = pretrained_encoder_open(&encoder->pretrained, path, &settings);
    if (status != VOCO_OK) {
        free(encoder);
        return status;
    }
    *out = encoder;
    return VOCO_OK;
}

enum voco_status voco_encoder_open(struct voco_encoder **out, const char *path, int threads)
{
    const struct voco_encoder_options options = {.threads = threads};
    return voco_encoder_open_with(out, path, &options);
}

void voco_encoder_close(struct voco_encoder *encoder)
{
    if (encoder != NULL) {
        pretrained_encoder_close(&encoder->pretrained);
        free(encoder);
    }
}

int voco_encoder_roi(const struct voco_encoder *encoder)
{
    return encoder->pretrained.model.config.roi;
}

const char *voco_encoder_preset(const struct voco_encoder *encoder)
{
    return encoder->pretrained.recipe.preset;
}

int voco_encoder_width(const struct voco_encoder *encoder)
{
    return model_embedding_size(&encoder->pretrained.model.config);
}

enum voco_status voco_encoder_embed(struct voco_encoder *encoder, float *embedding, const float *crops,
                                    int count)
{
    const int side = voco_encoder_roi(encoder), size[3] = {side, side, side};
    const size_t roi = (size_t)side, width = (size_t)voco_encoder_width(encoder);
    enum voco_status status = VOCO_OK;
    for (int i = 0; i < count && status == VOCO_OK; i++) {
        status = pretrained_encoder_embed(&encoder->pretrained, embedding + (size_t)i * width,
                                          crops + (size_t)i * roi * roi * roi, size);
    }
    return status;
}

enum voco_status voco_encoder_embed_box(struct voco_encoder *encoder, float *embedding, const float *box,
                                        const int size[3])
{
    return pretrained_encoder_embed(&encoder->pretrained, embedding, box, size);
}

struct voco_level voco_encoder_level(const struct voco_encoder *encoder, int level)
{
    const struct encoder_level part = encoder_level_of(&encoder->pretrained.model.config, level);
    return (struct voco_level){.first = part.column, .channels = part.channels, .stride = part.stride};
}

enum voco_status voco_encoder_features(struct voco_encoder *encoder, float *features, int level,
                                       const float *box, const int size[3])
{
    return level < 0 || level >= encoder_levels
               ? fail(VOCO_BAD_INPUT, "the encoder has levels 0 to %d, not %d", encoder_levels - 1, level)
               : pretrained_encoder_features(&encoder->pretrained, features, level, box, size);
}

enum voco_status voco_encoder_embed_volume(struct voco_encoder *encoder, struct voco_embeddings *embeddings,
                                           const struct voco_volume *volume, int stride)
{
    *embeddings = (struct voco_embeddings){0};
    if (stride < 0) {
        return fail(VOCO_BAD_INPUT, "a stride of %d voxels", stride);
    }
    const struct embedding_choice choice = {.stride = stride, .level = -1};
    struct volume view = {.data = volume->data};
    memcpy(view.size, volume->size, sizeof view.size);
    memcpy(view.affine, volume->affine, sizeof view.affine);
    struct volume_embedding found = {0};
    const enum voco_status status = embed_volume(&found, &encoder->pretrained, &view, &choice, NULL, NULL);
    *embeddings = (struct voco_embeddings){.count = found.count,
                                           .embedding = found.embedding,
                                           .mean = found.mean,
                                           .position = found.position,
                                           .centre = found.centre};
    return status;
}

void voco_embeddings_free(struct voco_embeddings *embeddings)
{
    free(embeddings->embedding);
    free(embeddings->mean);
    free(embeddings->position);
    free(embeddings->centre);
    *embeddings = (struct voco_embeddings){0};
}
