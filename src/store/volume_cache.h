/* Prepared volumes on disk, one file each, so that preparation is done once and a window can be read without
 * the rest.
 *
 * A file lies in the cache's folder as NAME-KEY.volume. NAME is the source's, for people. KEY is a hash of
 * the source's canonical path, size and time of change, and of everything that decides how it is prepared
 * (preset, window size), so whatever changes, stale data is never read: it is merely not found. Files are
 * little-endian:
 *
 *     0    "VOCOVOL" and a zero byte
 *     8    uint32 version = 1
 *     12   uint32 CRC-32 of the header, all header bytes with this field 0
 *     16   uint32 CRC-32 of the voxels
 *     20   uint32 header bytes, a multiple of 4096: where the voxels start
 *     24   uint64 KEY
 *     32   int32  size[3], voxels along x, y, z
 *     44   uint32 bytes of the source path
 *     48   double spacing[3], mm
 *     72   double affine[3][4], voxel index -> mm in RAS
 *     168  char   preset[32]
 *     200  the source path, then zeros up to the voxels
 *     ...  uint16 voxels, x fastest, round(65535 value): nothing follows them
 *
 * Files are written beside their name and renamed when whole (base/atomic_file.h), so a killed process leaves
 * no half-written one. */
#ifndef STORE_VOLUME_CACHE_H
#define STORE_VOLUME_CACHE_H

#include "voco/status.h"

#include "volume/prepare.h"
#include "volume/volume.h"

#include <stddef.h>
#include <stdint.h>

struct volume_cache {
    char *folder; /* owned */
    struct preset preset;
    int window[3]; /* voxels x, y, z; WINDOW_CROP: volumes are padded to at least this, WINDOW_RESIZE: resized
                      to it */
};

/* Makes the folder where there is none, and removes what killed processes left in it (temporary files of this
 * cache that have not been written to for 10 minutes). Close with volume_cache_close. */
enum voco_status volume_cache_open(struct volume_cache *cache, const char *folder,
                                   const struct preset *preset, const int window[3]);
void volume_cache_close(struct volume_cache *cache);

/* The place of one source in the cache, as the source is at this moment. */
struct cache_entry {
    uint64_t key;
    char *source; /* canonical path, owned */
    char *path;   /* of the cache file, owned */
};

/* Fails with VOCO_IO where the source is not there. Free with cache_entry_free. */
enum voco_status cache_entry_of(struct cache_entry *entry, const struct volume_cache *cache,
                                const char *source);
void cache_entry_free(struct cache_entry *entry);

/* Whether the entry's file is there and whole: header, length, source and the checksum of every voxel. Reads
 * all of it. */
int cache_entry_is_good(const struct cache_entry *entry);

/* Writes `volume`, which is what the source was prepared to, replacing what was there. Values are clipped to
 * [0, 1]; NaN becomes 0. Fails with VOCO_IO (disk full, ...), leaving what was there. */
enum voco_status volume_cache_store(const struct volume_cache *cache, const struct cache_entry *entry,
                                    const struct volume *volume);

/* A file of the cache, mapped into memory: pages are read when they are touched. */
struct cached_volume {
    int size[3];
    double spacing[3];
    double affine[3][4];
    char preset[32];
    const char *source;     /* where it came from; zero-terminated */
    const uint16_t *voxels; /* x fastest, 65535 = 1.0 */
    uint64_t key;
    uint32_t voxel_checksum;
    void *mapping;
    size_t mapped_bytes;
};

/* Checks the header and that the file is as long as it says. VOCO_BAD_INPUT, naming the file, where it is not
 * a whole cache file; VOCO_IO where it cannot be read. */
enum voco_status cached_volume_open(struct cached_volume *volume, const char *path);
void cached_volume_close(struct cached_volume *volume);

/* Reads every voxel and compares with the checksum; VOCO_BAD_INPUT, naming `path`, where they differ. */
enum voco_status cached_volume_verify(const struct cached_volume *volume, const char *path);

#endif
