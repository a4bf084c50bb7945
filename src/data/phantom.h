/* Synthetic torsos: CT-like volumes in HU with labelled anatomy, to try voco without data and to test it.
 *
 * The anatomy is consistent (the liver is always right and below the lungs), as the method needs, but every
 * subject differs in stature, girth and fat, in the size, place and tilt of each organ, by a smooth
 * deformation, in breathing position, contrast phase and noise. Subject k of seed s is a pure function of (s,
 * k).
 *
 * Coordinates are mm in RAS with the origin in the middle of the trunk: x to the patient's right, y to the
 * front, z up. Shapes and sizes are our own sketch of an adult's anatomy; HU values are typical of radiology
 * textbooks. */
#ifndef DATA_PHANTOM_H
#define DATA_PHANTOM_H

#include "voco/status.h"

#include <stdint.h>

enum phantom_structure {
    PHANTOM_AIR,
    PHANTOM_BODY, /* muscle and other soft tissue */
    PHANTOM_FAT,
    PHANTOM_LUNG_RIGHT,
    PHANTOM_LUNG_LEFT,
    PHANTOM_HEART,
    PHANTOM_LIVER,
    PHANTOM_SPLEEN,
    PHANTOM_STOMACH,
    PHANTOM_KIDNEY_RIGHT,
    PHANTOM_KIDNEY_LEFT,
    PHANTOM_SPINE,
    PHANTOM_AORTA,
    PHANTOM_BLADDER,
    PHANTOM_RIBS,
    PHANTOM_PELVIS,
    PHANTOM_TRACHEA,
    PHANTOM_BOWEL,
    PHANTOM_STRUCTURES,
};

/* "lung_right" and so on. */
const char *phantom_structure_name(enum phantom_structure structure);

enum contrast_phase { PHASE_NATIVE, PHASE_ARTERIAL, PHASE_PORTAL, PHASE_LATE, CONTRAST_PHASES };

enum { phantom_waves = 6 };

/* What makes one subject different from the others. */
struct phantom_subject {
    uint64_t seed;
    uint32_t number;
    double scale[3];      /* stature and girth, 1 = the standard body */
    double fat;           /* thickness of the layer under the skin, mm */
    double position[3];   /* where the patient lies in the scanner, mm */
    double turn[3];       /* rotation about x, y, z, radians */
    double breath;        /* how far the diaphragm is shifted, mm, up positive */
    double contour[3][3]; /* girth at pelvis, waist and chest: relative changes along x, y */
    struct {
        double wave[3]; /* radians per mm */
        double phase;
        double amplitude[3]; /* mm */
    } waves[phantom_waves];
    struct {
        double shift[3]; /* mm */
        double size[3];  /* factors */
        double tilt;     /* about the axis y, radians */
    } organ[PHANTOM_STRUCTURES];
    enum contrast_phase phase;
    double hu[PHANTOM_STRUCTURES];
    double noise; /* standard deviation, HU */
};

void phantom_subject_draw(struct phantom_subject *subject, uint64_t seed, uint32_t number);

/* What lies at a point of the standard body (mm, before the subject's scaling, turn and deformation): HU
 * without noise, softened over `blur` mm at borders, and the structure. */
struct phantom_tissue {
    float hu;
    enum phantom_structure structure;
};
struct phantom_tissue phantom_tissue_at(const struct phantom_subject *subject, const double point[3],
                                        double blur);

/* Fills hu (int16 HU) and labels (enum phantom_structure) of size[0] x size[1] x size[2] voxels, x fastest,
 * spacing mm, the grid's centre at the origin. Voxel (i, j, k) lies at ((i - (nx - 1) / 2) spacing_x, ...).
 */
void phantom_rasterise(int16_t *hu, uint8_t *labels, const struct phantom_subject *subject, const int size[3],
                       const double spacing[3]);

/* Slice z of that: nx ny voxels. */
void phantom_rasterise_slice(int16_t *hu, uint8_t *labels, const struct phantom_subject *subject, int z,
                             const int size[3], const double spacing[3]);

struct phantom_dataset {
    int count;
    uint64_t seed;
    int size[3];
    double spacing[3]; /* mm */
    int jobs;          /* threads, at least 1 */
};

/* Writes `folder` as a MSD data set: imagesTr/phantom_NNNN.nii.gz, labelsTr/..., and dataset.json with
 * training (the first four fifths, at least one) and validation. The folder is made where it is missing;
 * files of the same names are replaced. */
enum voco_status phantom_dataset_write(const char *folder, const struct phantom_dataset *dataset);

#endif
