#include "volume/nifti.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "volume/nifti_header.h"
#include "volume/orientation.h"

#include <isa-l/igzip_lib.h>
#include <math.h>
#include <nifti2_io.h>
#include <stdlib.h>
#include <string.h>

enum { header_and_extender = nifti_1_header_size + 4, packed_bytes = 1 << 18 };

static nifti_dmat44 matrix_of(const double affine[3][4])
{
    nifti_dmat44 matrix = {{{0}}};
    for (int row = 0; row < 3; row++) {
        for (int column = 0; column < 4; column++) {
            matrix.m[row][column] = affine[row][column];
        }
    }
    matrix.m[3][3] = 1;
    return matrix;
}

/* Fills the quaternion and qform_code; leaves the code 0 for an affine with shear, which no quaternion can
 * say. */
static void fill_qform(nifti_1_header *header, const double affine[3][4], const double spacing[3])
{
    double b, c, d, x, y, z, dx, dy, dz, face;
    nifti_dmat44_to_quatern(matrix_of(affine), &b, &c, &d, &x, &y, &z, &dx, &dy, &dz, &face);
    const nifti_dmat44 again =
        nifti_quatern_to_dmat44(b, c, d, x, y, z, spacing[0], spacing[1], spacing[2], face);
    for (int row = 0; row < 3; row++) {
        for (int axis = 0; axis < 3; axis++) {
            if (fabs(again.m[row][axis] - affine[row][axis]) > 1e-4 * spacing[axis]) {
                return;
            }
        }
    }
    header->qform_code = NIFTI_XFORM_SCANNER_ANAT;
    header->quatern_b = (float)b;
    header->quatern_c = (float)c;
    header->quatern_d = (float)d;
    header->qoffset_x = (float)x;
    header->qoffset_y = (float)y;
    header->qoffset_z = (float)z;
    header->pixdim[0] = (float)face;
}

/* channels 0: a 3D file. */
static nifti_1_header make_header(const int size[3], int channels, const double affine[3][4],
                                  enum nifti_type type, int bytes)
{
    nifti_1_header header = {.sizeof_hdr = nifti_1_header_size, .regular = 'r'};
    double spacing[3];
    affine_spacing(spacing, affine);
    header.dim[0] = channels > 0 ? 4 : 3;
    header.pixdim[0] = 1;
    for (int axis = 0; axis < 7; axis++) {
        header.dim[axis + 1] = axis < 3 ? (short)size[axis] : 1;
        header.pixdim[axis + 1] = axis < 3 ? (float)spacing[axis] : 0;
    }
    if (channels > 0) {
        header.dim[4] = (short)channels;
        header.pixdim[4] = 1;
    }
    header.datatype = (short)type;
    header.bitpix = (short)(8 * bytes);
    header.vox_offset = header_and_extender;
    header.scl_slope = 1;
    header.xyzt_units = NIFTI_UNITS_MM;
    fill_qform(&header, affine, spacing);
    header.sform_code = NIFTI_XFORM_SCANNER_ANAT;
    for (int column = 0; column < 4; column++) {
        header.srow_x[column] = (float)affine[0][column];
        header.srow_y[column] = (float)affine[1][column];
        header.srow_z[column] = (float)affine[2][column];
    }
    memcpy(header.magic, "n+1", 4);
    return header;
}

struct packer {
    struct isal_zstream stream;
    unsigned char out[packed_bytes];
    unsigned char level_buffer[ISAL_DEF_LVL2_DEFAULT];
};

/* Errors of the stream show in atomic_file_commit. */
static enum voco_status pack(struct packer *packer, FILE *file, const void *bytes, size_t count, int last)
{
    struct isal_zstream *stream = &packer->stream;
    enum { most_at_once = 1 << 30 };
    const unsigned char *next = bytes;
    do {
        const size_t piece = count < most_at_once ? count : most_at_once;
        stream->next_in = (uint8_t *)next;
        stream->avail_in = (uint32_t)piece;
        next += piece;
        count -= piece;
        stream->end_of_stream = last && count == 0;
        do {
            stream->next_out = packer->out;
            stream->avail_out = packed_bytes;
            if (isal_deflate(stream) != COMP_OK) {
                return fail(VOCO_IO, "gzip failed");
            }
            if (fwrite(packer->out, 1, packed_bytes - stream->avail_out, file) <
                packed_bytes - stream->avail_out) {
                return VOCO_OK;
            }
        } while (stream->avail_out == 0);
    } while (count > 0);
    return VOCO_OK;
}

static enum voco_status write_packed(FILE *file, const unsigned char *head, const void *data, size_t bytes)
{
    struct packer *packer = malloc(sizeof *packer);
    if (packer == NULL) {
        return fail(VOCO_NO_MEMORY, "out of memory");
    }
    isal_deflate_init(&packer->stream);
    packer->stream.gzip_flag = IGZIP_GZIP;
    packer->stream.level = 2;
    packer->stream.level_buf = packer->level_buffer;
    packer->stream.level_buf_size = sizeof packer->level_buffer;
    enum voco_status status = pack(packer, file, head, header_and_extender, 0);
    if (status == VOCO_OK) {
        status = pack(packer, file, data, bytes, 1);
    }
    free(packer);
    return status;
}

static enum voco_status write_file(const char *path, const int size[3], int channels,
                                   const double affine[3][4], enum nifti_type type, const void *data)
{
    size_t voxels = channels > 0 ? (size_t)channels : 1;
    for (int axis = 0; axis < 3; axis++) {
        if (size[axis] < 1 || size[axis] > INT16_MAX) {
            return fail(VOCO_BAD_INPUT, "%s: NIfTI-1 cannot hold an axis of %d voxels", path, size[axis]);
        }
        voxels *= (size_t)size[axis];
    }
    int voxel_bytes = 0;
    if (!affine_is_regular(affine) || nifti_type_name(type, &voxel_bytes) == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: the affine to write is singular", path);
    }
    const nifti_1_header header = make_header(size, channels, affine, type, voxel_bytes);
    unsigned char head[header_and_extender] = {0};
    memcpy(head, &header, sizeof header);
    const size_t bytes = voxels * (size_t)voxel_bytes;
    struct atomic_file file;
    enum voco_status status = atomic_file_open(&file, path);
    if (status != VOCO_OK) {
        return status;
    }
    const size_t length = strlen(path);
    if (length > 3 && strcmp(path + length - 3, ".gz") == 0) {
        status = write_packed(file.stream, head, data, bytes);
    } else if (fwrite(head, 1, sizeof head, file.stream) == sizeof head) {
        (void)!fwrite(data, 1, bytes, file.stream);
    }
    if (status != VOCO_OK) {
        atomic_file_discard(&file);
        return add_context(status, "%s", path);
    }
    return atomic_file_commit(&file);
}

enum voco_status nifti_write(const char *path, const int size[3], const double affine[3][4],
                             enum nifti_type type, const void *data)
{
    return write_file(path, size, 0, affine, type, data);
}

enum voco_status nifti_write_channels(const char *path, const int size[3], int channels,
                                      const double affine[3][4], enum nifti_type type, const void *data)
{
    return channels < 1 || channels > INT16_MAX
               ? fail(VOCO_BAD_INPUT, "%s: NIfTI-1 cannot hold %d channels", path, channels)
               : write_file(path, size, channels, affine, type, data);
}
