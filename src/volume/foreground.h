/* The box around the patient. */
#ifndef VOLUME_FOREGROUND_H
#define VOLUME_FOREGROUND_H

#include "volume/volume.h"

/* The bounding box of the values > 0: first[axis] <= voxel < end[axis]. Returns 0, and an empty box, where
 * there is none. */
int foreground_bounds(int first[3], int end[3], const struct volume *volume);

#endif
