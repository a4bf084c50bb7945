#include "stepwise_preparation.h"

#include "base/error.h"
#include "volume/foreground.h"
#include "volume/intensity.h"
#include "volume/nifti.h"
#include "volume/orientation.h"
#include "volume/resampling_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *new_voxels(const struct volume *volume)
{
    float *voxels = calloc(volume_count(volume), sizeof *voxels);
    if (voxels == NULL) {
        abort();
    }
    return voxels;
}

static size_t index_of(const int size[3], const int at[3])
{
    return ((size_t)at[2] * (size_t)size[1] + (size_t)at[1]) * (size_t)size[0] + (size_t)at[0];
}

/* Replaces the voxels and the size; data is owned by the volume afterwards. */
static void replace(struct volume *volume, struct volume *by)
{
    free(volume->data);
    volume->data = by->data;
    memcpy(volume->size, by->size, sizeof volume->size);
}

void orient_to_ras(struct volume *volume)
{
    struct ras_frame frame;
    find_ras_frame(&frame, volume->size, volume->affine);
    struct volume turned = {0};
    double spacing[3];
    memcpy(turned.size, frame.size, sizeof turned.size);
    turned.data = new_voxels(&turned);
    int at[3];
    for (at[2] = 0; at[2] < volume->size[2]; at[2]++) {
        for (at[1] = 0; at[1] < volume->size[1]; at[1]++) {
            for (at[0] = 0; at[0] < volume->size[0]; at[0]++) {
                int to[3];
                for (int axis = 0; axis < 3; axis++) {
                    to[frame.world_axis[axis]] =
                        frame.sign[axis] > 0 ? at[axis] : volume->size[axis] - 1 - at[axis];
                }
                turned.data[index_of(turned.size, to)] = volume->data[index_of(volume->size, at)];
            }
        }
    }
    for (int axis = 0; axis < 3; axis++) {
        spacing[frame.world_axis[axis]] = volume->spacing[axis];
    }
    replace(volume, &turned);
    memcpy(volume->spacing, spacing, sizeof spacing);
    memcpy(volume->affine, frame.affine, sizeof volume->affine);
}

double value_at(const float *data, const int size[3], const double position[3])
{
    double sum = 0;
    for (int corner = 0; corner < 8; corner++) {
        double weight = 1;
        int at[3];
        for (int axis = 0; axis < 3; axis++) {
            const double inside = fmin(fmax(position[axis], 0), size[axis] - 1);
            const int low = (int)floor(inside);
            const int up = corner >> axis & 1;
            weight *= up ? inside - low : 1 - (inside - low);
            at[axis] = low + up < size[axis] ? low + up : size[axis] - 1;
        }
        sum += weight * data[index_of(size, at)];
    }
    return sum;
}

enum voco_status resample_to_spacing(struct volume *volume, const double spacing[3])
{
    struct resampling_plan plan;
    const enum voco_status status = plan_resampling(&plan, volume->size, volume->affine, spacing);
    if (status != VOCO_OK) {
        return status;
    }
    struct volume result = {0};
    memcpy(result.size, plan.size, sizeof result.size);
    result.data = new_voxels(&result);
    int at[3];
    for (at[2] = 0; at[2] < plan.size[2]; at[2]++) {
        for (at[1] = 0; at[1] < plan.size[1]; at[1]++) {
            for (at[0] = 0; at[0] < plan.size[0]; at[0]++) {
                double position[3];
                for (int axis = 0; axis < 3; axis++) {
                    const double *p = plan.position[axis];
                    position[axis] = p[0] * at[0] + p[1] * at[1] + p[2] * at[2] + p[3];
                }
                result.data[index_of(plan.size, at)] = (float)value_at(volume->data, volume->size, position);
            }
        }
    }
    replace(volume, &result);
    memcpy(volume->spacing, plan.spacing, sizeof volume->spacing);
    memcpy(volume->affine, plan.affine, sizeof volume->affine);
    return VOCO_OK;
}

/* The box [first, first + size) of the volume, zeros where that lies outside it. */
static void take_box(struct volume *volume, const int first[3], const int size[3])
{
    struct volume box = {0};
    memcpy(box.size, size, sizeof box.size);
    box.data = new_voxels(&box);
    int at[3];
    for (at[2] = 0; at[2] < size[2]; at[2]++) {
        for (at[1] = 0; at[1] < size[1]; at[1]++) {
            for (at[0] = 0; at[0] < size[0]; at[0]++) {
                int from[3];
                int inside = 1;
                for (int axis = 0; axis < 3; axis++) {
                    from[axis] = first[axis] + at[axis];
                    inside = inside && from[axis] >= 0 && from[axis] < volume->size[axis];
                }
                if (inside) {
                    box.data[index_of(size, at)] = volume->data[index_of(volume->size, from)];
                }
            }
        }
    }
    for (int row = 0; row < 3; row++) {
        for (int axis = 0; axis < 3; axis++) {
            volume->affine[row][3] += first[axis] * volume->affine[row][axis];
        }
    }
    replace(volume, &box);
}

void crop_to_bounds(struct volume *volume, const int first[3], const int end[3])
{
    take_box(volume, first, (const int[3]){end[0] - first[0], end[1] - first[1], end[2] - first[2]});
}

void pad_to_at_least(struct volume *volume, const int least[3])
{
    int first[3];
    int size[3];
    for (int axis = 0; axis < 3; axis++) {
        const int missing = least[axis] > volume->size[axis] ? least[axis] - volume->size[axis] : 0;
        first[axis] = -(missing / 2);
        size[axis] = volume->size[axis] + missing;
    }
    take_box(volume, first, size);
}

static int is_constant(const struct volume *volume)
{
    size_t same = 0;
    while (same < volume_count(volume) && volume->data[same] == volume->data[0]) {
        same++;
    }
    return same == volume_count(volume);
}

enum voco_status prepare_stepwise(struct volume *out, const char *path, const struct preset *preset,
                                  const int at_least[3])
{
    int first[3];
    int end[3];
    enum voco_status status = nifti_read(out, path);
    if (status != VOCO_OK) {
        return status;
    }
    if (is_constant(out)) {
        status = fail(VOCO_BAD_INPUT, "constant");
        goto failed;
    }
    orient_to_ras(out);
    status = resample_to_spacing(out, preset->spacing);
    if (status != VOCO_OK) {
        goto failed;
    }
    if (preset->intensity == INTENSITY_WINDOW) {
        scale_window(out->data, volume_count(out), preset->low, preset->high);
    } else {
        status = scale_mr(out->data, volume_count(out));
    }
    if (status == VOCO_OK && !foreground_bounds(first, end, out)) {
        status = fail(VOCO_BAD_INPUT, "no foreground");
    }
    if (status != VOCO_OK) {
        goto failed;
    }
    crop_to_bounds(out, first, end);
    pad_to_at_least(out, at_least);
    return VOCO_OK;

failed:
    volume_free(out);
    return status;
}
