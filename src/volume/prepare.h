/* From a file to what the network sees: the preprocessing of voco.md section 5, its presets, in one call. */
#ifndef VOLUME_PREPARE_H
#define VOLUME_PREPARE_H

#include "volume/prepared_volume.h"
#include "volume/volume.h"

enum intensity_kind {
    INTENSITY_WINDOW, /* HU window [low, high] -> [0, 1], clipped */
    INTENSITY_ZSCORE, /* MR: z-score over the foreground, clipped to its 0.5 and 99.5 percentile, scaled to
                         [0, 1] */
};

/* How the 3R x 3R x R window is later taken from the volume. */
enum window_kind { WINDOW_CROP, WINDOW_RESIZE };

struct preset {
    char name[32];
    double spacing[3]; /* mm */
    double low, high;  /* HU, of INTENSITY_WINDOW */
    enum intensity_kind intensity;
    enum window_kind window;
};

/* "abdomen", "chest", "headneck", "mr"; VOCO_BAD_INPUT, naming them, for any other. */
enum voco_status preset_from_name(struct preset *preset, const char *name);

/* Loads, orients to RAS, resamples, scales intensity to [0, 1], crops to the foreground, zero-pads
 * symmetrically to at least `at_least` voxels per axis (x, y, z). The voxels are those of MONAI's Spacing:
 * see volume/resampling_plan.h; a spacing within 1e-3 mm of the preset's stays what it is. The result's
 * affine is right for its voxels. One thread works; peak memory is twice the result's. A constant volume, one
 * without foreground, NaN or infinite voxels are VOCO_BAD_INPUT; every message names the file. */
enum voco_status prepare_volume(struct volume *out, const char *path, const struct preset *preset,
                                const int at_least[3]);

/* The same for the cache: quantised to `levels` (255, 4095 or 65535) straight from the interpolated floats,
 * or floats where `levels` is 0. Peak memory is that of the result plus a few slices of the file, except
 * where intensities depend on the whole volume (INTENSITY_ZSCORE) or the axes are sheared. `threads` (>= 1)
 * work on the one volume; a gzip stream is unpacked by one of them, so more than two or three add little. The
 * result is the same to the bit whatever their number and the machine. May be called from several threads at
 * once. Free with prepared_volume_free. */
enum voco_status prepare_quantised(struct prepared_volume *out, const char *path, const struct preset *preset,
                                   const int at_least[3], int levels, int threads);

#endif
