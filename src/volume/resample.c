#include "volume/resample.h"

#include "base/error.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const double most_voxels = 1 << 30;
static const double most_voxels_per_axis = 32767;

/* Where an output voxel lies between two input voxels of an axis. */
struct place {
    int left, right;
    float weight; /* of right */
};

/* Output voxel i lies at i * step, or at the last voxel where that is beyond it. */
static struct place *places_along(int out_size, int size, double step)
{
    struct place *places = malloc((size_t)out_size * sizeof *places);
    if (places == NULL) {
        return NULL;
    }
    for (int i = 0; i < out_size; i++) {
        const double position = fmin(i * step, size - 1);
        const int left = (int)position;
        places[i].left = left;
        places[i].right = left + 1 < size ? left + 1 : left;
        places[i].weight = (float)(position - left);
    }
    return places;
}

static void blend(float *restrict out, const float *left, const float *right, float weight, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = left[i] + weight * (right[i] - left[i]);
    }
}

static void blend_row(float *restrict out, int count, const float *restrict row, const struct place *places)
{
    for (int i = 0; i < count; i++) {
        const float left = row[places[i].left];
        out[i] = left + places[i].weight * (row[places[i].right] - left);
    }
}

/* One axis after the other, the slowest first: the x axis, whose reads are scattered, is then done on the
 * fewest rows. */
static enum voco_status interpolate(float *out, const int out_size[3], const float *inp, const int size[3],
                                    const double step[3])
{
    enum voco_status status = VOCO_OK;
    const size_t row_length = (size_t)size[0];
    const size_t slice_length = row_length * (size_t)size[1];
    struct place *places[3] = {NULL, NULL, NULL};
    float *slice = malloc((slice_length + row_length) * sizeof *slice);
    float *row = slice + slice_length;
    int whole = slice != NULL;
    for (int axis = 0; axis < 3; axis++) {
        places[axis] = places_along(out_size[axis], size[axis], step[axis]);
        whole = whole && places[axis] != NULL;
    }
    if (!whole) {
        status = fail(VOCO_NO_MEMORY, "no memory to interpolate a slice of %dx%d voxels", size[0], size[1]);
        goto end;
    }
    for (int z = 0; z < out_size[2]; z++) {
        const struct place pz = places[2][z];
        blend(slice, inp + (size_t)pz.left * slice_length, inp + (size_t)pz.right * slice_length, pz.weight,
              slice_length);
        for (int y = 0; y < out_size[1]; y++) {
            const struct place py = places[1][y];
            blend(row, slice + (size_t)py.left * row_length, slice + (size_t)py.right * row_length, py.weight,
                  row_length);
            blend_row(out, out_size[0], row, places[0]);
            out += out_size[0];
        }
    }

end:
    for (int axis = 0; axis < 3; axis++) {
        free(places[axis]);
    }
    free(slice);
    return status;
}

enum voco_status resize_trilinear(float *out, const int out_size[3], const float *inp, const int size[3])
{
    double step[3];
    for (int axis = 0; axis < 3; axis++) {
        step[axis] = out_size[axis] > 1 ? (double)(size[axis] - 1) / (out_size[axis] - 1) : 0;
    }
    return interpolate(out, out_size, inp, size, step);
}

/* Sizes, steps and geometry of the result; *moves tells whether any voxel is interpolated. */
static enum voco_status plan_resampling(struct volume *result, double step[3], int *moves,
                                        const struct volume *volume, const double spacing[3])
{
    double voxels = 1;
    *moves = 0;
    *result = (struct volume){0};
    memcpy(result->affine, volume->affine, sizeof result->affine);
    for (int axis = 0; axis < 3; axis++) {
        if (!(spacing[axis] > 0 && isfinite(spacing[axis]))) {
            return fail(VOCO_BAD_INPUT, "a spacing of %g mm cannot be resampled to", spacing[axis]);
        }
        const double last = volume->size[axis] - 1;
        const double count = rint(last * volume->spacing[axis] / spacing[axis]) + 1;
        voxels *= count;
        if (!(count <= most_voxels_per_axis && voxels <= most_voxels)) {
            return fail(VOCO_BAD_INPUT,
                        "%dx%dx%d voxels of %gx%gx%g mm are too large to resample to %gx%gx%g mm",
                        volume->size[0], volume->size[1], volume->size[2], volume->spacing[0],
                        volume->spacing[1], volume->spacing[2], spacing[0], spacing[1], spacing[2]);
        }
        result->size[axis] = (int)count;
        result->spacing[axis] = spacing[axis];
        step[axis] = spacing[axis] / volume->spacing[axis];
        for (int row = 0; row < 3; row++) {
            result->affine[row][axis] = volume->affine[row][axis] * step[axis];
        }
        if (fabs(step[axis] - 1) * last < 1e-4) {
            step[axis] = 1;
        } else {
            *moves = 1;
        }
    }
    return VOCO_OK;
}

enum voco_status resample_to_spacing(struct volume *volume, const double spacing[3])
{
    struct volume result;
    double step[3];
    int moves = 0;
    enum voco_status status = plan_resampling(&result, step, &moves, volume, spacing);
    if (status != VOCO_OK) {
        return status;
    }
    if (!moves) {
        result.data = volume->data;
        *volume = result;
        return VOCO_OK;
    }
    result.data = malloc(volume_count(&result) * sizeof *result.data);
    if (result.data == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the %zu resampled voxels", volume_count(&result));
    }
    status = interpolate(result.data, result.size, volume->data, volume->size, step);
    if (status != VOCO_OK) {
        volume_free(&result);
        return status;
    }
    volume_free(volume);
    *volume = result;
    return VOCO_OK;
}
