/* What nifti_read needs to know of a header beyond what it tells the caller. Private to this folder. */
#ifndef VOLUME_NIFTI_HEADER_H
#define VOLUME_NIFTI_HEADER_H

#include "volume/nifti.h"

#include <stddef.h>
#include <stdint.h>

enum { nifti_1_header_size = 348, nifti_2_header_size = 540 };

struct nifti_header {
    struct nifti_info info;
    int type;              /* the code of the standard: DT_UINT8, ... */
    int foreign;           /* voxels must be byte-swapped */
    int is_pair;           /* the voxels lie in a file of their own */
    uint64_t voxel_offset; /* bytes before the first voxel */
    size_t voxels;
    uint64_t voxel_bytes;
};

/* How long the header is that begins with these 4 bytes, in either byte order; 0: no NIfTI header. */
int nifti_header_size(const unsigned char bytes[4]);

/* Checks and understands a whole header of nifti_header_size() bytes. VOCO_BAD_INPUT names the file and what
 * is wrong. */
enum voco_status nifti_parse_header(struct nifti_header *header, const unsigned char *bytes,
                                    const char *name);

/* Turns `count` stored voxels into floats: out[i] = slope * raw[i] + inter. raw is byte-swapped in place
 * where the file has the other byte order; it must be aligned for 8 bytes. */
void nifti_convert_voxels(float *out, void *raw, size_t count, const struct nifti_header *header);

/* "uint8" ... "float64" for the codes that can be read, NULL for any other; *bytes is then the size of a
 * voxel. */
const char *nifti_type_name(int type, int *bytes);

/* For one file of a .hdr/.img pair, the names of both: looks for the missing one beside it, with and without
 * .gz. Sets them to NULL where `path` does not end like one of a pair. Free both. */
enum voco_status nifti_pair_paths(char **header_path, char **image_path, const char *path);

#endif
