/* Which voxels a volume gets when it is resampled to a spacing along its own axes.
 *
 * The rules are those of MONAI's Spacing (monai/transforms/spatial/array.py and functional.py,
 * monai/data/utils.py: zoom_affine, compute_shape_offset; version 1.6.1, the same since 1.0) with its
 * defaults, so that a model sees here what it saw in training there. A is the affine of the volume, already
 * oriented to RAS, n its size, s the lengths of A's columns, t the target spacing:
 *
 *   1. An axis with |s - t| <= 1e-3 mm keeps s. Call the resulting spacing t'.
 *   2. Shear is dropped: A = R U with R a rotation and U upper triangular (the Cholesky factor of A^T A); the
 *      new axes are R diag(t'). The first axis keeps its direction, the second its plane with the first.
 *   3. The size is round(extent + 1) on each axis, halves to even, the extent being that of the old box of
 *      voxel centres in units of the new voxels.
 *   4. The new origin is the first corner of the old box (z fastest) that is the smallest in all three new
 *      coordinates, to 1e-8 voxels. Without shear that is voxel (0, 0, 0), which keeps its place. Where there
 *      is none, both grids are centred on each other, by voxel n / 2 of each, not (n - 1) / 2. That concerns
 *      sheared volumes and also oblique ones whose affine is stored in single precision and so is not quite
 *      orthogonal: their voxel (0, 0, 0) moves by up to a voxel, and positions may lie beyond the border.
 *   5. Where no number of the affine changes by more than 1e-3 (+ 1e-5 of its value), or none of the
 *      transform between the voxels differs by that from the identity, and the size is the same, voxels are
 *      copied and the affine stays A.
 *
 * Positions beyond the border take the border's value. */
#ifndef VOLUME_RESAMPLING_PLAN_H
#define VOLUME_RESAMPLING_PLAN_H

#include "voco/status.h"

struct resampling_plan {
    int size[3];
    double spacing[3];     /* mm; lengths of the affine's columns */
    double affine[3][4];   /* new voxel index -> mm */
    double position[3][4]; /* new voxel index -> old voxel index */
    int along_axes;        /* position is, to 2e-4 voxels, offset + index * step on every axis */
    double step[3], offset[3];
};

/* Plans the resampling of `size` voxels with `affine` to `spacing` (mm). VOCO_BAD_INPUT for a spacing that is
 * not positive and for a result over 32767 voxels an axis or 2^33 in all, which only a wrong spacing asks
 * for. The affine is not singular (affine_is_regular). */
enum voco_status plan_resampling(struct resampling_plan *plan, const int size[3], const double affine[3][4],
                                 const double spacing[3]);

#endif
