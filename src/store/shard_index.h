/* The index that ends a shard, as bytes: for each chunk its offset and its length, both uint64,
 * little-endian, all bits set where it is not stored; then the CRC-32C of all that. Private to this folder
 * and its tests. */
#ifndef STORE_SHARD_INDEX_H
#define STORE_SHARD_INDEX_H

#include "store/shard.h"

size_t shard_index_bytes(size_t chunks);
void shard_index_encode(unsigned char *out, const struct shard_chunk *chunks, size_t count);

/* Takes the index of a file of `file_bytes` bytes apart. NULL where all is well, else what is wrong. Chunks
 * must lie in front of the index and add up to all that is there, so that a file that was cut or grew is
 * noticed; none may be longer than `longest`. */
const char *shard_index_decode(struct shard_chunk *chunks, size_t count, const unsigned char *index,
                               uint64_t file_bytes, uint64_t longest);

#endif
