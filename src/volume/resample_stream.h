/* Resampling a file along its axes while it is read: slice for slice in the order of the file, so that only a
 * few slices of it and the result are ever held. Private to this folder.
 *
 * A slice is unpacked, turned to floats and resampled within its plane; output slices are blends of two
 * neighbouring planes. Slices that no output needs are only checked. */
#ifndef VOLUME_RESAMPLE_STREAM_H
#define VOLUME_RESAMPLE_STREAM_H

#include "volume/axis_places.h"
#include "volume/voxel_reader.h"

struct stream_job {
    const struct axis_places *places; /* [3]: of the file's axes, fastest first */
    int windowed;                     /* whether values are scaled to [0, 1]: (v - low) / width, clipped */
    float low, width;
    int levels;  /* 0: floats; 255, 4095, 65535: round(levels * value) in 8 or 16 bits; only of windowed ones
                  */
    int threads; /* >= 1; with more than one, one of them reads ahead */
};

/* Reads all voxels and the end of an opened file. out has room for the product of the places' counts; axes
 * in the order of the file, first one fastest. Where windowed, [first, end) is the bounding box of the values
 * > 0 in out's indices (before quantising), all 0 where there is none.
 *
 * Fails as voxel_reader does; VOCO_BAD_INPUT where all voxels have one value. Messages begin with the path.
 * May run in several threads at once. */
enum voco_status resample_stream(void *out, int first[3], int end[3], struct voxel_reader *reader,
                                 const struct stream_job *job);

#endif
