#include "data/phantom.h"

#include "base/philox.h"

#include <math.h>
#include <string.h>

/* Numbers in order of use, so that the drawing reads like a list. */
struct draws {
    struct random_key key;
    uint32_t next;
};

static double uniform(struct draws *draws, double from, double to)
{
    return from + (to - from) * (double)random_uniform(&draws->key, draws->next++);
}

/* Normal, cut at two standard deviations: no subject is a monster. */
static double varied(struct draws *draws, double mean, double deviation)
{
    const double value = (double)random_normal(&draws->key, draws->next++);
    return mean + deviation * fmin(2.0, fmax(-2.0, value));
}

static void draw_intensities(struct phantom_subject *subject, struct draws *draws)
{
    /* HU of blood, heart, liver, spleen, kidney, bladder without contrast and in the three phases. */
    static const double enhanced[CONTRAST_PHASES][6] = {
        [PHASE_NATIVE] = {44, 42, 58, 48, 33, 8},
        [PHASE_ARTERIAL] = {310, 230, 72, 128, 150, 10},
        [PHASE_PORTAL] = {160, 150, 112, 120, 185, 12},
        [PHASE_LATE] = {108, 100, 92, 92, 140, 190},
    };
    static const double plain[PHANTOM_STRUCTURES] = {
        [PHANTOM_AIR] = -1000,       [PHANTOM_BODY] = 52,        [PHANTOM_FAT] = -100,
        [PHANTOM_LUNG_RIGHT] = -850, [PHANTOM_LUNG_LEFT] = -850, [PHANTOM_STOMACH] = 28,
        [PHANTOM_SPINE] = 330,       [PHANTOM_RIBS] = 420,       [PHANTOM_PELVIS] = 380,
        [PHANTOM_TRACHEA] = -970,    [PHANTOM_BOWEL] = 34,
    };
    memcpy(subject->hu, plain, sizeof plain);
    subject->phase = (enum contrast_phase)random_below(&draws->key, draws->next++, CONTRAST_PHASES);
    const double *blood = enhanced[subject->phase];
    subject->hu[PHANTOM_AORTA] = blood[0];
    subject->hu[PHANTOM_HEART] = blood[1];
    subject->hu[PHANTOM_LIVER] = blood[2];
    subject->hu[PHANTOM_SPLEEN] = blood[3];
    subject->hu[PHANTOM_KIDNEY_RIGHT] = subject->hu[PHANTOM_KIDNEY_LEFT] = blood[4];
    subject->hu[PHANTOM_BLADDER] = blood[5];
    const double bone = varied(draws, 1.0, 0.12);
    for (int i = PHANTOM_BODY; i < PHANTOM_STRUCTURES; i++) {
        subject->hu[i] += varied(draws, 0.0, 3.0 + 0.03 * fabs(subject->hu[i]));
    }
    subject->hu[PHANTOM_SPINE] *= bone;
    subject->hu[PHANTOM_RIBS] *= bone;
    subject->hu[PHANTOM_PELVIS] *= bone;
    subject->noise = uniform(draws, 6.0, 16.0);
}

void phantom_subject_draw(struct phantom_subject *subject, uint64_t seed, uint32_t number)
{
    *subject = (struct phantom_subject){.seed = seed, .number = number};
    struct draws draws = {{.seed = seed, .sample = number, .purpose = RANDOM_PHANTOM}, 0};
    const double stature = varied(&draws, 1.0, 0.05);
    const double girth = varied(&draws, 1.0, 0.06);
    subject->scale[0] = stature * girth;
    subject->scale[1] = stature * girth * varied(&draws, 1.0, 0.03);
    subject->scale[2] = stature;
    const double leanness = uniform(&draws, 0.0, 1.0);
    subject->fat = 5.0 + 28.0 * leanness * leanness;
    for (int axis = 0; axis < 3; axis++) {
        subject->position[axis] = varied(&draws, 0.0, axis == 2 ? 8.0 : 5.0);
        subject->turn[axis] = varied(&draws, 0.0, 0.03);
    }
    subject->breath = varied(&draws, 0.0, 7.0);
    for (int part = 0; part < 3; part++) {
        subject->contour[part][0] = varied(&draws, 0.0, 0.04);
        subject->contour[part][1] = varied(&draws, 0.0, 0.05);
    }
    for (int i = 0; i < phantom_waves; i++) {
        const double length = uniform(&draws, 110.0, 260.0); /* mm */
        double direction[3];
        double norm = 1e-6;
        for (int axis = 0; axis < 3; axis++) {
            direction[axis] = varied(&draws, 0.0, 1.0);
            norm += direction[axis] * direction[axis];
        }
        for (int axis = 0; axis < 3; axis++) {
            subject->waves[i].wave[axis] = 6.283185307179586 / length * direction[axis] / sqrt(norm);
            subject->waves[i].amplitude[axis] = varied(&draws, 0.0, 1.8);
        }
        subject->waves[i].phase = uniform(&draws, 0.0, 6.283185307179586);
    }
    for (int i = 0; i < PHANTOM_STRUCTURES; i++) {
        for (int axis = 0; axis < 3; axis++) {
            subject->organ[i].shift[axis] = varied(&draws, 0.0, 3.5);
            subject->organ[i].size[axis] = varied(&draws, 1.0, 0.06);
        }
        subject->organ[i].tilt = varied(&draws, 0.0, 0.08);
    }
    draw_intensities(subject, &draws);
}

