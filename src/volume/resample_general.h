/* Trilinear resampling between grids whose axes are not the same, as shear makes them. Private to this
 * folder.
 */
#ifndef VOLUME_RESAMPLE_GENERAL_H
#define VOLUME_RESAMPLE_GENERAL_H

/* out[index] = the value of inp at position * (index, 1), in voxels, clamped to [0, size - 1] on each axis.
 * The first axis is the fastest of both arrays. */
void resample_general(float *out, const int out_size[3], const float *inp, const int size[3],
                      const double position[3][4], int threads);

#endif
