#include "store/preparation_memory.h"

#include "base/machine_memory.h"
#include "volume/nifti.h"
#include "volume/prepared_volume.h"
#include "volume/resampling_plan.h"

enum { slices_held = 16, at_least_bytes = 16 << 20 };

/* Along which axis of the patient (0: x, 1: y, 2: z) an axis of the file runs. */
static int patient_axis(char direction)
{
    return direction == 'R' || direction == 'L' ? 0 : direction == 'A' || direction == 'P' ? 1 : 2;
}

/* The grid after resampling. */
static enum voco_status plan(struct resampling_plan *out, const struct nifti_info *info,
                             const double spacing[3])
{
    int size[3];
    double affine[3][4];
    for (int row = 0; row < 3; row++) {
        affine[row][3] = info->affine[row][3];
    }
    for (int axis = 0; axis < 3; axis++) {
        const char direction = info->orientation[axis];
        const int to = patient_axis(direction);
        const int turned = direction == 'L' || direction == 'P' || direction == 'I';
        size[to] = info->size[axis];
        for (int row = 0; row < 3; row++) {
            const double step = info->affine[row][axis];
            affine[row][to] = turned ? -step : step;
            affine[row][3] += turned ? step * (info->size[axis] - 1) : 0.0;
        }
    }
    return plan_resampling(out, size, affine, spacing);
}

uint64_t preparation_memory(const struct cache_request *request)
{
    struct nifti_info info;
    struct resampling_plan grid;
    const struct preset *preset = &request->settings->preset;
    const int *window = request->settings->window;
    if (nifti_read_info(&info, request->source) != VOCO_OK ||
        plan(&grid, &info, preset->spacing) != VOCO_OK) {
        return at_least_bytes;
    }
    double before = 1.0;
    double after = 1.0;
    for (int axis = 0; axis < 3; axis++) {
        const int least = preset->window == WINDOW_CROP ? window[axis] : window[2];
        before *= info.size[axis];
        after *= grid.size[axis] > least ? grid.size[axis] : least;
    }
    double bytes =
        at_least_bytes + slices_held * sizeof(float) * (before / info.size[2] + after / grid.size[2]);
    if (!grid.along_axes) {
        bytes += before * sizeof(float);
    }
    if (preset->window == WINDOW_RESIZE) { /* floats, once more where they are padded */
        bytes += 2.0 * after * sizeof(float) + (double)window[0] * window[1] * window[2] * sizeof(float);
    } else if (preset->intensity == INTENSITY_ZSCORE) {
        bytes += after * (sizeof(float) + (double)stored_voxel_bytes(request->settings->levels));
    } else {
        bytes += after * (double)stored_voxel_bytes(request->settings->levels);
    }
    return bytes < 9e18 ? (uint64_t)bytes : (uint64_t)9e18;
}

uint64_t preparation_memory_default(void)
{
    const uint64_t available = memory_available();
    return available > 0 ? available / 2 : (uint64_t)1 << 30;
}
