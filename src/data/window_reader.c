#include "data/window_reader.h"

#include "base/error.h"

#include <stdlib.h>

struct window_reader {
    struct chunk_decoder decoder;
    unsigned char *chunk; /* decoded, where no cache keeps it: room for the larger kind */
};

enum voco_status window_reader_open(struct window_reader **out)
{
    struct window_reader *reader = calloc(1, sizeof *reader);
    if (reader != NULL) {
        reader->chunk = aligned_alloc(64, chunk_bytes(65535));
    }
    if (reader == NULL || reader->chunk == NULL) {
        free(reader);
        *out = NULL;
        return fail(VOCO_NO_MEMORY, "no memory to decode chunks");
    }
    *out = reader;
    return VOCO_OK;
}

void window_reader_close(struct window_reader *reader)
{
    if (reader != NULL) {
        chunk_decoder_free(&reader->decoder);
        free(reader->chunk);
        free(reader);
    }
}

/* The chunks, as first <= chunk < end on each axis, in which the crops lie. */
static void touched_chunks(int first[3], int end[3], const struct wanted_crop *crops, int count, int roi)
{
    for (int axis = 0; axis < 3; axis++) {
        int least = crops[0].start[axis];
        int most = least;
        for (int i = 1; i < count; i++) {
            const int start = crops[i].start[axis];
            least = start < least ? start : least;
            most = start > most ? start : most;
        }
        first[axis] = least / chunk_side;
        end[axis] = (most + roi - 1) / chunk_side + 1;
    }
}

void window_prefetch(const struct shard *shard, const struct wanted_crop *crops, int count, int roi)
{
    int first[3];
    int end[3];
    touched_chunks(first, end, crops, count, roi);
    shard_prefetch(shard, first, end);
}

/* What crop and chunk share; 0 where that is nothing. */
static int shared_part(struct crop_part *part, const int corner[3], const struct wanted_crop *crop, int roi)
{
    int from[3]; /* in the chunk */
    for (int axis = 0; axis < 3; axis++) {
        const int at = crop->start[axis] - corner[axis];
        from[axis] = at > 0 ? at : 0;
        const int end = at + roi < chunk_side ? at + roi : chunk_side;
        part->extent[axis] = end - from[axis];
        part->at[axis] = from[axis] - at;
        if (part->extent[axis] <= 0) {
            return 0;
        }
    }
    part->stride[0] = chunk_side * chunk_side;
    part->stride[1] = chunk_side;
    part->voxels = (const char *)part->voxels +
                   (from[0] * part->stride[0] + from[1] * part->stride[1] + from[2]) * part->voxel_bytes;
    return 1;
}

static void spread_chunk(const void *voxels, const struct shard *shard, const int corner[3],
                         const struct wanted_crop *crops, int count, int roi)
{
    for (int i = 0; i < count; i++) {
        struct crop_part part = {.voxels = voxels, .voxel_bytes = (int)stored_voxel_bytes(shard->levels)};
        if (!shared_part(&part, corner, &crops[i], roi)) {
            continue;
        }
        if (crops[i].form == VOXELS_FLOAT) {
            copy_crop_part(crops[i].out, &part, &crops[i].transform);
        } else {
            copy_stored_part(crops[i].out, (int)voxel_form_bytes(crops[i].form), roi, &part);
        }
    }
}

/* Whether any crop lies in the chunk: a grid that is not full may leave some out. */
static int is_touched(const int corner[3], const struct wanted_crop *crops, int count, int roi)
{
    for (int i = 0; i < count; i++) {
        struct crop_part part = {0};
        if (shared_part(&part, corner, &crops[i], roi)) {
            return 1;
        }
    }
    return 0;
}

enum voco_status window_read(struct window_reader *reader, const struct shard *shard,
                             const struct wanted_crop *crops, int count, int roi, struct chunk_cache *chunks,
                             const void *array)
{
    int first[3];
    int end[3];
    touched_chunks(first, end, crops, count, roi);
    const size_t columns = (size_t)(end[0] - first[0]);
    const size_t rows = (size_t)(end[1] - first[1]);
    const size_t all = columns * rows * (size_t)(end[2] - first[2]);
    enum voco_status status = VOCO_OK;
    for (size_t i = 0; status == VOCO_OK && i < all; i++) {
        const int at[3] = {first[0] + (int)(i % columns), first[1] + (int)(i / columns % rows),
                           first[2] + (int)(i / columns / rows)};
        const int corner[3] = {at[0] * chunk_side, at[1] * chunk_side, at[2] * chunk_side};
        if (!is_touched(corner, crops, count, roi)) {
            continue;
        }
        const size_t number =
            ((size_t)at[2] * (size_t)shard->grid[1] + (size_t)at[1]) * (size_t)shard->grid[0] + (size_t)at[0];
        const struct chunk_key key = {array, number};
        struct chunk_slot *slot = chunks != NULL ? chunk_cache_find(chunks, key) : NULL;
        if (slot == NULL) {
            slot = chunks != NULL ? chunk_cache_begin(chunks, key, chunk_bytes(shard->levels)) : NULL;
            void *decoded = slot != NULL ? chunk_slot_bytes(slot) : reader->chunk;
            status = shard_read_chunk(decoded, shard, number, &reader->decoder);
            if (status == VOCO_OK && slot != NULL) {
                chunk_slot_publish(chunks, slot);
            }
        }
        if (status == VOCO_OK) {
            spread_chunk(slot != NULL ? chunk_slot_bytes(slot) : reader->chunk, shard, corner, crops, count,
                         roi);
        }
        if (slot != NULL) {
            chunk_slot_release(chunks, slot);
        }
    }
    return status;
}
