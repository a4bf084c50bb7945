/* One volume of DATA in memory, as it will be embedded. */
#ifndef ENCODE_SOURCE_VOLUME_H
#define ENCODE_SOURCE_VOLUME_H

#include "data/dataset.h"
#include "volume/volume.h"

#include <stdint.h>

/* Bytes that reading it takes at most, an estimate from its header; preset NULL: as it lies in the file. */
uint64_t source_volume_memory(const struct dataset *dataset, const struct dataset_entry *entry,
                              const struct preset *preset, int roi);

/* Loads the entry: prepared by the preset and padded to roi^3 voxels at least; with preset NULL the file's
 * voxels as they lie there. A volume of a cache is taken as it was prepared, padding and bits included, and
 * the preset is not looked at. Fails as prepare_volume, nifti_read and cached_array_open do; every message
 * names the volume. Free with volume_free. */
enum voco_status source_volume_load(struct volume *out, const struct dataset *dataset,
                                    const struct dataset_entry *entry, const struct preset *preset, int roi);

#endif
