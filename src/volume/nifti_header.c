#include "volume/nifti_header.h"

#include "base/error.h"
#include "volume/orientation.h"

#include <math.h>
#include <nifti2_io.h>
#include <pthread.h>
#include <string.h>

/* 2^33 voxels are 32 GiB of floats, eight times the largest volumes of any scanner. */
static const uint64_t most_voxels = UINT64_C(1) << 33;

/* The fields of either version that must be bounded before nifti_clib turns them into ints and products. */
struct claims {
    int64_t dim[8];
    int datatype;
    double voxel_offset;
    const char *magic;
};

int nifti_header_size(const unsigned char bytes[4])
{
    uint32_t size;
    memcpy(&size, bytes, 4);
    if (size == nifti_1_header_size || __builtin_bswap32(size) == nifti_1_header_size) {
        return nifti_1_header_size;
    }
    if (size == nifti_2_header_size || __builtin_bswap32(size) == nifti_2_header_size) {
        return nifti_2_header_size;
    }
    return 0;
}

const char *nifti_type_name(int type, int *bytes)
{
    static const struct {
        int type, bytes;
        const char *name;
    } types[] = {
        {DT_INT8, 1, "int8"},       {DT_UINT8, 1, "uint8"},   {DT_INT16, 2, "int16"},
        {DT_UINT16, 2, "uint16"},   {DT_INT32, 4, "int32"},   {DT_UINT32, 4, "uint32"},
        {DT_INT64, 8, "int64"},     {DT_UINT64, 8, "uint64"}, {DT_FLOAT32, 4, "float32"},
        {DT_FLOAT64, 8, "float64"},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].type == type) {
            *bytes = types[i].bytes;
            return types[i].name;
        }
    }
    return NULL;
}

static enum voco_status refuse_type(int type, const char *name)
{
    static const struct {
        int type;
        const char *name;
    } known[] = {
        {DT_BINARY, "1-bit voxels"},    {DT_COMPLEX64, "complex64"}, {DT_COMPLEX128, "complex128"},
        {DT_COMPLEX256, "complex256"},  {DT_RGB24, "RGB"},           {DT_RGBA32, "RGBA"},
        {DT_FLOAT128, "128-bit float"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].type == type) {
            return fail(VOCO_BAD_INPUT,
                        "%s: its data type is %s; integers and floats up to 64 bits can be read", name,
                        known[i].name);
        }
    }
    return fail(VOCO_BAD_INPUT, "%s: header has the unknown data type %d", name, type);
}

static enum voco_status check_dimensions(struct nifti_header *header, const int64_t dim[8], const char *name)
{
    if (dim[0] < 1 || dim[0] > 7) {
        return fail(VOCO_BAD_INPUT, "%s: header has %lld dimensions, where 1 to 7 are possible", name,
                    (long long)dim[0]);
    }
    uint64_t voxels = 1, volumes = 1;
    for (int axis = 1; axis <= dim[0]; axis++) {
        if (dim[axis] < 1) {
            return fail(VOCO_BAD_INPUT, "%s: header has dimension %d of %lld voxels", name, axis,
                        (long long)dim[axis]);
        }
        if (dim[axis] > INT32_MAX || (uint64_t)dim[axis] > most_voxels / voxels) {
            return fail(VOCO_BAD_INPUT, "%s: header has dimension %d of %lld voxels, over %llu in all", name,
                        axis, (long long)dim[axis], (unsigned long long)most_voxels);
        }
        voxels *= (uint64_t)dim[axis];
        volumes *= axis > 3 ? (uint64_t)dim[axis] : 1;
    }
    if (volumes > INT32_MAX) {
        return fail(VOCO_BAD_INPUT, "%s: header has %llu volumes", name, (unsigned long long)volumes);
    }
    header->info.volumes = (int)volumes;
    for (int axis = 0; axis < 3; axis++) {
        header->info.size[axis] = axis < dim[0] ? (int)dim[axis + 1] : 1;
    }
    header->voxels = voxels;
    return VOCO_OK;
}

static enum voco_status check_claims(struct nifti_header *header, const struct claims *claims,
                                     const char *name)
{
    const int version = header->info.version;
    const char *suffix = version == 1 ? "1" : "2\0\r\n\032\n";
    const size_t suffix_length = version == 1 ? 2 : 6;
    if (claims->magic[0] != 'n' || (claims->magic[1] != '+' && claims->magic[1] != 'i') ||
        memcmp(claims->magic + 2, suffix, suffix_length) != 0) {
        return fail(VOCO_BAD_INPUT, "%s: header lacks the mark of NIfTI-%d%s", name, version,
                    version == 1 ? " (ANALYZE files are not read)" : "");
    }
    header->is_pair = claims->magic[1] == 'i';
    const enum voco_status status = check_dimensions(header, claims->dim, name);
    if (status != VOCO_OK) {
        return status;
    }
    header->type = claims->datatype;
    header->info.type = nifti_type_name(claims->datatype, &header->info.bytes_per_voxel);
    if (header->info.type == NULL) {
        return refuse_type(claims->datatype, name);
    }
    header->voxel_bytes = (uint64_t)header->voxels * (uint64_t)header->info.bytes_per_voxel;
    if (!(claims->voxel_offset >= 0 && claims->voxel_offset <= 1e12)) {
        return fail(VOCO_BAD_INPUT, "%s: header places the voxels at byte %g", name, claims->voxel_offset);
    }
    header->voxel_offset = (uint64_t)claims->voxel_offset;
    const uint64_t header_size = version == 1 ? nifti_1_header_size : nifti_2_header_size;
    if (!header->is_pair && header->voxel_offset < header_size) {
        header->voxel_offset = header_size + 4; /* the 4 bytes that announce extensions */
    }
    return VOCO_OK;
}

