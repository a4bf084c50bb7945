/* A layer's backward against central finite differences of its forward, in double precision. */
#ifndef TESTS_NN_GRADIENT_CHECK_H
#define TESTS_NN_GRADIENT_CHECK_H

#include "nn/layer.h"

enum { most_segments = 16 };

/* One parameter of the layer in its small flat buffer. */
struct segment {
    const char *name;
    size_t offset, count;
};

struct checked_layer {
    /* out from inp, keeping nothing. */
    void (*forward)(const void *layer, const struct layer_run *run, activation *out, const activation *inp);
    /* A forward pass that keeps, then backward. out is written; dinp may be NULL; dout may be overwritten. */
    void (*backward)(const void *layer, const struct layer_run *run, activation *out, activation *dinp,
                     activation *dout, const activation *inp);
    const void *layer;
    size_t inp, out; /* elements */
    struct segment segments[most_segments];
    int segment_count;
    size_t params;       /* elements of the flat buffer: the end of the last segment */
    int without_dinp;    /* the layer gives no gradient of its input */
    int without_fusions; /* the implementation has no operation for an MLP as a whole, nor for norm and layer
                          */
    int on_device;       /* the implementation says that its memory is separate, which decides what is kept */
};

/* Appends a parameter and returns its offset. */
size_t add_segment(struct checked_layer *checked, const char *name, size_t count);

/* Asserts: a pass that keeps nothing gives the same result as one that keeps; each element of dinp and of
 * every parameter's gradient is within 1e-6 (relative to the largest of its array) of the finite difference;
 * gradients of parameters are added to what was there; the arena is left as it was; passes in too small an
 * arena set `exhausted` and touch nothing outside. */
void check_gradients(const struct checked_layer *checked);

#endif
