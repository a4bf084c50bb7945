/* The batch of a step, made from prepared volumes (store/volume_cache.h): window, crops, labels,
 * augmentation.
 *
 * The batch of step t is a pure function of the source and t; nothing is remembered between steps, so any
 * thread may make any step and a resumed run sees what an unbroken one would. */
#ifndef DATA_MAKE_BATCH_H
#define DATA_MAKE_BATCH_H

#include "data/augment.h"
#include "data/batch.h"
#include "data/sampling.h"
#include "data/shuffle.h"
#include "data/window_reader.h"

#include <stddef.h>
#include <stdint.h>

struct batch_source {
    const char *const
        *paths; /* (count) arrays of cached volumes (store/volume_cache.h: PATH/0, PATH/window),
                   one as often as an epoch sees it; borrowed. May be NULL where `shards` is not */
    const struct shard
        *shards; /* (count) arrays that are open already, in place of paths; else NULL. Borrowed */
    size_t count;
    struct chunk_cache
        *chunks; /* decoded chunks to share and keep; NULL: none. Borrowed. Arrays are told apart by the
                    pointers in `paths`, so one that comes often should come as the same pointer */
    int volumes; /* V, volumes per batch */
    int part_first, part_volumes; /* to make only volumes part_first, part_first + 1, ... of each batch, as
                                     they are in the whole of it; part_volumes 0: the whole */
    enum voxel_form form;         /* of the batches that are made for this source */
    struct batch_memory memory;   /* of these; zero: the heap */
    struct sampling sampling;
    struct augmentation augmentation;
    uint64_t seed;
};

/* What one thread that makes batches keeps from one to the next: nothing that changes what they hold.
 * Zero-initialised. */
struct batch_maker {
    struct epoch_order order;
    struct window_reader *reader;
};
void batch_maker_free(struct batch_maker *maker);

/* VOCO_BAD_INPUT where the sampling is not valid, there is no volume, V < 1, or the part lies beyond V. */
enum voco_status batch_source_check(const struct batch_source *source);

/* Bytes of the crops of a batch of this source, of the batch, and at most of a maker beside the thread's
 * stack: a decoded chunk, its compressed bytes, the decoder's state. */
uint64_t batch_source_crop_bytes(const struct batch_source *source);
uint64_t batch_source_bytes(const struct batch_source *source);
enum { batch_maker_bytes = 2 << 20 };

/* Allocates the batch that make_batch fills for this source. Free with batch_free. */
enum voco_status batch_source_create_batch(struct batch *batch, const struct batch_source *source);

/* Fills `out`, in its form, with the batch of step t: its volume v is sample t V + v of
 * data/shuffle.h, of a part sample t V + part_first + v. Only the chunks that a window touches are read,
 * those of the next volume while this one's are decoded, and they go straight to their places in the crops. A
 * volume that is missing, damaged in what is read of it, smaller than the window or stored in more bits than
 * `out` holds is an error that names it. */
enum voco_status make_batch(struct batch *out, const struct batch_source *source, struct batch_maker *maker,
                            uint64_t step);

/* For evaluation: fills `out` with the volumes source->paths[volumes[v]], v < out->volumes, without
 * augmentation. The crops of a volume depend on the seed, `draw` and the volume's index, not on the batch it
 * is in; further draws give further crops of the same volume. */
enum voco_status make_evaluation_batch(struct batch *out, const struct batch_source *source,
                                       struct batch_maker *maker, const size_t *volumes, uint64_t draw);

#endif
