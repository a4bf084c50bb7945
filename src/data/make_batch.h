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

#include <stddef.h>
#include <stdint.h>

struct batch_source {
    const char *const *paths; /* (count) cache files; borrowed */
    size_t count;
    int volumes; /* V, volumes per batch */
    struct sampling sampling;
    struct augmentation augmentation;
    uint64_t seed;
};

/* VOCO_BAD_INPUT where the sampling is not valid, there is no volume, or V < 1. */
enum voco_status batch_source_check(const struct batch_source *source);

/* Allocates the batch that make_batch fills for this source. Free with batch_free. */
enum voco_status batch_source_create_batch(struct batch *batch, const struct batch_source *source);

/* Fills `out` with the batch of step t: its volume v is sample t V + v of data/shuffle.h. `order` is this
 * thread's. Each volume's file is opened and closed. A file that is missing, damaged in its header or length,
 * or smaller than the window is an error that names it. */
enum voco_status make_batch(struct batch *out, const struct batch_source *source, struct epoch_order *order,
                            uint64_t step);

/* For evaluation: fills `out` with the volumes source->paths[volumes[v]], v < out->volumes, without
 * augmentation. The crops of a volume depend on the seed, `draw` and the volume's index, not on the batch it
 * is in; further draws give further crops of the same volume. */
enum voco_status make_evaluation_batch(struct batch *out, const struct batch_source *source,
                                       const size_t *volumes, uint64_t draw);

#endif