static double positive_length(double length)
{
    return isfinite(length) && length != 0 ? fabs(length) : 1.0;
}

static enum voco_status take_geometry(struct nifti_info *info, const nifti_image *image, const char *name)
{
    double scale = 1;
    if (image->xyz_units == NIFTI_UNITS_METER) {
        scale = 1e3;
    } else if (image->xyz_units == NIFTI_UNITS_MICRON) {
        scale = 1e-3;
    }
    /* Without a qform, nifti_clib puts the pixel sizes into qto_xyz. */
    const nifti_dmat44 *matrix = image->sform_code > 0 ? &image->sto_xyz : &image->qto_xyz;
    info->affine_source = image->sform_code > 0 ? "sform" : image->qform_code > 0 ? "qform" : "pixel sizes";
    for (int row = 0; row < 3; row++) {
        for (int column = 0; column < 4; column++) {
            info->affine[row][column] = scale * matrix->m[row][column];
        }
    }
    if (!affine_is_regular(info->affine)) {
        return fail(VOCO_BAD_INPUT, "%s: the affine of its %s is singular", name, info->affine_source);
    }
    affine_spacing(info->spacing, info->affine);
    orientation_code(info->orientation, info->affine);
    return VOCO_OK;
}

static void take_scaling(struct nifti_info *info, const nifti_image *image)
{
    const int scaled = isfinite(image->scl_slope) && image->scl_slope != 0;
    info->slope = scaled ? image->scl_slope : 1;
    info->inter = scaled && isfinite(image->scl_inter) ? image->scl_inter : 0;
}

static void silence_nifti_clib(void)
{
    nifti_set_debug_level(0);
}

/* Takes a header in this machine's byte order, whose claims are checked. */
static enum voco_status take_image(struct nifti_header *header, nifti_image *image, const char *name)
{
    if (image == NULL) {
        return fail(VOCO_BAD_INPUT, "%s: header is not valid NIfTI", name);
    }
    take_scaling(&header->info, image);
    const enum voco_status status = take_geometry(&header->info, image, name);
    nifti_image_free(image);
    return status;
}

static enum voco_status parse_version_1(struct nifti_header *header, const unsigned char *bytes,
                                        const char *name)
{
    nifti_1_header raw;
    memcpy(&raw, bytes, sizeof raw);
    if (header->foreign) {
        nifti_swap_as_nifti1(&raw);
    }
    struct claims claims = {.datatype = raw.datatype, .voxel_offset = raw.vox_offset, .magic = raw.magic};
    for (int i = 0; i < 8; i++) {
        claims.dim[i] = raw.dim[i];
    }
    const enum voco_status status = check_claims(header, &claims, name);
    if (status != VOCO_OK) {
        return status;
    }
    for (int i = 1; i < 8; i++) {
        raw.pixdim[i] = (float)positive_length(raw.pixdim[i]);
    }
    return take_image(header, nifti_convert_n1hdr2nim(raw, NULL), name);
}

static enum voco_status parse_version_2(struct nifti_header *header, const unsigned char *bytes,
                                        const char *name)
{
    nifti_2_header raw;
    memcpy(&raw, bytes, sizeof raw);
    if (header->foreign) {
        nifti_swap_as_nifti2(&raw);
    }
    struct claims claims = {
        .datatype = raw.datatype, .voxel_offset = (double)raw.vox_offset, .magic = raw.magic};
    memcpy(claims.dim, raw.dim, sizeof claims.dim);
    const enum voco_status status = check_claims(header, &claims, name);
    if (status != VOCO_OK) {
        return status;
    }
    for (int i = 1; i < 8; i++) {
        raw.pixdim[i] = positive_length(raw.pixdim[i]);
    }
    return take_image(header, nifti_convert_n2hdr2nim(raw, NULL), name);
}

enum voco_status nifti_parse_header(struct nifti_header *header, const unsigned char *bytes, const char *name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, silence_nifti_clib);
    *header = (struct nifti_header){0};
    const int size = nifti_header_size(bytes);
    uint32_t stored;
    memcpy(&stored, bytes, 4);
    header->foreign = stored != (uint32_t)size;
    header->info.version = size == nifti_1_header_size ? 1 : 2;
    header->info.big_endian = header->foreign != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
    return header->info.version == 1 ? parse_version_1(header, bytes, name)
                                     : parse_version_2(header, bytes, name);
}
