/* libFuzzer's entry to the reader of cached volumes: any bytes must be read or refused. The first byte says
 * what the rest is: a group's metadata, an array's, or a shard; checksums of shards are set right, so that
 * what they guard is reached, too. */
#include "store/checksum.h"
#include "store/json_fields.h"
#include "store/shard_index.h"
#include "store/volume_attributes.h"
#include "store/zarr_metadata.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void read_attributes(const uint8_t *bytes, size_t count)
{
    struct volume_attributes attributes;
    if (volume_attributes_parse(&attributes, (const char *)bytes, count, "input") == VOCO_OK) {
        volume_attributes_free(&attributes);
    }
}

static void read_array(const uint8_t *bytes, size_t count)
{
    int size[3];
    int levels = 0;
    enum voco_status status;
    json_t *metadata = json_object_parse(&status, (const char *)bytes, count, "input");
    if (metadata != NULL) {
        (void)zarr_array_parse(size, &levels, metadata, "input");
    }
    json_decref(metadata);
}

/* The index's checksum, then those of all chunks that it names. */
static void mend_checksums(uint8_t *bytes, size_t count, const int size[3])
{
    const size_t chunks = shard_chunk_count(size);
    const size_t index = shard_index_bytes(chunks);
    struct shard_chunk *list = calloc(chunks, sizeof *list);
    if (list != NULL && count >= index) {
        crc32c_store(bytes + count - crc32c_bytes, bytes + count - index, index - crc32c_bytes);
        if (shard_index_decode(list, chunks, bytes + count - index, count, UINT64_MAX) == NULL) {
            for (size_t i = 0; i < chunks; i++) {
                if (list[i].bytes > 0) {
                    uint8_t *end = bytes + list[i].offset + list[i].bytes - crc32c_bytes;
                    crc32c_store(end, bytes + list[i].offset, list[i].bytes - crc32c_bytes);
                }
            }
        }
    }
    free(list);
}

static void read_shard(const uint8_t *bytes, size_t count, int levels, int mend)
{
    const int size[3] = {65, 40, 64};
    uint8_t *copy = malloc(count > 0 ? count : 1);
    void *voxels = malloc(chunk_bytes(levels));
    struct chunk_decoder decoder = {0};
    struct shard shard;
    if (copy != NULL && voxels != NULL) {
        memcpy(copy, bytes, count);
        if (mend) {
            mend_checksums(copy, count, size);
        }
        if (shard_open_memory(&shard, copy, count, size, levels, "input") == VOCO_OK) {
            for (size_t chunk = 0; chunk < shard_chunk_count(size); chunk++) {
                (void)shard_read_chunk(voxels, &shard, chunk, &decoder);
            }
            (void)shard_verify(&shard);
            shard_close(&shard);
        }
    }
    chunk_decoder_free(&decoder);
    free(voxels);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count == 0) {
        return 0;
    }
    switch (bytes[0] % 6) {
    case 0:
        read_attributes(bytes + 1, count - 1);
        break;
    case 1:
        read_array(bytes + 1, count - 1);
        break;
    default:
        read_shard(bytes + 1, count - 1, bytes[0] % 2 == 0 ? 255 : 4095, bytes[0] % 6 > 3);
    }
    return 0;
}
