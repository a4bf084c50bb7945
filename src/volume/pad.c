#include "volume/pad.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

enum voco_status pad_to_at_least(struct volume *volume, const int least[3])
{
    struct volume padded = *volume;
    int before[3];
    int grows = 0;
    for (int axis = 0; axis < 3; axis++) {
        const int missing = least[axis] > volume->size[axis] ? least[axis] - volume->size[axis] : 0;
        before[axis] = missing / 2;
        padded.size[axis] += missing;
        grows = grows || missing > 0;
        for (int row = 0; row < 3; row++) {
            padded.affine[row][3] -= before[axis] * volume->affine[row][axis];
        }
    }
    if (!grows) {
        return VOCO_OK;
    }
    padded.data = calloc(volume_count(&padded), sizeof *padded.data);
    if (padded.data == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the %zu padded voxels", volume_count(&padded));
    }
    const float *row = volume->data;
    for (int z = 0; z < volume->size[2]; z++) {
        for (int y = 0; y < volume->size[1]; y++, row += volume->size[0]) {
            const size_t line = (size_t)(z + before[2]) * (size_t)padded.size[1] + (size_t)(y + before[1]);
            memcpy(padded.data + line * (size_t)padded.size[0] + before[0], row,
                   (size_t)volume->size[0] * sizeof *row);
        }
    }
    volume_free(volume);
    *volume = padded;
    return VOCO_OK;
}
