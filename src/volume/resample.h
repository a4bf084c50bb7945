/* Trilinear resampling along the volume's own axes. */
#ifndef VOLUME_RESAMPLE_H
#define VOLUME_RESAMPLE_H

#include "volume/volume.h"

/* To the given spacing (mm). Voxel (0, 0, 0) keeps its place; an axis of n voxels gets round((n - 1) s_in /
 * s_out) + 1, halves rounded to the even number as numpy and MONAI do. Output voxel i lies at i s_out / s_in
 * of the input; past the last voxel its value is repeated. Axes whose voxels all stay within 1e-4 voxels of
 * their place are not interpolated. VOCO_BAD_INPUT for a spacing that is not positive and for a result over
 * 32767 voxels an axis or 2^30 in all, which only a wrong spacing asks for. The affine follows. */
enum voco_status resample_to_spacing(struct volume *volume, const double spacing[3]);

/* To the given size with aligned corners: the first and the last voxel of each axis keep their places (an
 * output of 1 voxel takes the first). out has room for out_size[0] * out_size[1] * out_size[2] floats;
 * neither array is kept. Fails only with VOCO_NO_MEMORY, for want of one slice of the input. */
enum voco_status resize_trilinear(float *out, const int out_size[3], const float *inp, const int size[3]);

#endif
