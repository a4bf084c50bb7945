#include "volume/resampling_plan.h"

#include "base/error.h"
#include "volume/orientation.h"

#include <math.h>
#include <string.h>

static const double tolerance = 1e-3;
static const double most_voxels = 8589934592.0; /* 2^33 */
static const double most_voxels_per_axis = 32767;

enum { corners = 8 };

/* A = R U; R scaled by the spacing makes the new columns. */
static void unsheared_axes(double axes[3][4], const double affine[3][4], const double spacing[3])
{
    double upper[3][3] = {{0}}; /* the Cholesky factor of A^T A, transposed */
    for (int i = 0; i < 3; i++) {
        for (int j = i; j < 3; j++) {
            double sum = 0;
            for (int row = 0; row < 3; row++) {
                sum += affine[row][i] * affine[row][j];
            }
            for (int k = 0; k < i; k++) {
                sum -= upper[k][i] * upper[k][j];
            }
            upper[i][j] = i == j ? sqrt(sum) : sum / upper[i][i];
        }
    }
    double inverse[3][3] = {{0}};
    for (int j = 0; j < 3; j++) {
        inverse[j][j] = 1 / upper[j][j];
        for (int i = j - 1; i >= 0; i--) {
            double sum = 0;
            for (int k = i + 1; k <= j; k++) {
                sum += upper[i][k] * inverse[k][j];
            }
            inverse[i][j] = -sum / upper[i][i];
        }
    }
    for (int row = 0; row < 3; row++) {
        for (int axis = 0; axis < 3; axis++) {
            double sum = 0;
            for (int k = 0; k <= axis; k++) {
                sum += affine[row][k] * inverse[k][axis];
            }
            axes[row][axis] = sum * spacing[axis];
        }
        axes[row][3] = 0;
    }
}

/* from^-1 to, by elimination with row pivots. The operations are those of LAPACK's dgesv in OpenBLAS, which
 * numpy calls (reciprocal pivots in the last step), so that extents that lie on a half, such as that of 512
 * voxels of 0.75 mm at 1.5 mm, are rounded as they are there. */
static void solve(double result[3][4], const double from[3][4], const double to[3][4])
{
    double left[3][3];
    double right[3][4];
    for (int row = 0; row < 3; row++) {
        memcpy(left[row], from[row], sizeof left[row]);
        memcpy(right[row], to[row], sizeof right[row]);
        right[row][3] -= from[row][3];
    }
    for (int pivot = 0; pivot < 3; pivot++) {
        int best = pivot;
        for (int row = pivot + 1; row < 3; row++) {
            best = fabs(left[row][pivot]) > fabs(left[best][pivot]) ? row : best;
        }
        for (int column = 0; column < 4; column++) {
            const double swapped = right[best][column];
            right[best][column] = right[pivot][column];
            right[pivot][column] = swapped;
            if (column < 3) {
                const double moved = left[best][column];
                left[best][column] = left[pivot][column];
                left[pivot][column] = moved;
            }
        }
        for (int row = pivot + 1; row < 3; row++) {
            const double factor = left[row][pivot] / left[pivot][pivot];
            for (int column = pivot + 1; column < 3; column++) {
                left[row][column] -= factor * left[pivot][column];
            }
            for (int column = 0; column < 4; column++) {
                right[row][column] -= factor * right[pivot][column];
            }
        }
    }
    for (int row = 2; row >= 0; row--) {
        const double inverse = 1 / left[row][row];
        for (int column = 0; column < 4; column++) {
            double sum = right[row][column];
            for (int k = 2; k > row; k--) {
                sum -= left[row][k] * result[k][column];
            }
            result[row][column] = sum * inverse;
        }
    }
}

static void transform(double out[3], const double matrix[3][4], const double point[3])
{
    for (int row = 0; row < 3; row++) {
        const double *m = matrix[row];
        out[row] = m[0] * point[0] + m[1] * point[1] + m[2] * point[2] + m[3];
    }
}

