#include "store/preparation_memory.h"

#include "volume/nifti.h"
#include "volume/prepared_volume.h"

#include <string.h>
#include <unistd.h>

enum { slices_held = 8, at_least_bytes = 32 << 20 };

/* Along which axis of the patient (0: x, 1: y, 2: z) an axis of the file runs. */
static int patient_axis(char direction)
{
    return direction == 'R' || direction == 'L' ? 0 : direction == 'A' || direction == 'P' ? 1 : 2;
}

uint64_t preparation_memory(const struct cache_request *request, uint64_t source_bytes)
{
    struct nifti_info info;
    const struct preset *preset = &request->settings->preset;
    if (nifti_read_info(&info, request->source) != VOCO_OK) {
        return at_least_bytes;
    }
    double before = 1.0;
    double after = 1.0;
    for (int axis = 0; axis < 3; axis++) {
        const int to = patient_axis(info.orientation[axis]);
        const double voxels = (info.size[axis] - 1) * info.spacing[axis] / preset->spacing[to] + 1.0;
        const int least =
            preset->window == WINDOW_CROP ? request->settings->window[to] : request->settings->window[2];
        before *= info.size[axis];
        after *= voxels > least ? voxels : least;
    }
    const double slice = (double)info.size[0] * info.size[1] * sizeof(float);
    double bytes = at_least_bytes + (double)source_bytes + slices_held * slice;
    if (preset->intensity == INTENSITY_ZSCORE || preset->window == WINDOW_RESIZE) {
        bytes += (before + after) * sizeof(float);
    } else {
        bytes += after * (double)stored_voxel_bytes(request->settings->levels);
    }
    return bytes < 9e18 ? (uint64_t)bytes : (uint64_t)9e18;
}

uint64_t preparation_memory_default(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 2 : (uint64_t)1 << 30;
}
