/* Prepared volumes on disk, so that preparation is done once and a window can be read without the rest.
 *
 * A cached volume is a folder NAME-KEY.ome.zarr in the cache's folder: a Zarr v3 group with OME-NGFF 0.5
 * metadata, as docs/formats.md specifies. NAME is the source's, for people. KEY is a hash of the source's
 * canonical path, size and time of change and of everything that decides the voxels (preset, window, levels),
 * so whatever changes, stale data is never read: it is merely not found. In it
 *
 *     zarr.json              attributes (store/volume_attributes.h)
 *     0/zarr.json            the array of the prepared volume, dimensions z, y, x
 *     0/c/0/0/0              its voxels (store/shard.h)
 *     window/...             likewise, where windows are taken by resizing: the volume at the window's size
 *
 * A volume is written under a temporary name, synced, and renamed, so a killed process leaves no half-written
 * one. */
#ifndef STORE_VOLUME_CACHE_H
#define STORE_VOLUME_CACHE_H

#include "voco/status.h"

#include "store/shard.h"
#include "store/volume_attributes.h"
#include "volume/prepare.h"

#include <stddef.h>
#include <stdint.h>

/* How a volume is prepared and kept. */
struct cache_settings {
    struct preset preset;
    int window[3]; /* voxels x, y, z of the window that is trained on: WINDOW_CROP pads volumes to at least
                      this, WINDOW_RESIZE keeps a second array of this size */
    int levels;    /* 255 (8 bits), 4095 (12) or 65535 (16) */
    int level;     /* of zstd, 1 to 19; changes size and speed, never voxels */
};

/* 255, 4095 or 65535 for 8, 12 or 16 bits; 0 for any other number. */
int levels_of_bits(int bits);
int bits_of_levels(int levels);

enum { cache_default_level = 3 }; /* of zstd */

/* One volume as its list has it. What `settings` points to is borrowed. */
struct cache_request {
    const char *source;
    const char *name;
    const char *set;
    const char *split;
    int repeat;
    const struct cache_settings *settings;
};

/* The place of one source in the cache, as the source is at this moment. */
struct cache_entry {
    uint64_t key;
    uint64_t source_bytes;
    char *source; /* canonical path, owned */
    char *path;   /* of the folder NAME-KEY.ome.zarr, owned */
};

/* Fails with VOCO_IO where the source is not there. Free with cache_entry_free. */
enum voco_status cache_entry_of(struct cache_entry *entry, const char *folder,
                                const struct cache_request *request);
void cache_entry_free(struct cache_entry *entry);

/* Whether the entry's volume is there: its attributes name this source and key, its arrays open, and their
 * files are as long as their indexes say. Chunks are not read: each carries a checksum that is compared
 * whenever it is. Where the list has the volume in another split, under another name or so, its attributes
 * are brought up to date. *bytes, where not NULL: what it takes on disk. */
int cache_entry_is_there(const struct cache_entry *entry, const struct cache_request *request,
                         uint64_t *bytes);

/* Reads and prepares the source and writes it as the entry's volume with `threads` threads, replacing what
 * was there. *bytes: what it takes on disk. A failure to read or prepare leaves *storing 0; one to write
 * (VOCO_IO: disk full, ...) sets it to 1. Nothing half-written is left. */
enum voco_status cache_entry_make(uint64_t *bytes, int *storing, const struct cache_entry *entry,
                                  const struct cache_request *request, int threads);

/* The second half of that: writes what the source was prepared to. `window` is the volume at the window's
 * size where windows are resized, else NULL. */
enum voco_status cache_entry_store(uint64_t *bytes, const struct cache_entry *entry,
                                   const struct cache_request *request, const struct prepared_volume *volume,
                                   const struct prepared_volume *window, int threads);

/* The folder of the array that training reads: PATH/0, or PATH/window where windows are resized. To be freed;
 * NULL without memory. */
char *cached_array_path(const char *path, enum window_kind window);

/* Opens one array of a cached volume by its folder (PATH/0, PATH/window). VOCO_BAD_INPUT, naming it, where it
 * is not such an array or damaged; VOCO_IO where it cannot be read. Close with shard_close. */
enum voco_status cached_array_open(struct shard *shard, const char *array_path);

/* Reads everything: attributes and the checksum of every chunk of every array. */
enum voco_status cached_volume_verify(const char *path);

/* Whether a name ends in .ome.zarr. */
int is_cached_volume_name(const char *name);

#endif
