/* Inside data/dataset.h: how volumes come into a list. */
#ifndef DATA_DATASET_ENTRIES_H
#define DATA_DATASET_ENTRIES_H

#include "data/dataset.h"

/* Appends the entry `name` (`length` bytes, a leading "./" is dropped); its path is folder/name where name is
 * relative. */
enum voco_status dataset_add(struct dataset *dataset, const char *folder, const char *name, size_t length,
                             enum dataset_split split);

#endif
