/* Gradients on their way between the ranks (dist/ranks.h), in buckets, while the backward pass still runs.
 *
 * A bucket is a stretch of the flat buffers (model/parameters.h) of at most `bucket_elements`. It is sent off
 * as soon as its part of the network is complete: the student first, then the backbone from its last layers
 * to its first. A slice of each bucket (ranks_slice) is each rank's own.
 *
 * With `sharded` the own slices are all that a rank gets, and all that it updates: it keeps moments for these
 * alone, bucket after bucket in one array, and afterwards the new parameters are shared. */
#ifndef TRAIN_GRADIENT_EXCHANGE_H
#define TRAIN_GRADIENT_EXCHANGE_H

#include "dist/ranks.h"
#include "model/model.h"

enum { bucket_elements = 1 << 22 };

struct gradient_bucket {
    size_t offset, count; /* in the flat buffers; buckets follow each other and cover all that is trained */
    int part;             /* backbone_part_of */
    size_t own_first;     /* the rank's slice: in the flat buffers, */
    size_t own_count;
    size_t own_moments; /* and in arrays of the own slices alone */
    struct ranks_order order;
};

struct gradient_exchange {
    const struct ranks *ranks;
    struct gradient_bucket *buckets;
    int count;
    size_t own_total; /* elements of all own slices */
    enum ranks_form form;
    int sharded;
    int on_device; /* gradients and parameters lie in the memory of the device that `ranks` has joined */
    float scale;   /* of the sums */
};

/* Borrows ranks. scale is what sums are multiplied by: 1 / ranks->size makes them means. VOCO_NO_MEMORY. Free
 * with gradient_exchange_free, which is harmless on a zeroed one. */
enum voco_status gradient_exchange_create(struct gradient_exchange *exchange, const struct ranks *ranks,
                                          const struct parameter_table *table, enum ranks_form form,
                                          int sharded, double scale);
void gradient_exchange_free(struct gradient_exchange *exchange);

/* Bytes that the sums take beside the flat buffers, at most. */
size_t gradient_exchange_bytes(const struct ranks *ranks);

/* Sends off the buckets of a part, whose gradients are complete, or will be when what was asked of the device
 * so far is done; every part once a step, in the same order on
 * all ranks. gradients (table.trained) must stay until gradient_exchange_finish. */
void gradient_exchange_start(struct gradient_exchange *exchange, real *gradients, int part);

/* Waits for all of them: the gradients are the sums, with `sharded` in the own slices only. */
void gradient_exchange_finish(struct gradient_exchange *exchange);

/* The own slices of params, updated, go to all. */
void gradient_exchange_share(struct gradient_exchange *exchange, real *params);

/* Of one bucket: the slices that all ranks have of it in `own` (own_total elements, as moments are) come
 * together in values (bucket->count elements) on rank 0, all in the host's memory; elsewhere it is not looked
 * at and may be NULL. */
void gradient_exchange_gather(const struct gradient_exchange *exchange, const struct gradient_bucket *bucket,
                              const real *own, real *values);

#endif
