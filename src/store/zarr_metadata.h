/* The zarr.json of an array of voxels (Zarr v3 core specification, version 3.0; docs/formats.md). Private to
 * this folder and its tests. */
#ifndef STORE_ZARR_METADATA_H
#define STORE_ZARR_METADATA_H

#include "voco/status.h"

#include <jansson.h>

/* Metadata of an array of `size` voxels (x, y, z): dimensions z, y, x in one shard, 64^3 chunks with z
 * fastest, zstd at `level`, CRC-32C; attributes "scale" and "offset": value = scale * stored + offset. NULL
 * without memory. */
json_t *zarr_array_metadata(const int size[3], int levels, int level);

/* Understands an array's metadata. VOCO_BAD_INPUT where it is not one that zarr_array_metadata makes (another
 * level apart) or its checksum does not match; `name` begins the message. */
enum voco_status zarr_array_parse(int size[3], int *levels, json_t *metadata, const char *name);

#endif
