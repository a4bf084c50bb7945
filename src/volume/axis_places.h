/* Where the voxels of a resampled axis lie between those of the axis it is made from. Private to this folder.
 */
#ifndef VOLUME_AXIS_PLACES_H
#define VOLUME_AXIS_PLACES_H

/* Output voxel i is left + weight * (right - left) of the input voxels left[i] and right[i], which are
 * neighbours, or the same where weight[i] is 0. */
struct axis_places {
    int count;
    int in_order; /* output voxel i is input voxel i */
    int *left, *right;
    float *weight;
    void *storage; /* owned: the three arrays */
};

/* Places of `count` voxels: number i lies at offset + i * step of an axis of `size` voxels, which is clamped
 * to [0, size - 1]. Places within 1e-9 of a voxel are taken as that voxel. Where `reversed`, the axis that
 * these positions count along runs against the stored one: its voxel p is stored voxel size - 1 - p. Returns
 * 0 where there is no memory. Free with axis_places_free. */
int axis_places_make(struct axis_places *places, int count, int size, double step, double offset,
                     int reversed);

void axis_places_free(struct axis_places *places);

#endif
