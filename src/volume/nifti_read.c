#include "volume/nifti.h"

#include "base/error.h"
#include "volume/byte_source.h"
#include "volume/nifti_header.h"

#include <stdlib.h>
#include <string.h>

enum {
    chunk_bytes = 1 << 18,
    /* What may follow the last voxel before the file counts as one whose header is wrong. */
    most_trailing_bytes = 1 << 24
};

static int ends_with_gz(const char *path)
{
    const size_t length = strlen(path);
    return length > 3 && strcmp(path + length - 3, ".gz") == 0;
}

static enum voco_status read_header(struct nifti_header *header, struct byte_source *source, uint64_t *at)
{
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
    *at = got;
    return nifti_parse_header(header, bytes, name);
}

static enum voco_status check_length(const struct nifti_header *header, const struct byte_source *source)
{
    const uint64_t needed = header->voxel_offset + header->voxel_bytes;
    if (needed <= byte_source_most(source)) {
        return VOCO_OK;
    }
    const int *size = header->info.size;
    return fail(VOCO_BAD_INPUT,
                "%s: header says %dx%dx%d voxels of %s, %llu bytes, which a file of this length cannot hold",
                byte_source_name(source), size[0], size[1], size[2], header->info.type,
                (unsigned long long)needed);
}

/* NaN and infinities met so far. */
struct not_finite {
    size_t count;
    size_t first;
};

static void count_not_finite(struct not_finite *found, const float *values, size_t count, size_t offset)
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

static enum voco_status decode(float *out, const struct nifti_header *header, struct byte_source *source)
{
    const char *name = byte_source_name(source);
    const size_t width = (size_t)header->info.bytes_per_voxel;
    struct not_finite bad = {0};
    void *raw = malloc(chunk_bytes);
    if (raw == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", name);
    }
    enum voco_status status = VOCO_OK;
    for (size_t done = 0; done < header->voxels;) {
        const size_t left = header->voxels - done;
        const size_t piece = left < chunk_bytes / width ? left : chunk_bytes / width;
        const size_t got = byte_source_read(source, raw, piece * width);
        if (got < piece * width) {
            status = byte_source_failure(source, done * width + got, "the voxel data");
            goto end;
        }
        nifti_convert_voxels(out + done, raw, piece, header);
        count_not_finite(&bad, out + done, piece, done);
        done += piece;
    }
    if (bad.count > 0) {
        const size_t nx = (size_t)header->info.size[0];
        const size_t ny = (size_t)header->info.size[1];
        status =
            fail(VOCO_BAD_INPUT, "%s: %zu of %zu voxels are NaN or infinite, the first at (%zu, %zu, %zu)",
                 name, bad.count, header->voxels, bad.first % nx, bad.first / nx % ny, bad.first / nx / ny);
    }

end:
    free(raw);
    return status;
}

/* Reads to the end, where gzip has its checksum. */
static enum voco_status check_end(const struct nifti_header *header, struct byte_source *source)
{
    const uint64_t rest = byte_source_skip(source, most_trailing_bytes);
    if (byte_source_ended_well(source)) {
        return VOCO_OK;
    }
    if (rest == most_trailing_bytes) {
        return fail(VOCO_BAD_INPUT, "%s: over 16 MiB follow the %llu bytes of voxels that the header says",
                    byte_source_name(source), (unsigned long long)header->voxel_bytes);
    }
    return byte_source_failure(source, header->voxel_bytes + rest, "the voxel data");
}

static enum voco_status read_voxels(struct volume *out, const struct nifti_header *header,
                                    struct byte_source *source, uint64_t at)
{
    enum voco_status status = check_length(header, source);
    if (status != VOCO_OK) {
        return status;
    }
    const uint64_t gap = header->voxel_offset - at;
    const uint64_t skipped = byte_source_skip(source, gap);
    if (skipped < gap) {
        return byte_source_failure(source, at + skipped, "what precedes the voxels");
    }
    struct volume volume = {0};
    memcpy(volume.size, header->info.size, sizeof volume.size);
    memcpy(volume.spacing, header->info.spacing, sizeof volume.spacing);
    memcpy(volume.affine, header->info.affine, sizeof volume.affine);
    volume.data = malloc(volume_count(&volume) * sizeof *volume.data);
    if (volume.data == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for %zu voxels", byte_source_name(source), header->voxels);
    }
    status = decode(volume.data, header, source);
    if (status == VOCO_OK) {
        status = check_end(header, source);
    }
    if (status != VOCO_OK) {
        volume_free(&volume);
        return status;
    }
    *out = volume;
    return VOCO_OK;
}

enum voco_status nifti_read_memory(struct volume *out, const void *bytes, size_t count, const char *name)
{
    *out = (struct volume){0};
    struct byte_source *source = NULL;
    struct nifti_header header = {0};
    uint64_t at = 0;
    enum voco_status status = byte_source_open_memory(&source, bytes, count, name);
    if (status == VOCO_OK) {
        status = read_header(&header, source, &at);
    }
    if (status == VOCO_OK && header.is_pair) {
        status = fail(VOCO_BAD_INPUT, "%s: is the header of a .hdr/.img pair", name);
    }
    if (status == VOCO_OK) {
        status = read_voxels(out, &header, source, at);
    }
    byte_source_close(source);
    return status;
}

/* Opens `path` (or, of a pair, its header) and reads the header. On success *source stands behind it;
 * *image_path is the other file of a pair, NULL for a single file. */
static enum voco_status open_header(struct byte_source **source, struct nifti_header *header, uint64_t *at,
                                    char **image_path, const char *path)
{
    char *header_path = NULL;
    *source = NULL;
    enum voco_status status = nifti_pair_paths(&header_path, image_path, path);
    if (status == VOCO_OK) {
        status = byte_source_open(source, header_path != NULL ? header_path : path);
    }
    if (status == VOCO_OK) {
        status = read_header(header, *source, at);
    }
    if (status == VOCO_OK && header->is_pair && *image_path == NULL) {
        status =
            fail(VOCO_BAD_INPUT, "%s: is the header of a pair, but its name does not end with .hdr", path);
    }
    if (status == VOCO_OK && !header->is_pair) {
        free(*image_path);
        *image_path = NULL;
    }
    free(header_path);
    if (status != VOCO_OK) {
        byte_source_close(*source);
        free(*image_path);
        *source = NULL;
        *image_path = NULL;
    }
    return status;
}

enum voco_status nifti_read_info(struct nifti_info *info, const char *path)
{
    struct nifti_header header = {0};
    struct byte_source *source;
    char *image_path;
    uint64_t at = 0;
    const enum voco_status status = open_header(&source, &header, &at, &image_path, path);
    if (status == VOCO_OK) {
        *info = header.info;
        byte_source_close(source);
        free(image_path);
    }
    return status;
}

enum voco_status nifti_read(struct volume *out, const char *path)
{
    *out = (struct volume){0};
    struct nifti_header header = {0};
    struct byte_source *source;
    char *image_path;
    uint64_t at = 0;
    enum voco_status status = open_header(&source, &header, &at, &image_path, path);
    if (status != VOCO_OK) {
        return status;
    }
    if (image_path != NULL) {
        byte_source_close(source);
        at = 0;
        status = byte_source_open(&source, image_path);
    }
    if (status == VOCO_OK) {
        status = read_voxels(out, &header, source, at);
    }
    byte_source_close(source);
    free(image_path);
    return status;
}
