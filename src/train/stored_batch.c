#include "train/stored_batch.h"

#include "base/error.h"
#include "formats/safetensors.h"

#include <stdio.h>

enum voco_status stored_batch_save(const char *path, const struct batch *batch,
                                   const struct model_config *config)
{
    const int64_t v = batch->volumes;
    const int64_t s = batch->crops;
    const int64_t k = batch->bases;
    const int64_t r = batch->roi;
    const int64_t crops[5] = {v, s, r, r, r};
    const int64_t bases[5] = {v, k, r, r, r};
    const int64_t labels[3] = {v, s, k};
    struct safetensors_writer *writer = NULL;
    enum voco_status status = safetensors_writer_open(&writer, path);
    if (status != VOCO_OK) {
        return status;
    }
    /* Every call after a failed one gives its status again, and so does commit: only that one is looked at.
     */
    const int sizes[3] = {config->feature_size, config->roi, config->projector};
    const char *const keys[3] = {"feature_size", "roi", "projector"};
    (void)safetensors_writer_metadata(writer, "format", "voco-batch-1");
    for (int i = 0; i < 3; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", sizes[i]);
        (void)safetensors_writer_metadata(writer, keys[i], text);
    }
    (void)safetensors_writer_metadata(writer, "patch_merging", patch_merging_name(config->patch_merging));
    (void)safetensors_writer_declare(writer, "crops", SAFETENSORS_F32, 5, crops);
    (void)safetensors_writer_declare(writer, "bases", SAFETENSORS_F32, 5, bases);
    (void)safetensors_writer_declare(writer, "labels", SAFETENSORS_F32, 3, labels);
    (void)safetensors_writer_put(writer, batch_random_crop(batch, 0, 0));
    (void)safetensors_writer_put(writer, batch_base_crop(batch, 0, 0));
    (void)safetensors_writer_put(writer, batch->labels);
    return safetensors_writer_commit(writer);
}

/* ---- reading ---- */

enum { most_per_axis = 1 << 16 }; /* of any size of a batch: products of two fit an int */

/* What is stored, found and of shapes that fit together. */
struct stored {
    const struct safetensors_tensor *crops;
    const struct safetensors_tensor *bases;
    const struct safetensors_tensor *labels;
};

/* (V, n, R, R, R), of a type that voxels may have; NULL and the thread's error where it is something else. */
static const struct safetensors_tensor *find_voxels(const struct safetensors *file, const char *path,
                                                    const char *name)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    if (tensor == NULL) {
        (void)fail(VOCO_BAD_INPUT, "%s: not a stored batch: there is no tensor \"%s\"", path, name);
        return NULL;
    }
    int fits =
        tensor->rank == 5 && tensor->shape[3] == tensor->shape[2] && tensor->shape[4] == tensor->shape[2];
    for (int i = 0; i < tensor->rank; i++) {
        fits = fits && tensor->shape[i] >= 1 && tensor->shape[i] <= most_per_axis;
    }
    if (!fits) {
        char shape[128];
        (void)fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" has shape %s, must be [V, n, R, R, R]", path, name,
                   safetensors_shape_text(shape, sizeof shape, tensor->rank, tensor->shape));
        return NULL;
    }
    if (tensor->type != SAFETENSORS_F32 && tensor->type != SAFETENSORS_U8) {
        (void)fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" is %s, must be F32 or U8", path, name,
                   safetensors_type_name(tensor->type));
        return NULL;
    }
    return tensor;
}

static enum voco_status find_all(struct stored *stored, const struct safetensors *file, const char *path)
{
    stored->crops = find_voxels(file, path, "crops");
    stored->bases = stored->crops != NULL ? find_voxels(file, path, "bases") : NULL;
    if (stored->crops == NULL || stored->bases == NULL) {
        return VOCO_BAD_INPUT;
    }
    const int64_t *crops = stored->crops->shape, *bases = stored->bases->shape;
    if (crops[0] != bases[0] || crops[2] != bases[2]) {
        char text[2][128];
        return fail(VOCO_BAD_INPUT, "%s: crops %s and bases %s do not belong together", path,
                    safetensors_shape_text(text[0], sizeof text[0], 5, crops),
                    safetensors_shape_text(text[1], sizeof text[1], 5, bases));
    }
    const int64_t labels[] = {crops[0], crops[1], bases[1]};
    enum voco_status status = safetensors_require(&stored->labels, file, "labels", 3, labels);
    if (status == VOCO_OK && stored->labels->type != SAFETENSORS_F32) {
        status = fail(VOCO_BAD_INPUT, "%s: tensor \"labels\" is %s, must be F32", path,
                      safetensors_type_name(stored->labels->type));
    }
    return status;
}

static enum voco_status read_voxels(float *out, const struct safetensors *file,
                                    const struct safetensors_tensor *tensor)
{
    const enum voco_status status = safetensors_read_floats(file, tensor, out);
    if (status == VOCO_OK && tensor->type == SAFETENSORS_U8) {
        for (size_t i = 0; i < tensor->count; i++) {
            out[i] /= 255;
        }
    }
    return status;
}

enum voco_status stored_batch_read(struct batch *batch, const char *path)
{
    struct safetensors file;
    struct stored stored = {0};
    *batch = (struct batch){0};
    enum voco_status status = safetensors_open(&file, path);
    if (status != VOCO_OK) {
        return status;
    }
    status = find_all(&stored, &file, path);
    if (status != VOCO_OK) {
        goto done;
    }
    status = batch_create(batch, (int)stored.crops->shape[0], (int)stored.crops->shape[1],
                          (int)stored.bases->shape[1], (int)stored.crops->shape[2]);
    if (status != VOCO_OK) {
        status = add_context(status, "%s", path);
        goto done;
    }
    status = read_voxels(batch_random_crop(batch, 0, 0), &file, stored.crops);
    if (status == VOCO_OK) {
        status = read_voxels(batch_base_crop(batch, 0, 0), &file, stored.bases);
    }
    if (status == VOCO_OK) {
        status = safetensors_read_floats(&file, stored.labels, batch->labels);
    }
done:
    if (status != VOCO_OK) {
        batch_free(batch);
    }
    safetensors_close(&file);
    return status;
}
