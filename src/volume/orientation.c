#include "volume/orientation.h"

#include "base/error.h"

#include <math.h>
#include <nifti2_io.h>
#include <stdlib.h>
#include <string.h>

void affine_spacing(double spacing[3], const double affine[3][4])
{
    for (int axis = 0; axis < 3; axis++) {
        const double x = affine[0][axis];
        const double y = affine[1][axis];
        const double z = affine[2][axis];
        spacing[axis] = sqrt(x * x + y * y + z * z);
    }
}

static double determinant(const double m[3][4])
{
    return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
           m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
           m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

int affine_is_regular(const double affine[3][4])
{
    double spacing[3];
    for (int row = 0; row < 3; row++) {
        for (int column = 0; column < 4; column++) {
            if (!isfinite(affine[row][column])) {
                return 0;
            }
        }
    }
    affine_spacing(spacing, affine);
    for (int axis = 0; axis < 3; axis++) {
        if (!(spacing[axis] >= 1e-6 && spacing[axis] <= 1e6)) {
            return 0;
        }
    }
    return fabs(determinant(affine)) > 1e-6 * spacing[0] * spacing[1] * spacing[2];
}

static nifti_dmat33 closest_rotation(const double affine[3][4])
{
    double spacing[3];
    affine_spacing(spacing, affine);
    nifti_dmat33 unit;
    for (int row = 0; row < 3; row++) {
        for (int axis = 0; axis < 3; axis++) {
            unit.m[row][axis] = affine[row][axis] / spacing[axis];
        }
    }
    return nifti_dmat33_polar(unit);
}

void closest_axes(int world_axis[3], int sign[3], const double affine[3][4])
{
    const nifti_dmat33 rotation = closest_rotation(affine);
    double strength[3];
    for (int axis = 0; axis < 3; axis++) {
        strength[axis] =
            fmax(fmax(fabs(rotation.m[0][axis]), fabs(rotation.m[1][axis])), fabs(rotation.m[2][axis]));
    }
    int chosen[3] = {0};
    int taken[3] = {0};
    for (int turn = 0; turn < 3; turn++) {
        int axis = -1;
        for (int candidate = 0; candidate < 3; candidate++) {
            if (!chosen[candidate] && (axis < 0 || strength[candidate] > strength[axis] + 1e-9)) {
                axis = candidate;
            }
        }
        int world = -1;
        for (int row = 0; row < 3; row++) {
            if (!taken[row] &&
                (world < 0 || fabs(rotation.m[row][axis]) > fabs(rotation.m[world][axis]) + 1e-9)) {
                world = row;
            }
        }
        chosen[axis] = 1;
        taken[world] = 1;
        world_axis[axis] = world;
        sign[axis] = rotation.m[world][axis] < 0 ? -1 : 1;
    }
}

void orientation_code(char code[4], const double affine[3][4])
{
    int world_axis[3];
    int sign[3];
    closest_axes(world_axis, sign, affine);
    for (int axis = 0; axis < 3; axis++) {
        code[axis] = (sign[axis] > 0 ? "RAS" : "LPI")[world_axis[axis]];
    }
    code[3] = '\0';
}

/* Copies the voxels to out, whose voxel (x, y, z) is inp[first + x * stride[0] + y * stride[1] + z *
 * stride[2]]. */
static void copy_strided(float *out, const int size[3], const float *inp, ptrdiff_t first,
                         const ptrdiff_t stride[3])
{
    /* A few z at a time, so that lines of the input stay in the cache where its x runs along the output's z.
     */
    enum { block = 16 };
    for (int z_block = 0; z_block < size[2]; z_block += block) {
        const int z_end = z_block + block < size[2] ? z_block + block : size[2];
        for (int y = 0; y < size[1]; y++) {
            for (int z = z_block; z < z_end; z++) {
                const float *from = inp + first + y * stride[1] + z * stride[2];
                float *row = out + ((ptrdiff_t)z * size[1] + y) * size[0];
                for (int x = 0; x < size[0]; x++) {
                    row[x] = from[x * stride[0]];
                }
            }
        }
    }
}

enum voco_status orient_to_ras(struct volume *volume)
{
    int world_axis[3];
    int sign[3];
    closest_axes(world_axis, sign, volume->affine);
    int in_order = 1;
    for (int axis = 0; axis < 3; axis++) {
        in_order = in_order && world_axis[axis] == axis && sign[axis] > 0;
    }
    if (in_order) {
        return VOCO_OK;
    }
    const ptrdiff_t file_stride[3] = {1, volume->size[0], (ptrdiff_t)volume->size[0] * volume->size[1]};
    struct volume turned = {0};
    ptrdiff_t stride[3];
    ptrdiff_t first = 0;
    for (int row = 0; row < 3; row++) {
        turned.affine[row][3] = volume->affine[row][3];
    }
    for (int axis = 0; axis < 3; axis++) {
        const int world = world_axis[axis];
        const int last = volume->size[axis] - 1;
        turned.size[world] = volume->size[axis];
        turned.spacing[world] = volume->spacing[axis];
        stride[world] = sign[axis] * file_stride[axis];
        first += sign[axis] > 0 ? 0 : last * file_stride[axis];
        for (int row = 0; row < 3; row++) {
            turned.affine[row][world] = sign[axis] * volume->affine[row][axis];
            turned.affine[row][3] += sign[axis] > 0 ? 0 : last * volume->affine[row][axis];
        }
    }
    turned.data = malloc(volume_count(volume) * sizeof *turned.data);
    if (turned.data == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory to turn %zu voxels", volume_count(volume));
    }
    copy_strided(turned.data, turned.size, volume->data, first, stride);
    volume_free(volume);
    *volume = turned;
    return VOCO_OK;
}