/* Rules 3 and 4: count[] voxels (as doubles, not yet bounded) and the last column of plan->affine. */
static void place_grid(struct resampling_plan *plan, double count[3], const int size[3],
                       const double affine[3][4])
{
    double to_new[3][4];
    solve(to_new, plan->affine, affine);
    double old[corners][3];
    double new[corners][3];
    double least[3] = {INFINITY, INFINITY, INFINITY};
    double most[3] = {-INFINITY, -INFINITY, -INFINITY};
    for (int corner = 0; corner < corners; corner++) {
        for (int axis = 0; axis < 3; axis++) {
            old[corner][axis] = corner >> (2 - axis) & 1 ? size[axis] - 1 : 0;
        }
        transform(new[corner], to_new, old[corner]);
        for (int axis = 0; axis < 3; axis++) {
            least[axis] = fmin(least[axis], new[corner][axis]);
            most[axis] = fmax(most[axis], new[corner][axis]);
        }
    }
    for (int axis = 0; axis < 3; axis++) {
        count[axis] = rint(most[axis] - least[axis] + 1);
    }
    double origin[3];
    int found = 0;
    for (int corner = 0; corner < corners && !found; corner++) {
        found = 1;
        for (int axis = 0; axis < 3; axis++) {
            found = found && new[corner][axis] - least[axis] <= 1e-8;
        }
        if (found) {
            transform(origin, affine, old[corner]);
        }
    }
    if (!found) {
        double centre[3];
        const double half[3] = {size[0] / 2.0, size[1] / 2.0, size[2] / 2.0};
        const double new_half[3] = {count[0] / 2, count[1] / 2, count[2] / 2};
        transform(origin, affine, half);
        transform(centre, plan->affine, new_half);
        for (int row = 0; row < 3; row++) {
            origin[row] -= centre[row];
        }
    }
    for (int row = 0; row < 3; row++) {
        plan->affine[row][3] = origin[row];
    }
}

/* Rule 5. */
static int is_unchanged(const struct resampling_plan *plan, const int size[3], const double affine[3][4])
{
    int same_affine = 1;
    int same_voxels = 1;
    for (int row = 0; row < 3; row++) {
        for (int column = 0; column < 4; column++) {
            const double unit = row == column;
            const double new = plan->affine[row][column];
            same_affine = same_affine && fabs(affine[row][column] - new) <= tolerance + 1e-5 * fabs(new);
            same_voxels = same_voxels && fabs(plan->position[row][column] - unit) <= tolerance + 1e-5 * unit;
        }
    }
    return (same_affine || same_voxels) && memcmp(plan->size, size, sizeof plan->size) == 0;
}

/* Whether each axis can be resampled apart from the others. The small part of the others' that is left out is
 * taken at the middle of the volume, so that it is wrong by half of what it changes. */
static void split_axes(struct resampling_plan *plan)
{
    plan->along_axes = 1;
    for (int axis = 0; axis < 3; axis++) {
        double sway = 0;
        plan->step[axis] = plan->position[axis][axis];
        plan->offset[axis] = plan->position[axis][3];
        for (int other = 0; other < 3; other++) {
            if (other != axis) {
                const double change = plan->position[axis][other] * (plan->size[other] - 1);
                sway += fabs(change) / 2;
                plan->offset[axis] += change / 2;
            }
        }
        plan->along_axes = plan->along_axes && sway <= 2e-4;
    }
}

enum voco_status plan_resampling(struct resampling_plan *plan, const int size[3], const double affine[3][4],
                                 const double spacing[3])
{
    static const double identity[3][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};
    double own[3];
    double voxels = 1;
    double count[3];
    *plan = (struct resampling_plan){0};
    affine_spacing(own, affine);
    for (int axis = 0; axis < 3; axis++) {
        if (!(spacing[axis] > 0 && isfinite(spacing[axis]))) {
            return fail(VOCO_BAD_INPUT, "a spacing of %g mm cannot be resampled to", spacing[axis]);
        }
        const int near = spacing[axis] - tolerance <= own[axis] && own[axis] <= spacing[axis] + tolerance;
        plan->spacing[axis] = near ? own[axis] : spacing[axis];
    }
    unsheared_axes(plan->affine, affine, plan->spacing);
    place_grid(plan, count, size, affine);
    for (int axis = 0; axis < 3; axis++) {
        voxels *= count[axis];
        if (!(count[axis] <= most_voxels_per_axis && voxels <= most_voxels)) {
            return fail(VOCO_BAD_INPUT,
                        "%dx%dx%d voxels of %gx%gx%g mm are too large to resample to %gx%gx%g mm", size[0],
                        size[1], size[2], own[0], own[1], own[2], spacing[0], spacing[1], spacing[2]);
        }
        plan->size[axis] = (int)count[axis];
    }
    solve(plan->position, affine, plan->affine);
    if (is_unchanged(plan, size, affine)) {
        memcpy(plan->position, identity, sizeof identity);
        memcpy(plan->affine, affine, sizeof plan->affine);
        memcpy(plan->spacing, own, sizeof own);
    }
    split_axes(plan);
    return VOCO_OK;
}
