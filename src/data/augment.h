/* The augmentation of one crop (voco.md section 1), drawn independently for every crop and applied while the
 * crop is copied out of its volume. In this order: flips of x, y, z, a rotation in the x-y plane, a shift of
 * intensity. */
#ifndef DATA_AUGMENT_H
#define DATA_AUGMENT_H

#include "base/philox.h"
#include "compute/crop_transform.h"

#include <stddef.h>
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

/* A box of voxels within a crop, and where they lie in memory. */
struct crop_part {
    const void *voxels;  /* the box's first voxel */
    int voxel_bytes;     /* 1 or 2 (little-endian) */
    ptrdiff_t stride[2]; /* voxels from one to the next along x and y; along z they are neighbours */
    int at[3];           /* where the box begins in the crop, before any change */
    int extent[3];       /* its voxels along x, y, z */
};

/* The change as a place and a line: scale is that of the stored voxels, 1 / levels. */
struct crop_transform crop_transform_of(const struct crop_change *change, float scale, int roi);

/* Copies the box to its place in the changed crop `out` (roi, roi, roi), axes x, y, z with z fastest. Boxes
 * that tile a crop give all of it; nothing else of `out` is written. Product and sum are each rounded: the
 * same bits as transform_crops (compute/compute.h) gives. */
void copy_crop_part(float *out, const struct crop_part *part, const struct crop_transform *transform);

/* Copies it unchanged to its place in the crop as it is stored, of voxel_bytes a voxel, as many as the part's
 * or more. */
void copy_stored_part(void *out, int voxel_bytes, int roi, const struct crop_part *part);

#endif
