#include "formats/png.h"

#include "base/error.h"

#include <png.h>
#include <stdlib.h>

enum voco_status png_encode_grey(unsigned char **bytes, size_t *size, const unsigned char *pixels, int width,
                                 int height)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_GRAY};
    png_alloc_size_t room = 0;
    *bytes = NULL;
    *size = 0;
    if (width < 1 || height < 1) {
        return fail(VOCO_BAD_INPUT, "a PNG image of %d x %d pixels", width, height);
    }
    image.width = (png_uint_32)width;
    image.height = (png_uint_32)height;
    if (!png_image_write_to_memory(&image, NULL, &room, 0, pixels, width, NULL)) {
        return fail(VOCO_BAD_INPUT, "a PNG image of %d x %d pixels: %s", width, height, image.message);
    }
    unsigned char *out = malloc(room);
    if (out == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for a PNG image of %d x %d pixels", width, height);
    }
    if (!png_image_write_to_memory(&image, out, &room, 0, pixels, width, NULL)) {
        free(out);
        return fail(VOCO_BAD_INPUT, "a PNG image of %d x %d pixels: %s", width, height, image.message);
    }
    *bytes = out;
    *size = room;
    return VOCO_OK;
}
