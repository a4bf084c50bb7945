#include "encode/embed_volume.h"

#include "base/error.h"
#include "encode/sliding_crops.h"

#include <stdlib.h>
#include <string.h>

/* The crops of a choice; a whole volume is one. */
static void plan(struct sliding_crops *crops, int extent[3], const struct pretrained_encoder *encoder,
                 const struct volume *volume, const struct embedding_choice *choice, int step)
{
    const int roi = encoder->model.config.roi;
    sliding_crops_plan(crops, volume->size, roi, choice->stride > 0 ? choice->stride : roi / 2, step);
    for (int axis = 0; axis < 3; axis++) {
        extent[axis] = choice->whole ? volume->size[axis] : roi;
        crops->last[axis] = choice->whole ? 0 : crops->last[axis];
        crops->count[axis] = choice->whole ? 1 : crops->count[axis];
    }
}

static void place_in_world(double mm[3], const double affine[3][4], const double voxel[3])
{
    for (int row = 0; row < 3; row++) {
        mm[row] = affine[row][0] * voxel[0] + affine[row][1] * voxel[1] + affine[row][2] * voxel[2] +
                  affine[row][3];
    }
}

static float *new_box(const int extent[3])
{
    return malloc((size_t)extent[0] * (size_t)extent[1] * (size_t)extent[2] * sizeof(float));
}

