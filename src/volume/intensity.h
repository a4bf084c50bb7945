/* Intensities to [0, 1]. */
#ifndef VOLUME_INTENSITY_H
#define VOLUME_INTENSITY_H

#include "voco/status.h"

#include <stddef.h>

/* CT: values[i] = (values[i] - low) / (high - low), clipped to [0, 1]; low and high in HU, low < high. */
void scale_window(float *values, size_t count, double low, double high);

/* MR, whose units mean nothing: z-score over the foreground, clipped to the foreground's 0.5 and 99.5
 * percentile, scaled to [0, 1]; background (and what is darker than the lower percentile) is 0. Mean and
 * deviation cancel in the scaling, so what is computed is (v - p0.5) / (p99.5 - p0.5), clipped.
 *
 * Foreground are the voxels above t2 + (t98 - t2) / 10, t2 and t98 being the 2nd and 98th percentile of all
 * voxels, as in the robust range of FSL BET (Smith, "Fast robust automated brain extraction", HBM 2002):
 * above the noise of the air, and not above dark tissue. Where t2 = t98 (nearly all background), minimum and
 * maximum stand for them. VOCO_BAD_INPUT where the foreground has a single value. */
enum voco_status scale_mr(float *values, size_t count);

/* The p-th percentile (0 to 100) of the values above `threshold`, interpolated between ranks as numpy does;
 * there must be one. Exact and without a copy. */
double percentile_above(const float *values, size_t count, double threshold, double p);

#endif
