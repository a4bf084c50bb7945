/* Inside data/dataset.h: reading a list of volumes, be it JSON or text. */
#ifndef DATA_DATASET_LIST_H
#define DATA_DATASET_LIST_H

#include "data/dataset.h"

#include <stddef.h>

/* Which parts of a JSON list are taken: bit 1 << split. A text list has no parts, it is all training. */
enum { USE_ALL_PARTS = 1 << SPLIT_TRAINING | 1 << SPLIT_VALIDATION | 1 << SPLIT_TEST };

/* The two formats from memory: append the volumes to the last set. As dataset_parse_json and
 * dataset_parse_text, but after a failure some may have been added. */
enum voco_status dataset_add_json(struct dataset *dataset, const char *text, size_t length, const char *list,
                                  const char *folder, unsigned parts);
enum voco_status dataset_add_text(struct dataset *dataset, const char *text, size_t length, const char *list,
                                  const char *folder);

/* Appends what the file `list` names: JSON where its name ends in .json or it begins with '{', else text.
 * Whether the files exist is not looked at. */
enum voco_status dataset_add_list(struct dataset *dataset, const char *list, const char *folder,
                                  unsigned parts);

/* The whole file at `path`, to be freed; no zero behind it. VOCO_BAD_INPUT where it is over 1 GB. */
enum voco_status dataset_read_text(char **text, size_t *length, const char *path);

#endif
