/* One file that holds a whole 3D array of 8- or 16-bit voxels as independently compressed chunks: a shard of
 * Zarr v3's sharding codec (zarr-specs, "sharding-indexed", version 1.0). docs/formats.md specifies the
 * bytes.
 *
 * Chunks are cubes of 64 voxels an axis; at the array's end they are filled up with zeros. Chunk (cx, cy, cz)
 * has number (cz ny + cy) nx + cx. In a chunk z varies fastest, then y, then x, as in the network's crops.
 * Each is a zstd frame followed by the CRC-32C of the frame; a chunk of zeros is not stored. The index of all
 * chunks' offsets and lengths, closed by its own CRC-32C, ends the file. */
#ifndef STORE_SHARD_H
#define STORE_SHARD_H

#include "voco/status.h"

#include "volume/prepared_volume.h"

#include <stddef.h>
#include <stdint.h>

enum { chunk_side = 64, chunk_voxels = chunk_side * chunk_side * chunk_side };

/* The longest axis that an array may have. */
enum { shard_longest_axis = 1 << 15 };

struct shard_chunk {
    uint64_t offset, bytes; /* in the file, checksum included; bytes 0: a chunk of zeros, not stored */
};

/* An open shard. Its functions may be called from several threads at once. */
struct shard {
    int size[3];                /* voxels along x, y, z */
    int levels;                 /* 255: one byte a voxel; else two, little-endian */
    int grid[3];                /* chunks along x, y, z */
    struct shard_chunk *chunks; /* (grid[0] grid[1] grid[2]), owned */
    uint64_t bytes;             /* of the file */
    char *name;                 /* of the volume, for messages; owned */
    int file;                   /* -1: in memory */
    const unsigned char *memory;
};

size_t shard_chunk_count(const int size[3]);

/* Bytes of a decoded chunk. */
size_t chunk_bytes(int levels);

/* Opens the file and reads its index. Every size in it is checked: VOCO_BAD_INPUT, beginning with `name`,
 * where chunks do not lie in the file, do not fill it, or the index's checksum is wrong; VOCO_IO where the
 * system refuses. `size` has at most shard_longest_axis voxels an axis. */
enum voco_status shard_open(struct shard *shard, const char *path, const int size[3], int levels,
                            const char *name);

/* From `count` bytes of memory, which must stay. */
enum voco_status shard_open_memory(struct shard *shard, const void *bytes, size_t count, const int size[3],
                                   int levels, const char *name);
void shard_close(struct shard *shard);

/* Tells the system that these chunks will be read soon, so that it fetches them side by side: first[axis] <=
 * chunk < end[axis]. */
void shard_prefetch(const struct shard *shard, const int first[3], const int end[3]);

/* What a thread needs to decode chunks; zero-initialised. */
struct chunk_decoder {
    struct ZSTD_DCtx_s *context;
    unsigned char *compressed;
    size_t capacity;
};
void chunk_decoder_free(struct chunk_decoder *decoder);

/* Reads and decodes chunk number `chunk` to out (chunk_bytes(levels) bytes). VOCO_BAD_INPUT, naming the
 * volume and the chunk, where a byte of it has changed. */
enum voco_status shard_read_chunk(void *out, const struct shard *shard, size_t chunk,
                                  struct chunk_decoder *decoder);

/* Reads every chunk and compares the checksums; fails as shard_read_chunk does. */
enum voco_status shard_verify(const struct shard *shard);

/* Writes the volume as a new file, `threads` (>= 1) compressing at zstd's `level` (1 to 19). The file is
 * synced; that it appears whole is left to the caller, who renames its folder. *bytes: how long it became. */
enum voco_status shard_write(uint64_t *bytes, const char *path, const struct prepared_volume *volume,
                             int levels, int level, int threads);

#endif
