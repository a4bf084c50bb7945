/* The crops of a batch as one picture, to see with one's own eyes what the network is shown.
 *
 * A row per volume, the first crop_montage_rows of them: its random crops, then its bases. Of each crop the
 * middle slice along z, x to the right, y upwards, 0 black and 1 white; a white line between two crops. */
#ifndef TRAIN_CROP_MONTAGE_H
#define TRAIN_CROP_MONTAGE_H

#include "data/batch.h"

enum { crop_montage_rows = 4 };

struct crop_montage {
    int width, height;
    unsigned char *pixels; /* (height, width), from the top; owned, to be freed */
};

/* VOCO_NO_MEMORY. */
enum voco_status crop_montage_make(struct crop_montage *montage, const struct batch *batch);

#endif
