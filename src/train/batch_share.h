/* How the ranks of a job (dist/ranks.h) share the batch of a step: each takes some of its volumes, one after
 * the other, so that the batch is the same whatever the number of ranks. */
#ifndef TRAIN_BATCH_SHARE_H
#define TRAIN_BATCH_SHARE_H

#include "compute/compute.h"
#include "data/batch.h"
#include "dist/ranks.h"

struct batch_share {
    int volumes; /* V, of the whole batch; 0: it is not shared */
    int first;   /* of this rank's volumes */
    int count;   /* of this rank's volumes, >= 1 */
};

/* The part of rank `rank`. Parts differ by one volume at most. */
struct batch_share batch_share_of(int volumes, int rank, int size);

/* Whether so many volumes can be shared: each rank needs one, and `equal` parts the same number.
 * VOCO_BAD_INPUT says what would do. */
enum voco_status batch_share_check(int volumes, int size, int equal);

/* whole (V (S + K), width), in the order of a batch (data/batch.h), from every rank's rows (count (S + K),
 * width); collective. `own` has the sizes of the rank's batch. Memory for the largest part of every rank is
 * taken meanwhile: VOCO_NO_MEMORY, and then the others wait in vain. */
enum voco_status gather_rows(const struct ranks *ranks, real *whole, const real *rows,
                             const struct batch_share *share, const struct batch *own, size_t width);

/* labels (V, S, K) from every rank's (count, S, K). */
enum voco_status gather_labels(const struct ranks *ranks, float *whole, const struct batch_share *share,
                               const struct batch *own);

/* The way back: this rank's rows of the whole, both as operations take them. */
void take_rows(struct compute *c, real *rows, const real *whole, const struct batch_share *share,
               const struct batch *own, size_t width);

/* The number in the whole batch of this rank's first random crop, and of its first base. */
size_t first_random_row(const struct batch_share *share, const struct batch *own);
size_t first_base_row(const struct batch_share *share, const struct batch *own);

#endif
