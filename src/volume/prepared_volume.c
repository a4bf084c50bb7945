#include "volume/prepared_volume.h"

#include "volume/rows.h"
#include "volume/transpose.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void prepared_volume_free(struct prepared_volume *prepared)
{
    free(prepared->storage);
    *prepared = (struct prepared_volume){0};
}

struct prepared_volume prepared_volume_of(const struct volume *volume)
{
    struct prepared_volume view = {.voxels = volume->data};
    memcpy(view.size, volume->size, sizeof view.size);
    memcpy(view.box, volume->size, sizeof view.box);
    memcpy(view.spacing, volume->spacing, sizeof view.spacing);
    memcpy(view.affine, volume->affine, sizeof view.affine);
    view.stride[0] = 1;
    view.stride[1] = volume->size[0];
    view.stride[2] = (ptrdiff_t)volume->size[0] * volume->size[1];
    return view;
}

size_t stored_voxel_bytes(int levels)
{
    return levels <= UINT8_MAX ? 1 : 2;
}

/* The part of a block that lies in the kept box: `count` voxels, from element `first` of the volume, to
 * element `target` of the block. */
struct overlap {
    int count[3];
    ptrdiff_t first, target;
};

static int find_overlap(struct overlap *overlap, const struct prepared_volume *prepared, const int start[3],
                        const int extent[3])
{
    int skipped[3];
    overlap->first = (ptrdiff_t)prepared->first;
    for (int axis = 0; axis < 3; axis++) {
        const int at = start[axis] - prepared->before[axis]; /* of the block's first voxel, in the box */
        const int from = at > 0 ? at : 0;
        const int end = at + extent[axis] < prepared->box[axis] ? at + extent[axis] : prepared->box[axis];
        if (end <= from) {
            return 0;
        }
        skipped[axis] = from - at;
        overlap->count[axis] = end - from;
        overlap->first += from * prepared->stride[axis];
    }
    overlap->target = ((ptrdiff_t)skipped[0] * extent[1] + skipped[1]) * extent[2] + skipped[2];
    return 1;
}

/* A row that lies together in the volume, at the block's precision. */
static void take_row(void *out, size_t at, int levels, const struct prepared_volume *prepared, ptrdiff_t from,
                     int count)
{
    const size_t width = stored_voxel_bytes(levels);
    unsigned char *to = (unsigned char *)out + at * width;
    if (prepared->levels != 0) {
        memcpy(to, (const unsigned char *)prepared->voxels + from * (ptrdiff_t)width, (size_t)count * width);
    } else if (width == 1) {
        quantise_bytes(to, (const float *)prepared->voxels + from, (size_t)count, levels);
    } else {
        quantise_words((uint16_t *)to, (const float *)prepared->voxels + from, (size_t)count, levels);
    }
}

static void copy_along_z(void *out, int levels, const struct prepared_volume *prepared,
                         const struct overlap *overlap, const int extent[3])
{
    const ptrdiff_t *stride = prepared->stride;
    for (int x = 0; x < overlap->count[0]; x++) {
        for (int y = 0; y < overlap->count[1]; y++) {
            const ptrdiff_t to = overlap->target + ((ptrdiff_t)x * extent[1] + y) * extent[2];
            take_row(out, (size_t)to, levels, prepared, overlap->first + x * stride[0] + y * stride[1],
                     overlap->count[2]);
        }
    }
}

/* Where voxels lie together along x or y (`unit`), a plane of that axis and z is transposed for each place on
 * the third. Floats are first quantised a tile at a time. */
static void copy_transposed(void *out, int levels, const struct prepared_volume *prepared,
                            const struct overlap *overlap, const int extent[3], int unit)
{
    enum { tile_z = 64, tile_unit = 64 };
    uint16_t tile[tile_z * tile_unit];
    const int third = 1 - unit;
    const ptrdiff_t out_stride[2] = {(ptrdiff_t)extent[1] * extent[2], extent[2]};
    const int bytes = stored_voxel_bytes(levels) == 1;
    for (int place = 0; place < overlap->count[third]; place++) {
        for (int z = 0; z < overlap->count[2]; z += tile_z) {
            const int rows = overlap->count[2] - z < tile_z ? overlap->count[2] - z : tile_z;
            for (int u = 0; u < overlap->count[unit]; u += tile_unit) {
                const int left = overlap->count[unit] - u;
                const int columns = left < tile_unit ? left : tile_unit;
                const ptrdiff_t from =
                    overlap->first + place * prepared->stride[third] + z * prepared->stride[2] + u;
                const ptrdiff_t to = overlap->target + place * out_stride[third] + u * out_stride[unit] + z;
                const void *in = tile;
                ptrdiff_t pitch = tile_unit;
                if (prepared->levels != 0) {
                    in = (const unsigned char *)prepared->voxels + from * (bytes ? 1 : 2);
                    pitch = prepared->stride[2];
                }
                for (int row = 0; prepared->levels == 0 && row < rows; row++) {
                    take_row(tile, (size_t)row * tile_unit, levels, prepared,
                             from + row * prepared->stride[2], columns);
                }
                if (bytes) {
                    transpose_bytes((uint8_t *)out + to, out_stride[unit], in, pitch, rows, columns);
                } else {
                    transpose_words((uint16_t *)out + to, out_stride[unit], in, pitch, rows, columns);
                }
            }
        }
    }
}

/* Any strides at all, voxel by voxel. */
static void copy_voxels(void *out, int levels, const struct prepared_volume *prepared,
                        const struct overlap *overlap, const int extent[3])
{
    const ptrdiff_t *stride = prepared->stride;
    for (int x = 0; x < overlap->count[0]; x++) {
        for (int y = 0; y < overlap->count[1]; y++) {
            const ptrdiff_t to = overlap->target + ((ptrdiff_t)x * extent[1] + y) * extent[2];
            const ptrdiff_t from = overlap->first + x * stride[0] + y * stride[1];
            for (int z = 0; z < overlap->count[2]; z++) {
                take_row(out, (size_t)(to + z), levels, prepared, from + z * stride[2], 1);
            }
        }
    }
}

static int any_is_set(const unsigned char *bytes, size_t count)
{
    enum { piece = 4096 };
    for (size_t done = 0; done < count; done += piece) {
        const size_t end = count - done < piece ? count : done + piece;
        unsigned char any = 0;
        for (size_t i = done; i < end; i++) {
            any |= bytes[i];
        }
        if (any != 0) {
            return 1;
        }
    }
    return 0;
}

int prepared_volume_block(void *out, int levels, const struct prepared_volume *prepared, const int start[3],
                          const int extent[3])
{
    const size_t bytes =
        (size_t)extent[0] * (size_t)extent[1] * (size_t)extent[2] * stored_voxel_bytes(levels);
    struct overlap overlap;
    const int overlaps = find_overlap(&overlap, prepared, start, extent);
    if (!overlaps || memcmp(overlap.count, extent, sizeof overlap.count) != 0) {
        memset(out, 0, bytes);
    }
    if (!overlaps) {
        return 0;
    }
    if (prepared->stride[2] == 1) {
        copy_along_z(out, levels, prepared, &overlap, extent);
    } else if (prepared->stride[0] == 1) {
        copy_transposed(out, levels, prepared, &overlap, extent, 0);
    } else if (prepared->stride[1] == 1) {
        copy_transposed(out, levels, prepared, &overlap, extent, 1);
    } else {
        copy_voxels(out, levels, prepared, &overlap, extent);
    }
    return any_is_set(out, bytes);
}
