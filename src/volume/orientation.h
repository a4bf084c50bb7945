/* How the axes of a volume lie in the patient, and what becomes of them when they are turned to RAS. */
#ifndef VOLUME_ORIENTATION_H
#define VOLUME_ORIENTATION_H

/* For each axis of the voxels the world axis (0: x, 1: y, 2: z) that it follows most closely, and whether it
 * runs along (+1) or against (-1) it. A permutation, found as nibabel's io_orientation finds it: on the
 * rotation closest to the affine (polar decomposition of its columns of unit length); the axis with the
 * largest component chooses first; between components that differ by less than 1e-9 the lower index wins. The
 * affine must not be singular. */
void closest_axes(int world_axis[3], int sign[3], const double affine[3][4]);

/* "RAS", "LPS", ...: where the three axes run to. */
void orientation_code(char code[4], const double affine[3][4]);

/* The axes of a volume once they are permuted and flipped so that they run as closely as possible to the
 * right, to the front and up. */
struct ras_frame {
    int world_axis[3], sign[3]; /* of the volume's own axes, as closest_axes finds them */
    int size[3];                /* of the oriented volume */
    double affine[3][4]; /* of the oriented volume: every voxel keeps its place in the world, so a rotation
                            that is left (an oblique volume) stays */
};

/* Voxel p of an axis with sign -1 becomes voxel size - 1 - p. The affine must not be singular. */
void find_ras_frame(struct ras_frame *frame, const int size[3], const double affine[3][4]);

/* The lengths of the columns: mm between voxels. */
void affine_spacing(double spacing[3], const double affine[3][4]);

/* Whether all numbers are finite and the three axes span space: columns between 1e-6 and 1e6 mm that enclose
 * a parallelepiped of more than 1e-6 of the cuboid with these edges. */
int affine_is_regular(const double affine[3][4]);

#endif
