/* Inside data/dataset.h: how sets and volumes come into a list. */
#ifndef DATA_DATASET_ENTRIES_H
#define DATA_DATASET_ENTRIES_H

#include "data/dataset.h"

/* Begins a set, to which the entries belong that are added from now on. Its repeat is 1, it has no preset. */
enum voco_status dataset_start_set(struct dataset *dataset, const char *name);

/* Appends the entry `name` (`length` bytes, a leading "./" is dropped) to the last set; its path is
 * folder/name where name is relative. */
enum voco_status dataset_add(struct dataset *dataset, const char *folder, const char *name, size_t length,
                             enum dataset_split split);

/* Appends the entry as it is; path and name, which were allocated, belong to the list afterwards. */
enum voco_status dataset_append(struct dataset *dataset, const struct dataset_entry *entry);

/* Takes all entries from `first` on away again; they belong to the last set. */
void dataset_cut(struct dataset *dataset, size_t first);

/* Training first, then validation, then test, each in the order it had. */
enum voco_status dataset_group_by_split(struct dataset *dataset);

/* folder/name, or the name alone where it is absolute; NULL without memory. To be freed. */
char *path_in_folder(const char *folder, const char *name);

#endif
