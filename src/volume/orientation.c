#include "volume/orientation.h"

#include <math.h>
#include <nifti2_io.h>

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

void find_ras_frame(struct ras_frame *frame, const int size[3], const double affine[3][4])
{
    closest_axes(frame->world_axis, frame->sign, affine);
    for (int row = 0; row < 3; row++) {
        frame->affine[row][3] = affine[row][3];
    }
    for (int axis = 0; axis < 3; axis++) {
        const int world = frame->world_axis[axis];
        const int sign = frame->sign[axis];
        frame->size[world] = size[axis];
        for (int row = 0; row < 3; row++) {
            frame->affine[row][world] = sign * affine[row][axis];
            frame->affine[row][3] += sign > 0 ? 0 : (size[axis] - 1) * affine[row][axis];
        }
    }
}
