#include "volume/prepare.h"

#include "base/error.h"
#include "volume/foreground.h"
#include "volume/intensity.h"
#include "volume/nifti.h"
#include "volume/orientation.h"
#include "volume/pad.h"
#include "volume/resample.h"

#include <stdlib.h>
#include <string.h>

static const struct preset presets[] = {
    {"abdomen", {1.5, 1.5, 1.5}, -175, 250, INTENSITY_WINDOW, WINDOW_CROP},
    {"chest", {1.25, 1.25, 5.0}, -1000, 500, INTENSITY_WINDOW, WINDOW_CROP},
    {"headneck", {1.5, 1.5, 1.5}, -175, 250, INTENSITY_WINDOW, WINDOW_RESIZE},
    {"mr", {1.5, 1.5, 1.5}, 0, 0, INTENSITY_ZSCORE, WINDOW_RESIZE},
};

enum voco_status preset_from_name(struct preset *preset, const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *preset = presets[i];
            return VOCO_OK;
        }
    }
    return fail(VOCO_BAD_INPUT, "there is no preset %s; there are abdomen, chest, headneck and mr", name);
}

/* A constant volume is a broken export; nothing can be learnt from it. */
static enum voco_status check_not_constant(const struct volume *volume)
{
    const size_t count = volume_count(volume);
    for (size_t i = 1; i < count; i++) {
        if (volume->data[i] != volume->data[0]) {
            return VOCO_OK;
        }
    }
    return fail(VOCO_BAD_INPUT, "constant: all %zu voxels have the value %g", count, volume->data[0]);
}

static enum voco_status scale_intensity(struct volume *volume, const struct preset *preset)
{
    if (preset->intensity == INTENSITY_ZSCORE) {
        return scale_mr(volume->data, volume_count(volume));
    }
    scale_window(volume->data, volume_count(volume), preset->low, preset->high);
    return VOCO_OK;
}

static enum voco_status crop_to_foreground(struct volume *volume, const struct preset *preset)
{
    int first[3];
    int end[3];
    if (!foreground_bounds(first, end, volume)) {
        return preset->intensity == INTENSITY_WINDOW
                   ? fail(VOCO_BAD_INPUT,
                          "no foreground: no voxel is above %g, where the window of preset %s begins",
                          preset->low, preset->name)
                   : fail(VOCO_BAD_INPUT, "no foreground");
    }
    crop_to_bounds(volume, first, end);
    return VOCO_OK;
}

/* The steps of voco.md section 5, in its order. */
static enum voco_status prepare_in_place(struct volume *volume, const struct preset *preset,
                                         const int at_least[3])
{
    enum voco_status status = check_not_constant(volume);
    if (status == VOCO_OK) {
        status = orient_to_ras(volume);
    }
    if (status == VOCO_OK) {
        status = resample_to_spacing(volume, preset->spacing);
    }
    if (status == VOCO_OK) {
        status = scale_intensity(volume, preset);
    }
    if (status == VOCO_OK) {
        status = crop_to_foreground(volume, preset);
    }
    if (status == VOCO_OK) {
        status = pad_to_at_least(volume, at_least);
    }
    return status;
}

enum voco_status prepare_volume(struct volume *out, const char *path, const struct preset *preset,
                                const int at_least[3])
{
    enum voco_status status = nifti_read(out, path);
    if (status != VOCO_OK) {
        return status;
    }
    status = prepare_in_place(out, preset, at_least);
    if (status != VOCO_OK) {
        volume_free(out);
        return add_context(status, "%s", path);
    }
    return VOCO_OK;
}

enum voco_status prepare_quantised(struct prepared_volume *out, const char *path, const struct preset *preset,
                                   const int at_least[3], int levels, int threads)
{
    (void)threads;
    *out = (struct prepared_volume){0};
    struct volume volume;
    enum voco_status status = prepare_volume(&volume, path, preset, at_least);
    if (status != VOCO_OK) {
        return status;
    }
    *out = prepared_volume_of(&volume);
    out->storage = volume.data;
    if (levels == 0) {
        return VOCO_OK;
    }
    const struct prepared_volume floats = *out;
    void *stored = malloc(volume_count(&volume) * stored_voxel_bytes(levels));
    if (stored == NULL) {
        prepared_volume_free(out);
        return fail(VOCO_NO_MEMORY, "%s: no memory for %zu voxels", path, volume_count(&volume));
    }
    (void)prepared_volume_block(stored, levels, &floats, (const int[3]){0, 0, 0}, floats.size);
    free(out->storage);
    out->storage = stored;
    out->voxels = stored;
    out->levels = levels;
    out->stride[0] = (ptrdiff_t)out->size[1] * out->size[2];
    out->stride[1] = out->size[2];
    out->stride[2] = 1;
    return VOCO_OK;
}
