/* A phantom as the cache would hold it, without any file: for who needs batches and has no volumes. */
#ifndef DATA_PHANTOM_SHARD_H
#define DATA_PHANTOM_SHARD_H

#include "voco/status.h"

#include "store/shard.h"
#include "volume/prepare.h"

#include <stdint.h>

/* Draws subject `number` of the seed on a grid of size[0] x size[1] x size[2] voxels at the preset's spacing,
 * scales its intensities as the preset says, and compresses it as voco cache does, at so many levels.
 * `threads` (>= 1) work. The array lies in memory that counts as the system's, not the process's.
 * VOCO_NO_MEMORY, or VOCO_IO where the system gives no such memory. Close with shard_close. */
enum voco_status phantom_shard_open(struct shard *shard, const struct preset *preset, const int size[3],
                                    int levels, uint64_t seed, uint32_t number, int threads);

#endif
