/* The augmentation of one crop (voco.md section 1), drawn independently for every crop and applied while the
 * crop is copied out of its volume. In this order: flips of x, y, z, a rotation in the x-y plane, a shift of
 * intensity. */
#ifndef DATA_AUGMENT_H
#define DATA_AUGMENT_H

#include "base/philox.h"

#include <stdint.h>

/* How likely each change is; 0 turns one off. */
struct augmentation {
    float flip[3];     /* probability of a flip, each axis on its own */
    float rotate;      /* probability of a rotation by 90, 180 or 270 degrees, equally likely */
    float shift;       /* probability of a shift of intensity */
    float shift_range; /* the shift is uniform in [-shift_range, shift_range) */
};

/* Flips 0.2 each, rotation 0.2, shift 0.5 within 0.1: what VoCo is published with. */
extern const struct augmentation augmentation_default;
extern const struct augmentation augmentation_none;

/* What happens to one crop. */
struct crop_change {
    int flip[3];
    int quarter_turns; /* 0..3, as numpy.rot90(crop, quarter_turns, axes=(0, 1)) on the array [x][y][z] */
    float shift;       /* added to every voxel; not clipped after it */
};

/* What is drawn for crop `crop` of the sample at `place` (its seed, step and sample are used). */
struct crop_change draw_crop_change(const struct augmentation *augmentation, const struct random_key *place,
                                    int crop);

/* Copies the roi^3 voxels that start at voxel `start` of a volume, changed by `change`, to out (roi, roi,
 * roi), axes x, y, z with z fastest. `voxels` are the volume's, x fastest, `size` voxels along x, y, z, 65535
 * meaning 1.0. The crop must lie inside. */
void copy_crop(float *out, int roi, const uint16_t *voxels, const int size[3], const int start[3],
               const struct crop_change *change);

#endif
