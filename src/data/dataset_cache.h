/* Inside data/dataset.h: a cache of prepared volumes as DATA. */
#ifndef DATA_DATASET_CACHE_H
#define DATA_DATASET_CACHE_H

#include "data/dataset.h"

/* Whether the folder holds cached volumes, NAME-KEY.ome.zarr (store/volume_cache.h). */
int folder_is_cache(const char *folder);

/* Appends every volume of the cache, sorted by name, as its attributes have it; volumes of one data set that
 * were prepared alike and are repeated equally make a set. One that is damaged is VOCO_BAD_INPUT. */
enum voco_status dataset_add_cache(struct dataset *dataset, const char *folder);

#endif
