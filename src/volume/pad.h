/* Room around a volume. */
#ifndef VOLUME_PAD_H
#define VOLUME_PAD_H

#include "volume/volume.h"

/* Zeros on both sides of each axis that has fewer voxels than least[axis], so that it has as many:
 * floor(half) of them before, the rest after, as MONAI's SpatialPad does. Voxels keep their places in the
 * world. */
enum voco_status pad_to_at_least(struct volume *volume, const int least[3]);

#endif
