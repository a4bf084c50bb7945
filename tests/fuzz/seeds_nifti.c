/* Writes small valid NIfTI files into a folder, seeds for fuzz_nifti: both versions and byte orders, sform,
 * qform and neither, several types, scaling, a gap before the voxels, deflated gzip.   seeds_nifti FOLDER */
#include "volume/nifti.h"
#include "volume/nifti_bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nx = 5, ny = 4, nz = 3, voxel_count = nx * ny * nz };

static const char *folder;

static void write_seed(const char *name, const struct nifti_sample *sample, const void *voxels)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, sample, voxels, voxel_count);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    free(bytes);
}

/* nifti_write's own deflate, which the stored blocks of gzip_bytes() do not try. */
static void write_deflated(const float *voxels)
{
    static const double affine[3][4] = {{0, 0, 5, -7}, {-0.8, 0, 0, 3}, {0, -0.8, 0, 1}};
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/deflated.nii.gz", folder);
    if (nifti_write(path, (const int[3]){nx, ny, nz}, affine, NIFTI_FLOAT32, voxels) != VOCO_OK) {
        (void)fprintf(stderr, "%s\n", voco_error_message());
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: seeds_nifti FOLDER\n");
        return 2;
    }
    folder = argv[1];
    float real[voxel_count];
    double wide[voxel_count];
    int16_t whole[voxel_count];
    uint8_t byte[voxel_count];
    for (int i = 0; i < voxel_count; i++) {
        whole[i] = (int16_t)(i * 37 % 2000 - 1000);
        real[i] = (float)whole[i] / 3;
        wide[i] = whole[i] / 7.0;
        byte[i] = (uint8_t)(i * 5);
    }
    struct nifti_sample sample = plain_sample(nx, ny, nz);
    write_seed("sform-float32.nii", &sample, real);

    sample.datatype = 4;
    sample.voxel_bytes = 2;
    sample.big_endian = 1;
    sample.sform_code = 0;
    sample.qform_code = 1;
    sample.quatern[1] = 0.5;
    sample.qoffset[2] = -40;
    sample.pixdim[0] = -1;
    sample.pixdim[3] = 2.5;
    write_seed("qform-int16-big-endian.nii", &sample, whole);

    sample = plain_sample(nx, ny, nz);
    sample.version = 2;
    sample.datatype = 64;
    sample.voxel_bytes = 8;
    write_seed("version2-float64.nii", &sample, wide);
    sample.big_endian = 1;
    sample.voxel_offset = 600;
    write_seed("version2-float64-big-endian-gap.nii", &sample, wide);

    sample = plain_sample(nx, ny, nz);
    sample.datatype = 2;
    sample.voxel_bytes = 1;
    sample.sform_code = 0;
    sample.slope = 8;
    sample.inter = -1024;
    sample.units = 3;
    write_seed("pixel-sizes-uint8-scaled.nii", &sample, byte);
    write_deflated(real);
    return 0;
}
