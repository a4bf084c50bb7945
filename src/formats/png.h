/* PNG images, written through libpng. */
#ifndef FORMATS_PNG_H
#define FORMATS_PNG_H

#include "voco/status.h"

#include <stddef.h>

/* The bytes of the PNG file of a grey image (height, width), 8 bits a pixel, row by row from the top. *bytes
 * is to be freed. VOCO_BAD_INPUT where width or height is below 1 or libpng refuses, VOCO_NO_MEMORY. */
enum voco_status png_encode_grey(unsigned char **bytes, size_t *size, const unsigned char *pixels, int width,
                                 int height);

#endif
