/* What an update makes of a gradient, by the sum of its squares. */
#ifndef COMPUTE_GRADIENT_SCALE_H
#define COMPUTE_GRADIENT_SCALE_H

#include <float.h>
#include <math.h>

/* Beyond FLT_MAX the second moment of a single large element would be infinite and its parameter stuck; NaN
 * is no gradient either. */
static inline int can_update(double squares)
{
    return squares <= FLT_MAX;
}

/* What a gradient that can update is multiplied by, so that its norm is clip_norm at most; 0: any. */
static inline double gradient_scale(double squares, double clip_norm)
{
    const double norm = sqrt(squares);
    return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1;
}

#endif
