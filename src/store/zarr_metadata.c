#include "store/zarr_metadata.h"

#include "base/error.h"
#include "store/json_fields.h"
#include "store/shard.h"

#include <math.h>
#include <string.h>

static json_t *codec(const char *name, json_t *configuration)
{
    return json_pack("{s:s, s:o}", "name", name, "configuration", configuration);
}

/* From the chunk as an array to its bytes in the file. */
static json_t *chunk_codecs(int levels, int level)
{
    json_t *bytes = stored_voxel_bytes(levels) == 1 ? json_pack("{s:s}", "name", "bytes")
                                                    : codec("bytes", json_pack("{s:s}", "endian", "little"));
    return json_pack("[o, o, o, {s:s}]", codec("transpose", json_pack("{s:[i,i,i]}", "order", 2, 1, 0)),
                     bytes, codec("zstd", json_pack("{s:i, s:b}", "level", level, "checksum", 0)), "name",
                     "crc32c");
}

static json_t *sharding(int levels, int level)
{
    json_t *index =
        json_pack("[o, {s:s}]", codec("bytes", json_pack("{s:s}", "endian", "little")), "name", "crc32c");
    return codec("sharding_indexed", json_pack("{s:[i,i,i], s:o, s:o, s:s}", "chunk_shape", chunk_side,
                                               chunk_side, chunk_side, "codecs", chunk_codecs(levels, level),
                                               "index_codecs", index, "index_location", "end"));
}

static int whole_chunks(int voxels)
{
    return (voxels + chunk_side - 1) / chunk_side * chunk_side;
}

json_t *zarr_array_metadata(const int size[3], int levels, int level)
{
    json_t *metadata =
        json_pack("{s:i, s:s, s:[i,i,i], s:s, s:{s:s, s:{s:[i,i,i]}}, s:{s:s, s:{s:s}}, s:i, s:[o], "
                  "s:[s,s,s], s:{s:f, s:f}}",
                  "zarr_format", 3, "node_type", "array", "shape", size[2], size[1], size[0], "data_type",
                  stored_voxel_bytes(levels) == 1 ? "uint8" : "uint16", "chunk_grid", "name", "regular",
                  "configuration", "chunk_shape", whole_chunks(size[2]), whole_chunks(size[1]),
                  whole_chunks(size[0]), "chunk_key_encoding", "name", "default", "configuration",
                  "separator", "/", "fill_value", 0, "codecs", sharding(levels, level), "dimension_names",
                  "z", "y", "x", "attributes", "scale", 1.0 / levels, "offset", 0.0);
    if (metadata == NULL || !json_add_checksum(metadata, json_object_get(metadata, "attributes"))) {
        json_decref(metadata);
        return NULL;
    }
    return metadata;
}

/* All but the attributes, to which others may add. */
static int same_array(const json_t *metadata, const json_t *expected)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)expected, key, value)
    {
        if (strcmp(key, "attributes") != 0 && !json_equal(value, json_object_get(metadata, key))) {
            return 0;
        }
    }
    return 1;
}

static const json_t *element(const json_t *object, const char *key, size_t i)
{
    return json_array_get(json_object_get(object, key), i);
}

static int zstd_level(int *level, const json_t *metadata)
{
    const json_t *sharding = json_object_get(element(metadata, "codecs", 0), "configuration");
    const json_t *zstd = json_object_get(element(sharding, "codecs", 2), "configuration");
    return json_field_integer(level, zstd, "level", -131072, 22);
}

static int levels_of(int *levels, const json_t *attributes)
{
    double scale = 0.0;
    double offset = 1.0;
    if (!json_field_number(&scale, attributes, "scale") ||
        !json_field_number(&offset, attributes, "offset") || !(scale > 1e-5 && scale < 1.0) ||
        offset != 0.0) {
        return 0;
    }
    *levels = (int)lrint(1.0 / scale);
    return *levels == 255 || *levels == 4095 || *levels == 65535;
}

enum voco_status zarr_array_parse(int size[3], int *levels, json_t *metadata, const char *name)
{
    int shape[3];
    int level = 0;
    json_t *attributes = json_object_get(metadata, "attributes");
    if (!json_field_integers(shape, 3, metadata, "shape", 1, shard_longest_axis) ||
        !levels_of(levels, attributes) || !zstd_level(&level, metadata)) {
        return fail(VOCO_BAD_INPUT, "%s: is not an array of voxels as voco caches them", name);
    }
    for (int axis = 0; axis < 3; axis++) {
        size[axis] = shape[2 - axis];
    }
    json_t *expected = zarr_array_metadata(size, *levels, level);
    if (expected == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", name);
    }
    const int same = same_array(metadata, expected);
    json_decref(expected);
    if (!same) {
        return fail(VOCO_BAD_INPUT, "%s: is not an array of voxels as voco caches them", name);
    }
    return json_checksum_matches(metadata, attributes)
               ? VOCO_OK
               : fail(VOCO_BAD_INPUT, "%s: damaged: the checksum of its metadata does not match", name);
}
