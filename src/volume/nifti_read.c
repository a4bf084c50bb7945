#include "volume/nifti.h"

#include "base/error.h"
#include "volume/voxel_reader.h"

#include <stdlib.h>
#include <string.h>

enum { chunk_bytes = 1 << 18 };

enum voco_status nifti_read_info(struct nifti_info *info, const char *path)
{
    struct voxel_reader reader;
    const enum voco_status status = voxel_reader_open_header(&reader, path);
    if (status == VOCO_OK) {
        *info = reader.header.info;
    }
    voxel_reader_close(&reader);
    return status;
}

static enum voco_status decode(float *out, struct voxel_reader *reader)
{
    const struct nifti_header *header = &reader->header;
    const size_t most = chunk_bytes / (size_t)header->info.bytes_per_voxel;
    struct not_finite bad = {0};
    void *raw = malloc(chunk_bytes);
    if (raw == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", voxel_reader_name(reader));
    }
    enum voco_status status = VOCO_OK;
    while (reader->done < header->voxels && status == VOCO_OK) {
        const size_t done = reader->done;
        const size_t piece = header->voxels - done < most ? header->voxels - done : most;
        status = voxel_reader_read(reader, raw, piece);
        if (status == VOCO_OK) {
            nifti_convert_voxels(out + done, raw, piece, header);
            not_finite_count(&bad, out + done, piece, done);
        }
    }
    free(raw);
    return status == VOCO_OK ? voxel_reader_finish(reader, &bad) : status;
}

enum voco_status voxel_reader_all(struct volume *out, struct voxel_reader *reader)
{
    const struct nifti_info *info = &reader->header.info;
    *out = (struct volume){0};
    struct volume volume = {0};
    memcpy(volume.size, info->size, sizeof volume.size);
    memcpy(volume.spacing, info->spacing, sizeof volume.spacing);
    memcpy(volume.affine, info->affine, sizeof volume.affine);
    volume.data = malloc(volume_count(&volume) * sizeof *volume.data);
    if (volume.data == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for %zu voxels", voxel_reader_name(reader),
                    reader->header.voxels);
    }
    const enum voco_status status = decode(volume.data, reader);
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
    struct voxel_reader reader;
    enum voco_status status = voxel_reader_open_memory(&reader, bytes, count, name);
    if (status == VOCO_OK) {
        status = voxel_reader_all(out, &reader);
    }
    voxel_reader_close(&reader);
    return status;
}

enum voco_status nifti_read(struct volume *out, const char *path)
{
    *out = (struct volume){0};
    struct voxel_reader reader;
    enum voco_status status = voxel_reader_open(&reader, path);
    if (status == VOCO_OK) {
        status = voxel_reader_all(out, &reader);
    }
    voxel_reader_close(&reader);
    return status;
}
