/* Inside data/dataset.h: finding the volumes below a folder that has no list. */
#ifndef DATA_DATASET_FOLDER_H
#define DATA_DATASET_FOLDER_H

#include "data/dataset.h"

/* Whether the name ends in .nii or .nii.gz. */
int is_nifti_name(const char *name);

/* Appends every volume in `folder` and below as training entries, sorted by name. Links to folders are
 * followed, but not into a folder that the search is already in. VOCO_BAD_INPUT where there is none. */
enum voco_status dataset_add_folder(struct dataset *dataset, const char *folder);

#endif
