#include "train/crop_montage.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* Draws the middle slice of a crop (R, R, R), z fastest, with its left upper pixel at `to`. */
static void draw(unsigned char *to, int width, const float *crop, int roi)
{
    const size_t side = (size_t)roi;
    for (size_t y = 0; y < side; y++) {
        for (size_t x = 0; x < side; x++) {
            const float value = crop[(x * side + y) * side + side / 2];
            const float bounded = value > 0.0F ? (value < 1.0F ? value : 1.0F) : 0.0F;
            to[(side - 1 - y) * (size_t)width + x] = (unsigned char)(255.0F * bounded + 0.5F);
        }
    }
}

enum voco_status crop_montage_make(struct crop_montage *montage, const struct batch *batch)
{
    const int rows = batch->volumes < crop_montage_rows ? batch->volumes : crop_montage_rows;
    const int columns = batch->crops + batch->bases, step = batch->roi + 1;
    *montage = (struct crop_montage){.width = columns * step - 1, .height = rows * step - 1};
    const size_t count = (size_t)montage->width * (size_t)montage->height;
    const size_t side = (size_t)batch->roi;
    float *crop = malloc(side * side * side * sizeof *crop);
    montage->pixels = malloc(count);
    if (montage->pixels == NULL || crop == NULL) {
        free(crop);
        free(montage->pixels);
        *montage = (struct crop_montage){0};
        return fail(VOCO_NO_MEMORY, "no memory for a picture of %d x %d crops", rows, columns);
    }
    memset(montage->pixels, 255, count);
    for (int v = 0; v < rows; v++) {
        for (int column = 0; column < columns; column++) {
            const size_t index = column < batch->crops ? batch_random_index(batch, v, column)
                                                       : batch_base_index(batch, v, column - batch->crops);
            unsigned char *to =
                montage->pixels + (size_t)(v * step) * (size_t)montage->width + (size_t)(column * step);
            batch_read_crop(crop, batch, index);
            draw(to, montage->width, crop, batch->roi);
        }
    }
    free(crop);
    return VOCO_OK;
}
