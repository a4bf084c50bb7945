/* Copies of weights in the order that a kernel wants, made once and kept until the weights change. */
#ifndef COMPUTE_CPU_PACKED_WEIGHTS_H
#define COMPUTE_CPU_PACKED_WEIGHTS_H

#include <stddef.h>

enum packed_order { PACKED_FORWARD, PACKED_BACKWARD };

struct packed_weights;

/* NULL when there is no memory. */
struct packed_weights *packed_weights_open(void);
void packed_weights_close(struct packed_weights *packed);

/* The copy of `weight` in this order, aligned to 64, of `bytes` bytes, which are the same at every call.
 * *fresh: 0 when the caller has to fill it. NULL when there is no memory. It stays until the next
 * packed_weights_forget, however many others are asked for before. */
void *packed_weights(struct packed_weights *packed, const float *weight, enum packed_order order,
                     size_t bytes, int *fresh);

/* Weights have changed: all copies are stale. */
void packed_weights_forget(struct packed_weights *packed);

#endif
