/* From the chunks of a cached volume to the crops of a batch: each chunk that a window touches is read and
 * decoded once, and its voxels go from there to every crop they belong to, flipped and turned on the way, or
 * as they are stored. There is no volume in between. */
#ifndef DATA_WINDOW_READER_H
#define DATA_WINDOW_READER_H

#include "voco/status.h"

#include "data/augment.h"
#include "data/batch.h"
#include "store/chunk_cache.h"
#include "store/shard.h"

/* One crop that is wanted. */
struct wanted_crop {
    int start[3]; /* voxel of the volume where it begins */
    enum voxel_form form;
    void *out;                       /* (roi, roi, roi) in this form */
    struct crop_transform transform; /* what is made of it where these are floats */
};

/* What a thread needs; not for two at once. */
struct window_reader;

/* Fails with VOCO_NO_MEMORY. */
enum voco_status window_reader_open(struct window_reader **reader);
void window_reader_close(struct window_reader *reader); /* NULL is fine */

/* Tells the system which chunks the crops will need. Every crop lies inside the volume. */
void window_prefetch(const struct shard *shard, const struct wanted_crop *crops, int count, int roi);

/* Fills the crops, whose form is no narrower than what is stored. Chunks are looked up in `chunks` and left
 * there, under `array` (store/chunk_cache.h), unless it is NULL. Fails as shard_read_chunk does. */
enum voco_status window_read(struct window_reader *reader, const struct shard *shard,
                             const struct wanted_crop *crops, int count, int roi, struct chunk_cache *chunks,
                             const void *array);

#endif
