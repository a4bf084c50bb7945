#include "store/shard_index.h"

#include "store/checksum.h"

#include <stdlib.h>

enum { entry_bytes = 16 };

size_t shard_index_bytes(size_t chunks)
{
    return chunks * entry_bytes + crc32c_bytes;
}

static void put_64(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        out[i] = (unsigned char)(value >> 8 * i);
    }
}

static uint64_t get_64(const unsigned char *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value |= (uint64_t)in[i] << 8 * i;
    }
    return value;
}

void shard_index_encode(unsigned char *out, const struct shard_chunk *chunks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const int stored = chunks[i].bytes > 0;
        put_64(out + i * entry_bytes, stored ? chunks[i].offset : UINT64_MAX);
        put_64(out + i * entry_bytes + 8, stored ? chunks[i].bytes : UINT64_MAX);
    }
    crc32c_store(out + count * entry_bytes, out, count * entry_bytes);
}

const char *shard_index_decode(struct shard_chunk *chunks, size_t count, const unsigned char *index,
                               uint64_t file_bytes, uint64_t longest)
{
    const size_t bytes = shard_index_bytes(count);
    if (!crc32c_closes(index, bytes)) {
        return "the checksum of its index does not match";
    }
    const uint64_t room = file_bytes - bytes;
    uint64_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t offset = get_64(index + i * entry_bytes);
        const uint64_t length = get_64(index + i * entry_bytes + 8);
        if (offset == UINT64_MAX && length == UINT64_MAX) {
            chunks[i] = (struct shard_chunk){0};
            continue;
        }
        if (length <= crc32c_bytes || length > longest || offset > room || length > room - offset) {
            return "its index names a chunk that does not lie in it";
        }
        chunks[i] = (struct shard_chunk){offset, length};
        used += length;
    }
    return used == room ? NULL : "it is longer or shorter than its chunks";
}
