#include "volume/voxel_reader.h"

#include "base/error.h"

#include <float.h>
#include <math.h>
#include <nifti1.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* What may follow the last voxel before the file counts as one whose header is wrong. */
    most_trailing_bytes = 1 << 24
};

static int ends_with_gz(const char *path)
{
    const size_t length = strlen(path);
    return length > 3 && strcmp(path + length - 3, ".gz") == 0;
}

static enum voco_status read_header(struct voxel_reader *reader)
{
    struct byte_source *source = reader->source;
    const char *name = byte_source_name(source);
    unsigned char bytes[nifti_2_header_size];
    size_t got = byte_source_read(source, bytes, 4);
    if (got < 4) {
        return byte_source_failure(source, got, "the header");
    }
    const int size = nifti_header_size(bytes);
    if (size == 0) {
        return fail(VOCO_BAD_INPUT, "%s: %s", name,
                    byte_source_is_gzip(source) ? "what is in the gzip stream is not NIfTI"
                    : ends_with_gz(name)        ? "is neither a gzip stream nor NIfTI"
                                                : "is not NIfTI");
    }
    got += byte_source_read(source, bytes + 4, (size_t)size - 4);
    if (got < (size_t)size) {
        return byte_source_failure(source, got, "the header");
    }
    reader->at = got;
    return nifti_parse_header(&reader->header, bytes, name);
}

static enum voco_status check_size(const struct voxel_reader *reader)
{
    const struct nifti_header *header = &reader->header;
    if (header->info.volumes != 1) {
        return fail(VOCO_BAD_INPUT, "%s: has %d volumes, where one 3D volume is needed",
                    voxel_reader_name(reader), header->info.volumes);
    }
    const uint64_t needed = header->voxel_offset + header->voxel_bytes;
    if (needed <= byte_source_most(reader->source)) {
        return VOCO_OK;
    }
    const int *size = header->info.size;
    return fail(VOCO_BAD_INPUT,
                "%s: header says %dx%dx%d voxels of %s, %llu bytes, which a file of this length cannot hold",
                voxel_reader_name(reader), size[0], size[1], size[2], header->info.type,
                (unsigned long long)needed);
}

static enum voco_status find_first_voxel(struct voxel_reader *reader)
{
    const enum voco_status status = check_size(reader);
    if (status != VOCO_OK) {
        return status;
    }
    const uint64_t gap = reader->header.voxel_offset - reader->at;
    const uint64_t skipped = byte_source_skip(reader->source, gap);
    return skipped < gap
               ? byte_source_failure(reader->source, reader->at + skipped, "what precedes the voxels")
               : VOCO_OK;
}

enum voco_status voxel_reader_open_memory(struct voxel_reader *reader, const void *bytes, size_t count,
                                          const char *name)
{
    *reader = (struct voxel_reader){0};
    enum voco_status status = byte_source_open_memory(&reader->source, bytes, count, name);
    if (status == VOCO_OK) {
        status = read_header(reader);
    }
    if (status == VOCO_OK && reader->header.is_pair) {
        status = fail(VOCO_BAD_INPUT, "%s: is the header of a .hdr/.img pair", name);
    }
    return status == VOCO_OK ? find_first_voxel(reader) : status;
}

/* Opens `path` (or, of a pair, its header) and reads the header. *image_path is the other file of a pair, to
 * be freed; NULL for a single file and after a failure. */
static enum voco_status open_header(struct voxel_reader *reader, char **image_path, const char *path)
{
    char *header_path = NULL;
    *reader = (struct voxel_reader){0};
    enum voco_status status = nifti_pair_paths(&header_path, image_path, path);
    if (status == VOCO_OK) {
        status = byte_source_open(&reader->source, header_path != NULL ? header_path : path);
    }
    if (status == VOCO_OK) {
        status = read_header(reader);
    }
    if (status == VOCO_OK && reader->header.is_pair && *image_path == NULL) {
        status =
            fail(VOCO_BAD_INPUT, "%s: is the header of a pair, but its name does not end with .hdr", path);
    }
    if (status != VOCO_OK || !reader->header.is_pair) {
        free(*image_path);
        *image_path = NULL;
    }
    free(header_path);
    return status;
}

enum voco_status voxel_reader_open_header(struct voxel_reader *reader, const char *path)
{
    char *image_path;
    const enum voco_status status = open_header(reader, &image_path, path);
    free(image_path);
    return status;
}

enum voco_status voxel_reader_open(struct voxel_reader *reader, const char *path)
{
    char *image_path;
    enum voco_status status = open_header(reader, &image_path, path);
    if (status == VOCO_OK && image_path != NULL) {
        byte_source_close(reader->source);
        reader->at = 0;
        status = byte_source_open(&reader->source, image_path);
    }
    free(image_path);
    return status == VOCO_OK ? find_first_voxel(reader) : status;
}

void voxel_reader_close(struct voxel_reader *reader)
{
    byte_source_close(reader->source);
    reader->source = NULL;
}

const char *voxel_reader_name(const struct voxel_reader *reader)
{
    return byte_source_name(reader->source);
}

enum voco_status voxel_reader_read(struct voxel_reader *reader, void *raw, size_t count)
{
    const size_t width = (size_t)reader->header.info.bytes_per_voxel;
    const size_t got = byte_source_read(reader->source, raw, count * width);
    if (got < count * width) {
        return byte_source_failure(reader->source, reader->done * width + got, "the voxel data");
    }
    reader->done += count;
    return VOCO_OK;
}

void not_finite_count(struct not_finite *found, const float *values, size_t count, size_t offset)
{
    size_t here = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, 4);
        here += (bits & 0x7f800000u) == 0x7f800000u;
    }
    if (here > 0 && found->count == 0) {
        size_t i = 0;
        while (__builtin_isfinite(values[i])) {
            i++;
        }
        found->first = offset + i;
    }
    found->count += here;
}

int voxels_may_be_not_finite(const struct nifti_header *header)
{
    const double most_integer = 18446744073709551616.0; /* 2^64 */
    return header->type == DT_FLOAT32 || header->type == DT_FLOAT64 ||
           !(fabs(header->info.slope) * most_integer + fabs(header->info.inter) < FLT_MAX);
}

static enum voco_status check_finite(const struct nifti_header *header, const struct not_finite *found,
                                     const char *name)
{
    if (found->count == 0) {
        return VOCO_OK;
    }
    const size_t nx = (size_t)header->info.size[0];
    const size_t ny = (size_t)header->info.size[1];
    return fail(VOCO_BAD_INPUT, "%s: %zu of %zu voxels are NaN or infinite, the first at (%zu, %zu, %zu)",
                name, found->count, header->voxels, found->first % nx, found->first / nx % ny,
                found->first / nx / ny);
}

enum voco_status voxel_reader_finish(struct voxel_reader *reader, const struct not_finite *found)
{
    const struct nifti_header *header = &reader->header;
    const enum voco_status status = check_finite(header, found, voxel_reader_name(reader));
    if (status != VOCO_OK) {
        return status;
    }
    const uint64_t rest = byte_source_skip(reader->source, most_trailing_bytes);
    if (byte_source_ended_well(reader->source)) {
        return VOCO_OK;
    }
    if (rest == most_trailing_bytes) {
        return fail(VOCO_BAD_INPUT, "%s: over 16 MiB follow the %llu bytes of voxels that the header says",
                    voxel_reader_name(reader), (unsigned long long)header->voxel_bytes);
    }
    return byte_source_failure(reader->source, header->voxel_bytes + rest, "the voxel data");
}