static enum voco_status take_mean(struct volume_embedding *out)
{
    double *sum = calloc(out->width, sizeof *sum);
    if (sum == NULL) {
        return fail(VOCO_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < out->count; i++) {
        for (size_t j = 0; j < out->width; j++) {
            sum[j] += (double)out->embedding[i * out->width + j];
        }
    }
    for (size_t j = 0; j < out->width; j++) {
        out->mean[j] = (float)(sum[j] / (double)out->count);
    }
    free(sum);
    return VOCO_OK;
}

/* 0 without memory. */
static int allocate(struct volume_embedding *out)
{
    out->embedding = calloc(out->count, out->width * sizeof *out->embedding);
    out->mean = calloc(out->width, sizeof *out->mean);
    out->position = calloc(out->count, sizeof *out->position);
    out->centre = calloc(out->count, sizeof *out->centre);
    return out->embedding != NULL && out->mean != NULL && out->position != NULL && out->centre != NULL;
}

enum voco_status embed_volume(struct volume_embedding *out, struct pretrained_encoder *encoder,
                              const struct volume *volume, const struct embedding_choice *choice,
                              embedding_progress progress, void *context)
{
    const struct model_config *config = &encoder->model.config;
    const size_t all = (size_t)model_embedding_size(config);
    struct encoder_level part = {.column = 0, .channels = (int)all};
    struct sliding_crops crops;
    int extent[3];
    if (choice->level >= 0) {
        part = encoder_level_of(config, choice->level);
    }
    plan(&crops, extent, encoder, volume, choice, 1);
    *out = (struct volume_embedding){.count = sliding_crops_total(&crops), .width = (size_t)part.channels};
    float *box = new_box(extent);
    float *embedding = malloc(all * sizeof *embedding);
    enum voco_status status = VOCO_OK;
    if (!allocate(out) || box == NULL || embedding == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for the embeddings of %zu crops", out->count);
        goto done;
    }
    for (size_t i = 0; i < out->count && status == VOCO_OK; i++) {
        int *start = out->position[i];
        sliding_crop_place(start, &crops, i);
        copy_box(box, volume, start, extent);
        status = pretrained_encoder_embed(encoder, embedding, box, extent);
        if (status == VOCO_OK) {
            memcpy(out->embedding + i * out->width, embedding + part.column, out->width * sizeof *embedding);
        }
        const double centre[3] = {start[0] + (extent[0] - 1) / 2.0, start[1] + (extent[1] - 1) / 2.0,
                                  start[2] + (extent[2] - 1) / 2.0};
        place_in_world(out->centre[i], volume->affine, centre);
        if (progress != NULL) {
            progress(i + 1, out->count, context);
        }
    }
    if (status == VOCO_OK) {
        status = take_mean(out);
    }
done:
    free(embedding);
    free(box);
    return status;
}

void volume_embedding_free(struct volume_embedding *embedding)
{
    free(embedding->embedding);
    free(embedding->mean);
    free(embedding->position);
    free(embedding->centre);
    *embedding = (struct volume_embedding){0};
}

/* ---- feature maps ---- */

double feature_map_bytes(const struct pretrained_encoder *encoder, int level, const int size[3])
{
    const struct encoder_level part = encoder_level_of(&encoder->model.config, level);
    double bytes = sizeof(float) * (double)part.channels;
    for (int axis = 0; axis < 3; axis++) {
        bytes *= tokens_of(size[axis], part.stride);
    }
    return bytes;
}

/* 0 without memory. */
static int create_map(struct feature_map *map, const struct volume *volume, const struct encoder_level *level)
{
    *map = (struct feature_map){.channels = level->channels};
    size_t count = (size_t)level->channels;
    const double middle = (level->stride - 1) / 2.0, centre[3] = {middle, middle, middle};
    double mm[3];
    place_in_world(mm, volume->affine, centre);
    for (int axis = 0; axis < 3; axis++) {
        map->size[axis] = tokens_of(volume->size[axis], level->stride);
        count *= (size_t)map->size[axis];
        for (int row = 0; row < 3; row++) {
            map->affine[row][axis] = volume->affine[row][axis] * level->stride;
        }
        map->affine[axis][3] = mm[axis];
    }
    map->data = calloc(count, sizeof *map->data);
    return map->data != NULL;
}

/* Adds features (d, h, w, channels) whose first token is `at`; what lies outside the map is dropped. */
static void add_features(struct feature_map *map, const float *features, const int at[3], const int tokens[3])
{
    const size_t row = (size_t)map->size[0], slice = row * (size_t)map->size[1];
    const size_t volume = slice * (size_t)map->size[2], channels = (size_t)map->channels;
    for (int x = 0; x < tokens[0] && at[0] + x < map->size[0]; x++) {
        for (int y = 0; y < tokens[1] && at[1] + y < map->size[1]; y++) {
            for (int z = 0; z < tokens[2] && at[2] + z < map->size[2]; z++) {
                const size_t token =
                    ((size_t)x * (size_t)tokens[1] + (size_t)y) * (size_t)tokens[2] + (size_t)z;
                const float *from = features + token * channels;
                float *to =
                    map->data + (size_t)(at[2] + z) * slice + (size_t)(at[1] + y) * row + (size_t)(at[0] + x);
                for (size_t ch = 0; ch < channels; ch++) {
                    to[ch * volume] += from[ch];
                }
            }
        }
    }
}

/* covering[i]: how many crops have token i of an axis. */
static int *count_coverage(const struct sliding_crops *crops, int axis, int size, int extent, int stride)
{
    int *covering = calloc((size_t)size, sizeof *covering);
    for (int i = 0; covering != NULL && i < crops->count[axis]; i++) {
        const int first = sliding_crop_start(crops, axis, i) / stride;
        for (int t = first; t < first + tokens_of(extent, stride) && t < size; t++) {
            covering[t]++;
        }
    }
    return covering;
}

/* From sums to means. A token is covered as often as its three coordinates are, multiplied. */
static enum voco_status divide(struct feature_map *map, const struct sliding_crops *crops,
                               const int extent[3], int stride)
{
    int *covering[3];
    int failed = 0;
    for (int axis = 0; axis < 3; axis++) {
        covering[axis] = count_coverage(crops, axis, map->size[axis], extent[axis], stride);
        failed |= covering[axis] == NULL;
    }
    float *value = map->data;
    for (int ch = 0; ch < map->channels && !failed; ch++) {
        for (int z = 0; z < map->size[2]; z++) {
            for (int y = 0; y < map->size[1]; y++) {
                const float rows = (float)covering[2][z] * (float)covering[1][y];
                for (int x = 0; x < map->size[0]; x++) {
                    *value++ /= rows * (float)covering[0][x];
                }
            }
        }
    }
    for (int axis = 0; axis < 3; axis++) {
        free(covering[axis]);
    }
    return failed ? fail(VOCO_NO_MEMORY, "out of memory") : VOCO_OK;
}

enum voco_status map_features(struct feature_map *out, struct pretrained_encoder *encoder,
                              const struct volume *volume, const struct embedding_choice *choice,
                              embedding_progress progress, void *context)
{
    const struct encoder_level level = encoder_level_of(&encoder->model.config, choice->level);
    struct sliding_crops crops;
    int extent[3], tokens[3], start[3];
    size_t values = (size_t)level.channels;
    plan(&crops, extent, encoder, volume, choice, level.stride);
    for (int axis = 0; axis < 3; axis++) {
        tokens[axis] = tokens_of(extent[axis], level.stride);
        values *= (size_t)tokens[axis];
    }
    *out = (struct feature_map){0};
    if (!choice->whole && crops.stride > crops.roi) {
        return fail(VOCO_BAD_INPUT, "a stride of %d voxels leaves gaps between crops of %d", crops.stride,
                    crops.roi);
    }
    float *box = new_box(extent);
    float *features = malloc(values * sizeof *features);
    const size_t total = sliding_crops_total(&crops);
    enum voco_status status = VOCO_OK;
    if (!create_map(out, volume, &level) || box == NULL || features == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for a feature map of %d x %d x %d x %d", out->size[0],
                      out->size[1], out->size[2], out->channels);
        goto done;
    }
    for (size_t i = 0; i < total && status == VOCO_OK; i++) {
        sliding_crop_place(start, &crops, i);
        copy_box(box, volume, start, extent);
        status = pretrained_encoder_features(encoder, features, choice->level, box, extent);
        const int at[3] = {start[0] / level.stride, start[1] / level.stride, start[2] / level.stride};
        if (status == VOCO_OK) {
            add_features(out, features, at, tokens);
        }
        if (progress != NULL) {
            progress(i + 1, total, context);
        }
    }
    if (status == VOCO_OK) {
        status = divide(out, &crops, extent, level.stride);
    }
done:
    free(features);
    free(box);
    return status;
}

void feature_map_free(struct feature_map *map)
{
    free(map->data);
    *map = (struct feature_map){0};
}
