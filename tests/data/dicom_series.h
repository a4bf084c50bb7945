/* Small DICOM files for tests: CT slices, Explicit VR Little Endian (DICOM PS3.5, 7.1 and A.2). */
#ifndef TESTS_DICOM_SERIES_H
#define TESTS_DICOM_SERIES_H

struct dicom_slice {
    int series;        /* 1, 2, ...: its number and the end of its UID */
    int instance;      /* from 1 */
    int columns, rows; /* at most 64 each */
    double spacing;    /* mm, of pixels and of slices */
};

/* Writes one file; its pixels are series * 100 + instance - 1024 HU but for a ramp along the columns. Fails
 * the running test where it cannot. */
void put_dicom_slice(const char *path, const struct dicom_slice *slice);

#endif
