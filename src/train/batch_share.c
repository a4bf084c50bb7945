#include "train/batch_share.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

struct batch_share batch_share_of(int volumes, int rank, int size)
{
    const int first = (int)((long long)volumes * rank / size);
    const int end = (int)((long long)volumes * (rank + 1) / size);
    return (struct batch_share){.volumes = volumes, .first = first, .count = end - first};
}

enum voco_status batch_share_check(int volumes, int size, int equal)
{
    if (volumes < size) {
        return fail(
            VOCO_BAD_INPUT,
            "a batch of %d volume%s cannot be shared by %d processes: --batch counts volumes over all of "
            "them, so it must be %d or more",
            volumes, volumes == 1 ? "" : "s", size, size);
    }
    if (equal && volumes % size != 0) {
        const int below = volumes / size * size;
        return fail(
            VOCO_BAD_INPUT,
            "a batch of %d volumes cannot be shared equally by %d processes: --batch %d or %d would do, or "
            "--sync-bn, which takes unequal parts",
            volumes, size, below, below + size);
    }
    return VOCO_OK;
}

size_t first_random_row(const struct batch_share *share, const struct batch *own)
{
    return (size_t)share->first * (size_t)own->crops;
}

size_t first_base_row(const struct batch_share *share, const struct batch *own)
{
    return (size_t)share->volumes * (size_t)own->crops + (size_t)share->first * (size_t)own->bases;
}

/* A part's rows to their places in the whole; its sizes but for its volumes are those of `own`. */
static void place_rows(real *whole, const real *rows, const struct batch_share *share,
                       const struct batch *own, size_t width)
{
    const size_t randoms = (size_t)share->count * (size_t)own->crops;
    const size_t bases = (size_t)share->count * (size_t)own->bases;
    memcpy(whole + first_random_row(share, own) * width, rows, randoms * width * sizeof *rows);
    memcpy(whole + first_base_row(share, own) * width, rows + randoms * width, bases * width * sizeof *rows);
}

void take_rows(struct compute *c, real *rows, const real *whole, const struct batch_share *share,
               const struct batch *own, size_t width)
{
    const size_t randoms = (size_t)share->count * (size_t)own->crops;
    const size_t bases = (size_t)share->count * (size_t)own->bases;
    c->copy(c, rows, whole + first_random_row(share, own) * width, randoms * width * sizeof *rows);
    c->copy(c, rows + randoms * width, whole + first_base_row(share, own) * width,
            bases * width * sizeof *rows);
}

/* Pieces of `most` elements, one of each rank, to be freed; NULL without memory. */
static real *gather_pieces(const struct ranks *ranks, const real *own, size_t count, size_t most)
{
    real *pieces = malloc((size_t)ranks->size * most * sizeof *pieces);
    if (pieces != NULL) {
        memcpy(pieces + (size_t)ranks->rank * most, own, count * sizeof *own);
        ranks_share(ranks, pieces, most * sizeof *pieces);
    }
    return pieces;
}

static size_t most_volumes(const struct ranks *ranks, const struct batch_share *share)
{
    return ((size_t)share->volumes + (size_t)ranks->size - 1) / (size_t)ranks->size;
}

enum voco_status gather_rows(const struct ranks *ranks, real *whole, const real *rows,
                             const struct batch_share *share, const struct batch *own, size_t width)
{
    const size_t of_volume = (size_t)(own->crops + own->bases) * width;
    const size_t most = most_volumes(ranks, share) * of_volume;
    real *pieces = gather_pieces(ranks, rows, (size_t)share->count * of_volume, most);
    if (pieces == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the embeddings of %d processes", ranks->size);
    }
    for (int rank = 0; rank < ranks->size; rank++) {
        const struct batch_share other = batch_share_of(share->volumes, rank, ranks->size);
        place_rows(whole, pieces + (size_t)rank * most, &other, own, width);
    }
    free(pieces);
    return VOCO_OK;
}

enum voco_status gather_labels(const struct ranks *ranks, float *whole, const struct batch_share *share,
                               const struct batch *own)
{
    const size_t of_volume = (size_t)own->crops * (size_t)own->bases;
    const size_t most = most_volumes(ranks, share) * of_volume;
    real *pieces = gather_pieces(ranks, own->labels, (size_t)share->count * of_volume, most);
    if (pieces == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the labels of %d processes", ranks->size);
    }
    for (int rank = 0; rank < ranks->size; rank++) {
        const struct batch_share other = batch_share_of(share->volumes, rank, ranks->size);
        memcpy(whole + (size_t)other.first * of_volume, pieces + (size_t)rank * most,
               (size_t)other.count * of_volume * sizeof *whole);
    }
    free(pieces);
    return VOCO_OK;
}
