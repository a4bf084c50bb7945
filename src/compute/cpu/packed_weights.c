#include "compute/cpu/packed_weights.h"

#include <stdlib.h>

enum { first_room = 256 }; /* copies; more than most networks have weights */

struct copy {
    const float *weight;
    enum packed_order order;
    size_t bytes;
    void *data;
    int fresh;
};

struct packed_weights {
    struct copy *copies;
    int count, room;
};

struct packed_weights *packed_weights_open(void)
{
    return calloc(1, sizeof(struct packed_weights));
}

void packed_weights_close(struct packed_weights *packed)
{
    if (packed != NULL) {
        for (int k = 0; k < packed->count; k++) {
            free(packed->copies[k].data);
        }
        free(packed->copies);
        free(packed);
    }
}

/* Weights whose memory was given back are never asked for again, and nothing says so: their copies are among
 * the stale ones. Fresh ones stay, since operations may be at work with them. */
static void free_stale_copies(struct packed_weights *packed)
{
    int kept = 0;
    for (int k = 0; k < packed->count; k++) {
        if (packed->copies[k].fresh) {
            packed->copies[kept++] = packed->copies[k];
        } else {
            free(packed->copies[k].data);
        }
    }
    packed->count = kept;
}

static int make_room(struct packed_weights *packed)
{
    if (packed->count == packed->room) {
        free_stale_copies(packed);
    }
    if (packed->count < packed->room) {
        return 1;
    }
    const int room = packed->room > 0 ? 2 * packed->room : first_room;
    struct copy *copies = realloc(packed->copies, room * sizeof *copies);
    if (copies == NULL) {
        return 0;
    }
    packed->copies = copies;
    packed->room = room;
    return 1;
}

void *packed_weights(struct packed_weights *packed, const float *weight, enum packed_order order,
                     size_t bytes, int *fresh)
{
    for (int k = 0; k < packed->count; k++) {
        struct copy *copy = &packed->copies[k];
        if (copy->weight == weight && copy->order == order && copy->bytes == bytes) {
            *fresh = copy->fresh;
            copy->fresh = 1;
            return copy->data;
        }
    }
    void *data = make_room(packed) ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    if (data != NULL) {
        packed->copies[packed->count++] =
            (struct copy){.weight = weight, .order = order, .bytes = bytes, .data = data, .fresh = 1};
    }
    *fresh = 0;
    return data;
}

void packed_weights_forget(struct packed_weights *packed)
{
    for (int k = 0; k < packed->count; k++) {
        packed->copies[k].fresh = 0;
    }
}
