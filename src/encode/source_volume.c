#include "encode/source_volume.h"

#include "base/error.h"
#include "store/preparation_memory.h"
#include "store/volume_cache.h"
#include "volume/nifti.h"

#include <stdlib.h>
#include <string.h>

/* Decodes one chunk (x slowest, z fastest) into the volume. */
static void place_chunk(struct volume *out, const void *chunk, const struct shard *shard, const int at[3])
{
    const unsigned char *bytes = chunk;
    const float scale = 1.0F / (float)shard->levels;
    const size_t row = (size_t)out->size[0], slice = row * (size_t)out->size[1];
    for (int x = at[0]; x < at[0] + chunk_side && x < out->size[0]; x++) {
        for (int y = at[1]; y < at[1] + chunk_side && y < out->size[1]; y++) {
            for (int z = at[2]; z < at[2] + chunk_side && z < out->size[2]; z++) {
                const size_t i = ((size_t)(x - at[0]) * chunk_side + (size_t)(y - at[1])) * chunk_side +
                                 (size_t)(z - at[2]);
                const unsigned stored =
                    shard->levels == 255 ? bytes[i] : bytes[2 * i] | (unsigned)bytes[2 * i + 1] << 8;
                out->data[(size_t)z * slice + (size_t)y * row + (size_t)x] = scale * (float)stored;
            }
        }
    }
}

static enum voco_status read_chunks(struct volume *out, const struct shard *shard)
{
    struct chunk_decoder decoder = {0};
    enum voco_status status = VOCO_OK;
    void *chunk = malloc(chunk_bytes(shard->levels));
    if (chunk == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", shard->name);
    }
    for (size_t i = 0; i < shard_chunk_count(shard->size) && status == VOCO_OK; i++) {
        const size_t nx = (size_t)shard->grid[0], ny = (size_t)shard->grid[1];
        const int at[3] = {(int)(i % nx) * chunk_side, (int)(i / nx % ny) * chunk_side,
                           (int)(i / nx / ny) * chunk_side};
        status = shard_read_chunk(chunk, shard, i, &decoder);
        if (status == VOCO_OK) {
            place_chunk(out, chunk, shard, at);
        }
    }
    chunk_decoder_free(&decoder);
    free(chunk);
    return status;
}

static enum voco_status load_cached(struct volume *out, const char *path)
{
    struct volume_attributes attributes = {0};
    struct shard shard;
    char *array = cached_array_path(path, WINDOW_CROP);
    enum voco_status status = array == NULL ? fail(VOCO_NO_MEMORY, "%s: out of memory", path)
                                            : volume_attributes_read(&attributes, path);
    if (status == VOCO_OK) {
        status = cached_array_open(&shard, array);
    }
    if (status == VOCO_OK) {
        memcpy(out->size, shard.size, sizeof out->size);
        memcpy(out->spacing, attributes.spacing, sizeof out->spacing);
        memcpy(out->affine, attributes.affine, sizeof out->affine);
        out->data = calloc(volume_count(out), sizeof *out->data);
        status = out->data == NULL
                     ? fail(VOCO_NO_MEMORY, "%s: no memory for %zu voxels", path, volume_count(out))
                     : read_chunks(out, &shard);
        shard_close(&shard);
    }
    volume_attributes_free(&attributes);
    free(array);
    return status;
}

/* As preparing floats is forecast: they are held twice while they are padded, as where a window is resized.
 */
static uint64_t preparing(const char *path, const struct preset *preset, int roi)
{
    struct cache_settings settings = {.preset = *preset, .window = {roi, roi, roi}, .levels = 255};
    settings.preset.window = WINDOW_RESIZE;
    const struct cache_request request = {.source = path, .settings = &settings};
    return preparation_memory(&request);
}

uint64_t source_volume_memory(const struct dataset *dataset, const struct dataset_entry *entry,
                              const struct preset *preset, int roi)
{
    int size[3] = {0, 0, 0};
    struct nifti_info info;
    struct volume_attributes attributes;
    if (dataset->is_cache && volume_attributes_read(&attributes, entry->path) == VOCO_OK) {
        memcpy(size, attributes.size, sizeof size);
        volume_attributes_free(&attributes);
    } else if (!dataset->is_cache && preset != NULL) {
        return preparing(entry->path, preset, roi);
    } else if (!dataset->is_cache && nifti_read_info(&info, entry->path) == VOCO_OK) {
        memcpy(size, info.size, sizeof size);
    }
    return (uint64_t)size[0] * (uint64_t)size[1] * (uint64_t)size[2] * sizeof(float);
}

enum voco_status source_volume_load(struct volume *out, const struct dataset *dataset,
                                    const struct dataset_entry *entry, const struct preset *preset, int roi)
{
    *out = (struct volume){0};
    enum voco_status status = VOCO_OK;
    if (dataset->is_cache) {
        status = load_cached(out, entry->path);
    } else if (preset == NULL) {
        status = nifti_read(out, entry->path);
    } else {
        status = prepare_volume(out, entry->path, preset, (const int[3]){roi, roi, roi});
    }
    if (status != VOCO_OK) {
        volume_free(out);
    }
    return status;
}
