#include "train/stored_batch.h"

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
