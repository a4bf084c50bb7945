/* NIfTI files made byte by byte from the standard's field offsets, so that the reader is held against
 * something that shares no code with it. */
#ifndef TESTS_VOLUME_NIFTI_BYTES_H
#define TESTS_VOLUME_NIFTI_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct nifti_sample {
    int version; /* 1 or 2 */
    int big_endian;
    int64_t dim[8];
    int datatype;
    int voxel_bytes;
    double pixdim[8];
    double slope, inter;
    int units;
    int qform_code, sform_code;
    double quatern[3], qoffset[3];
    double srow[3][4];
    double voxel_offset;
    const char *magic; /* 3 characters, or NULL: the right ones of a single file */
};

/* A NIfTI-1 of nx x ny x nz float32 voxels with an identity sform, little endian; change what the test is
 * about. */
struct nifti_sample plain_sample(int nx, int ny, int nz);

/* The whole file: header, gap, voxels (given in this machine's order). Free it. */
unsigned char *nifti_file_bytes(size_t *count, const struct nifti_sample *sample, const void *voxels,
                                size_t voxel_count);

/* One gzip member of stored blocks around the bytes. Free it. */
unsigned char *gzip_bytes(size_t *packed_count, const unsigned char *bytes, size_t count);

/* A folder for the files of a test program, made once and removed by remove_test_folder. */
const char *test_folder(void);
void remove_test_folder(void);

/* Writes a file into the test folder and returns its path (static, 4 of them in turn). */
const char *write_test_file(const char *name, const void *bytes, size_t count);
/* The path of a name in the test folder (static, 4 of them in turn). */
const char *test_path(const char *name);

/* The bytes of a file; free them. */
unsigned char *read_test_file(size_t *count, const char *path);

#endif
