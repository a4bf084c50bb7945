/* Which convolutions and which windows of attention every implementation has: whether c can go on with this
 * shape. A failure, VOCO_UNSUPPORTED or an earlier one, is c's status. */
#ifndef COMPUTE_SUPPORTED_SHAPES_H
#define COMPUTE_SUPPORTED_SHAPES_H

#include "compute/compute.h"

/* Kernels of 1 to 3 voxels whose result has the input's grid, or that cut it into blocks of their own size.
 */
static inline int conv3d_is_supported(struct compute *c, const struct conv3d_shape *s)
{
    const int same = s->stride == 1 && s->kernel % 2 == 1;
    if (s->kernel < 1 || s->kernel > 3 || (!same && s->stride != s->kernel)) {
        compute_failed(c, VOCO_UNSUPPORTED, "convolution with this kernel and stride");
    }
    return c->status == VOCO_OK;
}

/* Windows of up to 7 tokens along an axis, shifted by less than that. */
static inline int attention_is_supported(struct compute *c, const struct attention_shape *s)
{
    for (int axis = 0; axis < 3; axis++) {
        if (s->window[axis] < 1 || s->window[axis] > relative_table_window || s->shift[axis] < 0 ||
            s->shift[axis] >= s->window[axis]) {
            compute_failed(c, VOCO_UNSUPPORTED, "attention with this window and shift");
        }
    }
    return c->status == VOCO_OK;
}

#endif
