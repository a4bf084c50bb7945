#include "compute/cpu/packed_weights.h"

#include <stdlib.h>

enum { most_copies = 256 };

struct copy {
    const float *weight;
    enum packed_order order;
    size_t bytes;
    void *data;
    int fresh;
};

struct packed_weights {
    struct copy copies[most_copies];
    int count;
};

struct packed_weights *packed_weights_open(void)
{
    return calloc(1, sizeof(struct packed_weights));
}

static void free_copies(struct packed_weights *packed)
{
    for (int k = 0; k < packed->count; k++) {
        free(packed->copies[k].data);
    }
    packed->count = 0;
}

void packed_weights_close(struct packed_weights *packed)
{
    if (packed != NULL) {
        free_copies(packed);
        free(packed);
    }
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
    if (packed->count == most_copies) {
        free_copies(packed);
    }
    void *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
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
