/* DICOM series, as scanners and archives hand them out: voco does not read them, dcm2niix does
 * (https://github.com/rordenlab/dcm2niix, Debian's package dcm2niix), which turns each series into a NIfTI
 * file. */
#ifndef DATA_DICOM_H
#define DATA_DICOM_H

#include "voco/status.h"

#include <signal.h>

/* Where DICOM series that are found on the way to a list of volumes are converted to. */
struct dicom_conversion {
    const char *folder;
    const volatile sig_atomic_t *stop; /* may be NULL */
};

/* Whether there is a DICOM file but no NIfTI file in the folder or below it: one whose name ends in .dcm,
 * .ima or .dicom in any case, or that has "DICM" at byte 128. Looks at 20 000 names and into 2 000 files at
 * most; hidden files and folders do not count. */
int directory_holds_dicom(const char *path);

/* Has dcm2niix convert all series in `folder` and below into `out_folder`, which is made, one <series
 * UID>_<series number>.nii.gz each; what it printed is in dcm2niix.log there. The work is done in
 * <out_folder>.tmp.<pid>, which becomes `out_folder` when it is whole. What is done and how far it is goes
 * through the log.
 *
 * The file "converted" in `out_folder` says from which folder it came, how many files that held and when the
 * newest of them changed: where that is still so, nothing is done; else the conversion is made anew.
 *
 * VOCO_UNSUPPORTED where dcm2niix is not installed. VOCO_BAD_INPUT where it fails (its exit status and the
 * last line it printed; all it printed is then in <out_folder>.log), makes no volume, or `out_folder` holds
 * anything but a conversion. Where it says that a part of the series could not be converted, the rest counts,
 * with a warning. VOCO_STOPPED soon after *stop becomes non-zero; `stop` may be NULL. */
enum voco_status convert_dicom(const char *folder, const char *out_folder, const volatile sig_atomic_t *stop);

#endif