/* From scanner to standard body: undo position, turn (small angles, one after the other), deformation and
 * scale. */
static void into_body(double body[3], const struct phantom_subject *subject, const double place[3])
{
    double p[3];
    for (int axis = 0; axis < 3; axis++) {
        p[axis] = place[axis] - subject->position[axis];
    }
    for (int axis = 0; axis < 3; axis++) {
        const int a = (axis + 1) % 3;
        const int b = (axis + 2) % 3;
        const double cosine = cos(subject->turn[axis]);
        const double sine = sin(subject->turn[axis]);
        const double turned = cosine * p[a] + sine * p[b];
        p[b] = cosine * p[b] - sine * p[a];
        p[a] = turned;
    }
    double moved[3] = {p[0], p[1], p[2]};
    for (int i = 0; i < phantom_waves; i++) {
        double angle = subject->waves[i].phase;
        for (int axis = 0; axis < 3; axis++) {
            angle += subject->waves[i].wave[axis] * p[axis];
        }
        const double displacement = sin(angle);
        for (int axis = 0; axis < 3; axis++) {
            moved[axis] += displacement * subject->waves[i].amplitude[axis];
        }
    }
    for (int axis = 0; axis < 3; axis++) {
        body[axis] = moved[axis] / subject->scale[axis];
    }
}

/* Nearly normal noise of standard deviation 1: the sum of four random bytes, standardised (mean 510,
 * deviation 147.8). */
static double noise_at(const uint32_t words[4], unsigned voxel)
{
    const uint32_t word = words[voxel % 4];
    const uint32_t sum = (word & 255U) + (word >> 8 & 255U) + (word >> 16 & 255U) + (word >> 24);
    return ((double)sum - 510.0) / 147.8;
}

void phantom_rasterise_slice(int16_t *hu, uint8_t *labels, const struct phantom_subject *subject, int z,
                             const int size[3], const double spacing[3])
{
    const double blur = (spacing[0] + spacing[1] + spacing[2]) / 3.0;
    const uint32_t key[2] = {(uint32_t)subject->seed, (uint32_t)(subject->seed >> 32) ^ 0x70616e74U};
    size_t voxel = 0;
    for (int y = 0; y < size[1]; y++) {
        uint32_t words[4] = {0};
        for (int x = 0; x < size[0]; x++, voxel++) {
            const double place[3] = {(x - 0.5 * (size[0] - 1)) * spacing[0],
                                     (y - 0.5 * (size[1] - 1)) * spacing[1],
                                     (z - 0.5 * (size[2] - 1)) * spacing[2]};
            double body[3];
            into_body(body, subject, place);
            const struct phantom_tissue tissue = phantom_tissue_at(subject, body, blur);
            if (x % 4 == 0) {
                const uint32_t counter[4] = {(uint32_t)x, (uint32_t)y, (uint32_t)z, subject->number};
                philox4x32_10(words, counter, key);
            }
            const double noisy = (double)tissue.hu + subject->noise * noise_at(words, (unsigned)x);
            hu[voxel] = (int16_t)lrint(fmin(3071.0, fmax(-1024.0, noisy)));
            labels[voxel] = (uint8_t)tissue.structure;
        }
    }
}

void phantom_rasterise(int16_t *hu, uint8_t *labels, const struct phantom_subject *subject, const int size[3],
                       const double spacing[3])
{
    const size_t slice = (size_t)size[0] * (size_t)size[1];
    for (int z = 0; z < size[2]; z++) {
        phantom_rasterise_slice(hu + (size_t)z * slice, labels + (size_t)z * slice, subject, z, size,
                                spacing);
    }
}
