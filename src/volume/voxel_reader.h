/* The voxels of a NIfTI file in their order, a piece at a time. Private to this folder.
 *
 * Reading and converting are apart, so that pieces can be converted by other threads while the next one is
 * read: voxel_reader_read delivers stored voxels, nifti_convert_voxels makes floats of them, not_finite_count
 * looks through these, and voxel_reader_finish gives the verdict on the whole file. Every message begins with
 * the path. */
#ifndef VOLUME_VOXEL_READER_H
#define VOLUME_VOXEL_READER_H

#include "volume/byte_source.h"
#include "volume/nifti_header.h"
#include "volume/volume.h"

struct voxel_reader {
    struct nifti_header header;
    struct byte_source *source; /* owned; stands behind the header, then behind what was read */
    uint64_t at;                /* bytes read before the voxels */
    size_t done;                /* voxels read */
};

/* Reads the header of a file or of the header file of a pair, and finds the first voxel. Close it with
 * voxel_reader_close (which is fine after a failure, too). */
enum voco_status voxel_reader_open(struct voxel_reader *reader, const char *path);

/* The same from memory; pairs are refused. `bytes` and `name` must stay. */
enum voco_status voxel_reader_open_memory(struct voxel_reader *reader, const void *bytes, size_t count,
                                          const char *name);

/* The header only: of a pair, its image file need not be there. */
enum voco_status voxel_reader_open_header(struct voxel_reader *reader, const char *path);

void voxel_reader_close(struct voxel_reader *reader);

const char *voxel_reader_name(const struct voxel_reader *reader);

/* Copies the next `count` voxels to raw as they are stored; there must be so many. */
enum voco_status voxel_reader_read(struct voxel_reader *reader, void *raw, size_t count);

/* NaN and infinities among the voxels looked through. */
struct not_finite {
    size_t count;
    size_t first; /* index of the first one in the file */
};

/* Adds what is found in values[0 .. count), which are the file's voxels from `offset` on. */
void not_finite_count(struct not_finite *found, const float *values, size_t count, size_t offset);

/* Whether voxels of this file can be NaN or infinite as floats: not where they are integers of usual scale.
 */
int voxels_may_be_not_finite(const struct nifti_header *header);

/* When all voxels are read: fails where any was not finite, reads to the end of the file, where gzip has its
 * checksum, and fails where that is wrong or too far away. */
enum voco_status voxel_reader_finish(struct voxel_reader *reader, const struct not_finite *found);

/* All of it at once: every voxel of an opened file as floats, as they lie there, and its end checked. Free
 * out with volume_free. */
enum voco_status voxel_reader_all(struct volume *out, struct voxel_reader *reader);

#endif
