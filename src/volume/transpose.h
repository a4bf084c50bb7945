/* Turning rows into columns. Private to this folder. */
#ifndef VOLUME_TRANSPOSE_H
#define VOLUME_TRANSPOSE_H

#include <stddef.h>
#include <stdint.h>

/* out[column * out_pitch + row] = in[row * in_pitch + column], for all rows and columns. Pitches are in
 * elements and may be negative; the arrays do not overlap. */
void transpose_bytes(uint8_t *out, ptrdiff_t out_pitch, const uint8_t *in, ptrdiff_t in_pitch, int rows,
                     int columns);
void transpose_words(uint16_t *out, ptrdiff_t out_pitch, const uint16_t *in, ptrdiff_t in_pitch, int rows,
                     int columns);

#endif
