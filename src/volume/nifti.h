/* NIfTI files in and out.
 *
 * Read: NIfTI-1 and NIfTI-2, both byte orders, .nii or a .hdr/.img pair, plain or gzip (told by content, not
 * by name), every integer and float type up to 64 bits, scl_slope and scl_inter. Complex and RGB files are
 * refused; of 4D files the header alone is read.
 *
 * Every failure is one line that begins with the path. A file that is not there or cannot be read is VOCO_IO;
 * one that is not what it must be is VOCO_BAD_INPUT. Memory is never taken for more voxels than a file of
 * that length can hold, and voxels are decoded in pieces, so the floats are all that is held. All functions
 * may run in several threads at once. */
#ifndef VOLUME_NIFTI_H
#define VOLUME_NIFTI_H

#include "volume/volume.h"

#include <stddef.h>

/* Types that nifti_write takes; the values are those of the NIfTI standard. */
enum nifti_type { NIFTI_UINT8 = 2, NIFTI_INT16 = 4, NIFTI_FLOAT32 = 16 };

/* What a header says. */
struct nifti_info {
    int version;               /* 1 or 2 */
    int big_endian;            /* byte order of the file */
    const char *type;          /* "uint8", "int16", ...; static text */
    int bytes_per_voxel;       /* 1, 2, 4 or 8 */
    int size[3];               /* voxels along the file's axes */
    int volumes;               /* 1; more: a 4D file, the product of its axes from the fourth on */
    double spacing[3];         /* mm; the lengths of the affine's columns */
    double affine[3][4];       /* voxel index -> mm in RAS; metres and micrometres are already scaled to mm */
    const char *affine_source; /* "sform" where its code > 0, else "qform" where its code > 0, else "pixel
                                  sizes" (then voxel 0 lies at the origin and the axes run along x, y, z) */
    char orientation[4];       /* where each axis runs to, "RAS", "LPS", ... */
    double slope, inter;       /* value = slope * stored + inter; 1 and 0 where the file has no scaling */
};

/* Reads the header only. */
enum voco_status nifti_read_info(struct nifti_info *info, const char *path);

/* Reads header and voxels, scaled by slope and inter, as they lie in the file. NaN or infinite voxels are
 * VOCO_BAD_INPUT; the message says how many and where the first is. Free out with volume_free. */
enum voco_status nifti_read(struct volume *out, const char *path);

/* As nifti_read, from `count` bytes in memory; `name` stands for the path in messages. Pairs are refused. */
enum voco_status nifti_read_memory(struct volume *out, const void *bytes, size_t count, const char *name);

/* Writes NIfTI-1, gzipped where `path` ends with .gz. `data` holds size[0] * size[1] * size[2] voxels of the
 * type, x fastest. sform and qform are both written with code 1 (scanner); an affine with shear has no
 * quaternion and gets the sform only. The file appears under its name when it is whole. VOCO_BAD_INPUT for an
 * axis outside [1, 32767] or a singular affine; VOCO_IO when the disk refuses. */
enum voco_status nifti_write(const char *path, const int size[3], const double affine[3][4],
                             enum nifti_type type, const void *data);

/* The same of a volume with `channels` values a voxel: a 4D file whose fourth axis they are. `data` holds the
 * whole volume of the first channel, then that of the second, and so on. */
enum voco_status nifti_write_channels(const char *path, const int size[3], int channels,
                                      const double affine[3][4], enum nifti_type type, const void *data);

#endif
