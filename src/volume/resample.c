#include "volume/resample.h"

#include "base/error.h"
#include "volume/axis_places.h"
#include "volume/rows.h"

#include <stdlib.h>

/* One axis after the other, the slowest first: the x axis, whose reads are scattered, is then done on the
 * fewest rows. */
enum voco_status resize_trilinear(float *out, const int out_size[3], const float *inp, const int size[3])
{
    enum voco_status status = VOCO_OK;
    const size_t row_length = (size_t)size[0];
    const size_t slice_length = row_length * (size_t)size[1];
    struct axis_places places[3] = {{0}};
    float *slice = malloc((slice_length + row_length) * sizeof *slice);
    float *row = slice + slice_length;
    int whole = slice != NULL;
    for (int axis = 0; axis < 3; axis++) {
        const double step = out_size[axis] > 1 ? (double)(size[axis] - 1) / (out_size[axis] - 1) : 0;
        whole = whole && axis_places_make(&places[axis], out_size[axis], size[axis], step, 0, 0);
    }
    if (!whole) {
        status = fail(VOCO_NO_MEMORY, "no memory to interpolate a slice of %dx%d voxels", size[0], size[1]);
        goto end;
    }
    for (int z = 0; z < out_size[2]; z++) {
        blend_rows(slice, inp + (size_t)places[2].left[z] * slice_length,
                   inp + (size_t)places[2].right[z] * slice_length, places[2].weight[z], slice_length);
        for (int y = 0; y < out_size[1]; y++) {
            blend_rows(row, slice + (size_t)places[1].left[y] * row_length,
                       slice + (size_t)places[1].right[y] * row_length, places[1].weight[y], row_length);
            sample_row(out, row, &places[0]);
            out += out_size[0];
        }
    }

end:
    for (int axis = 0; axis < 3; axis++) {
        axis_places_free(&places[axis]);
    }
    free(slice);
    return status;
}
