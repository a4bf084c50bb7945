/* The arithmetic of preparation on rows of voxels, vectorised. Private to this folder.
 *
 * Interpolation between two rows is left + weight * (right - left), exact where left = right, so what is
 * constant stays so and lies on the same side of the intensity window. */
#ifndef VOLUME_ROWS_H
#define VOLUME_ROWS_H

#include "volume/axis_places.h"

#include <stddef.h>
#include <stdint.h>

/* out[i] = left[i] + weight * (right[i] - left[i]) */
void blend_rows(float *restrict out, const float *left, const float *right, float weight, size_t count);

/* out[i] = the value of the row at place i; `row` has as many voxels as the axis the places lie on. */
void sample_row(float *restrict out, const float *restrict row, const struct axis_places *places);

/* values[i] = (values[i] - low) / width, clipped to [0, 1]; NaN becomes 0. */
void window_row(float *values, size_t count, float low, float width);

/* seen[i] |= the bits of values[i], which are >= 0 (so seen[i] is not 0 where one was above 0); returns
 * whether any is above 0. */
int mark_foreground(uint32_t *restrict seen, const float *restrict values, size_t count);

/* out[i] = round(levels * values[i]), halves to even, values clipped to [0, 1], NaN 0. levels <= 255. */
void quantise_bytes(uint8_t *restrict out, const float *restrict values, size_t count, int levels);

/* The same in 16 bits, levels <= 65535. */
void quantise_words(uint16_t *restrict out, const float *restrict values, size_t count, int levels);

#endif
