/* Inside data/dataset.h: finding the volumes below a folder that has no list. */
#ifndef DATA_DATASET_FOLDER_H
#define DATA_DATASET_FOLDER_H

#include "data/dataset.h"
#include "data/dicom.h"

/* Whether the name ends in .nii or .nii.gz. */
int is_nifti_name(const char *name);

/* Whether a search for files goes into a folder of this name: not where it is hidden, begins with "labels" or
 * ends in ".zarr". */
int is_searched_folder(const char *name);

/* Appends every volume in top/below and below that as training entries, sorted by name, which is relative to
 * `top`; `below` may be "". Links to folders are followed, but not into a folder that the search is already
 * in.
 *
 * Where there is no volume but DICOM, it is converted, and the volumes of the conversion are appended, named
 * relative to its folder; `conversion` is NULL where that is not wanted. It goes into conversion->folder,
 * for a set with a name into a folder of that name there, for `below` into NAME-<its hash>.
 *
 * VOCO_BAD_INPUT where there is no volume; failures of convert_dicom. */
enum voco_status dataset_add_folder(struct dataset *dataset, const char *top, const char *below,
                                    const struct dicom_conversion *conversion);

#endif
