/* The phantoms: reproducible, complete, anatomically consistent, and different from each other. */
#include "data/phantom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int size[3] = {79, 61, 69};
static const double spacing[3] = {5.6, 5.8, 6.0};
enum { voxels = 79 * 61 * 69, subjects = 6 };

struct phantom {
    int16_t *hu;
    uint8_t *labels;
    size_t count[PHANTOM_STRUCTURES];
    double centre[PHANTOM_STRUCTURES][3]; /* mm */
    double mean[PHANTOM_STRUCTURES];      /* HU */
};

static void measure(struct phantom *phantom)
{
    memset(phantom->count, 0, sizeof phantom->count);
    memset(phantom->centre, 0, sizeof phantom->centre);
    memset(phantom->mean, 0, sizeof phantom->mean);
    for (size_t i = 0; i < voxels; i++) {
        const int structure = phantom->labels[i];
        assert_in_range(structure, 0, PHANTOM_STRUCTURES - 1);
        const size_t index[3] = {i % 79, i / 79 % 61, i / (size_t)(79 * 61)};
        phantom->count[structure]++;
        phantom->mean[structure] += phantom->hu[i];
        for (int axis = 0; axis < 3; axis++) {
            phantom->centre[structure][axis] +=
                ((double)index[axis] - 0.5 * (size[axis] - 1)) * spacing[axis];
        }
    }
    for (int structure = 0; structure < PHANTOM_STRUCTURES; structure++) {
        if (phantom->count[structure] > 0) {
            phantom->mean[structure] /= (double)phantom->count[structure];
            for (int axis = 0; axis < 3; axis++) {
                phantom->centre[structure][axis] /= (double)phantom->count[structure];
            }
        }
    }
}

static struct phantom make(uint64_t seed, uint32_t number)
{
    struct phantom phantom = {0};
    phantom.hu = malloc(voxels * sizeof *phantom.hu);
    phantom.labels = malloc(voxels);
    assert_non_null(phantom.hu);
    assert_non_null(phantom.labels);
    struct phantom_subject subject;
    phantom_subject_draw(&subject, seed, number);
    phantom_rasterise(phantom.hu, phantom.labels, &subject, size, spacing);
    measure(&phantom);
    return phantom;
}

static void drop(struct phantom *phantom)
{
    free(phantom->hu);
    free(phantom->labels);
}

static void same_seed_and_number_give_the_same_phantom(void **state)
{
    (void)state;
    struct phantom a = make(3, 2);
    struct phantom b = make(3, 2);
    struct phantom other_number = make(3, 1);
    struct phantom other_seed = make(4, 2);
    assert_memory_equal(a.hu, b.hu, voxels * sizeof *a.hu);
    assert_memory_equal(a.labels, b.labels, voxels);
    assert_memory_not_equal(a.labels, other_number.labels, voxels);
    assert_memory_not_equal(a.labels, other_seed.labels, voxels);
    drop(&a);
    drop(&b);
    drop(&other_number);
    drop(&other_seed);
}

static void every_subject_has_every_structure_where_it_belongs(void **state)
{
    (void)state;
    for (uint32_t number = 0; number < subjects; number++) {
        struct phantom p = make(11, number);
        for (int structure = 0; structure < PHANTOM_STRUCTURES; structure++) {
            if (p.count[structure] < 8) {
                fail_msg("subject %u: %s has %zu voxels", number,
                         phantom_structure_name((enum phantom_structure)structure), p.count[structure]);
            }
        }
        const double(*centre)[3] = (const double(*)[3])p.centre;
        assert_true(centre[PHANTOM_LIVER][0] > 20.0);
        assert_true(centre[PHANTOM_SPLEEN][0] < -50.0);
        assert_true(centre[PHANTOM_STOMACH][0] < -10.0);
        assert_true(centre[PHANTOM_LUNG_RIGHT][0] > 40.0 && centre[PHANTOM_LUNG_LEFT][0] < -40.0);
        assert_true(centre[PHANTOM_KIDNEY_RIGHT][0] > 30.0 && centre[PHANTOM_KIDNEY_LEFT][0] < -30.0);
        assert_true(centre[PHANTOM_LUNG_RIGHT][2] > centre[PHANTOM_LIVER][2] + 40.0);
        assert_true(centre[PHANTOM_HEART][2] > centre[PHANTOM_STOMACH][2] + 30.0);
        assert_true(centre[PHANTOM_BLADDER][2] < centre[PHANTOM_KIDNEY_RIGHT][2] - 80.0);
        assert_true(centre[PHANTOM_SPINE][1] < centre[PHANTOM_AORTA][1]);
        assert_true(centre[PHANTOM_AORTA][1] < centre[PHANTOM_HEART][1]);
        drop(&p);
    }
}

static void intensities_are_those_of_ct(void **state)
{
    (void)state;
    for (uint32_t number = 0; number < subjects; number++) {
        struct phantom p = make(5, number);
        assert_true(p.mean[PHANTOM_AIR] < -980.0);
        assert_true(p.mean[PHANTOM_FAT] > -130.0 && p.mean[PHANTOM_FAT] < -40.0);
        assert_true(p.mean[PHANTOM_BODY] > 0.0 && p.mean[PHANTOM_BODY] < 90.0);
        assert_true(p.mean[PHANTOM_LUNG_RIGHT] < -500.0);
        assert_true(p.mean[PHANTOM_LIVER] > 30.0 && p.mean[PHANTOM_LIVER] < 160.0);
        assert_true(p.mean[PHANTOM_PELVIS] > 180.0);
        drop(&p);
    }
}

static void phases_and_habitus_vary_between_subjects(void **state)
{
    (void)state;
    int phases[CONTRAST_PHASES] = {0};
    double leanest = 1e9;
    double fattest = 0.0;
    for (uint32_t number = 0; number < 40; number++) {
        struct phantom_subject subject;
        phantom_subject_draw(&subject, 1, number);
        phases[subject.phase]++;
        leanest = subject.fat < leanest ? subject.fat : leanest;
        fattest = subject.fat > fattest ? subject.fat : fattest;
    }
    for (int phase = 0; phase < CONTRAST_PHASES; phase++) {
        assert_true(phases[phase] >= 2);
    }
    assert_true(fattest > leanest + 15.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_and_number_give_the_same_phantom),
        cmocka_unit_test(every_subject_has_every_structure_where_it_belongs),
        cmocka_unit_test(intensities_are_those_of_ct),
        cmocka_unit_test(phases_and_habitus_vary_between_subjects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
