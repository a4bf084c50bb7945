/* The public face of preparing volumes: voco/voco.h. */
#include "voco/voco.h"

#include "base/error.h"
#include "volume/nifti.h"
#include "volume/prepare.h"

#include <stdlib.h>
#include <string.h>

const char *voco_version(void)
{
    return VOCO_VERSION;
}

static void hand_over(struct voco_volume *volume, const struct volume *from)
{
    memcpy(volume->size, from->size, sizeof volume->size);
    memcpy(volume->spacing, from->spacing, sizeof volume->spacing);
    memcpy(volume->affine, from->affine, sizeof volume->affine);
    volume->data = from->data;
}

enum voco_status voco_volume_read(struct voco_volume *volume, const char *path)
{
    struct volume read = {0};
    *volume = (struct voco_volume){0};
    const enum voco_status status = nifti_read(&read, path);
    if (status == VOCO_OK) {
        hand_over(volume, &read);
    }
    return status;
}

enum voco_status voco_volume_prepare(struct voco_volume *volume, const char *path, const char *preset,
                                     int roi)
{
    *volume = (struct voco_volume){0};
    if (roi < 1) {
        return fail(VOCO_BAD_INPUT, "a crop of %d voxels an axis: at least 1 is needed", roi);
    }
    struct preset settings;
    struct volume prepared = {0};
    const int at_least[3] = {roi, roi, roi};
    enum voco_status status = preset_from_name(&settings, preset);
    if (status == VOCO_OK) {
        status = prepare_volume(&prepared, path, &settings, at_least);
    }
    if (status == VOCO_OK) {
        hand_over(volume, &prepared);
    }
    return status;
}

enum voco_status voco_volume_crop(float *crop, const struct voco_volume *volume, const int start[3], int roi)
{
    for (int axis = 0; axis < 3; axis++) {
        if (roi < 1 || start[axis] < 0 || start[axis] > volume->size[axis] - roi) {
            return fail(VOCO_BAD_INPUT, "a crop of %d voxels from %d on does not fit axis %d of %d voxels",
                        roi, start[axis], axis, volume->size[axis]);
        }
    }
    const size_t row = (size_t)volume->size[0];
    const size_t slice = row * (size_t)volume->size[1];
    for (int x = 0; x < roi; x++) {
        for (int y = 0; y < roi; y++) {
            const float *from = volume->data + (size_t)start[2] * slice + (size_t)(start[1] + y) * row +
                                (size_t)(start[0] + x);
            for (int z = 0; z < roi; z++) {
                *crop++ = from[(size_t)z * slice];
            }
        }
    }
    return VOCO_OK;
}

void voco_volume_free(struct voco_volume *volume)
{
    free(volume->data);
    *volume = (struct voco_volume){0};
}
