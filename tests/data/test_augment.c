/* Crops out of a volume against plain loops that flip and turn arrays one after the other, and how often each
 * change is drawn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *new_crop(int n)
{
    float *crop = calloc((size_t)n * (size_t)n * (size_t)n, sizeof *crop);
    assert_non_null(crop);
    return crop;
}

static size_t at(int n, int x, int y, int z)
{
    return ((size_t)x * (size_t)n + (size_t)y) * (size_t)n + (size_t)z;
}

static void flipped(float *out, const float *in, int n, int axis)
{
    for (int x = 0; x < n; x++) {
        for (int y = 0; y < n; y++) {
            for (int z = 0; z < n; z++) {
                out[at(n, x, y, z)] = in[at(n, axis == 0 ? n - 1 - x : x, axis == 1 ? n - 1 - y : y,
                                            axis == 2 ? n - 1 - z : z)];
            }
        }
    }
}

/* numpy.rot90(in, 1, axes=(0, 1)): [[1, 2], [3, 4]] becomes [[2, 4], [1, 3]]. */
static void turned(float *out, const float *in, int n)
{
    for (int x = 0; x < n; x++) {
        for (int y = 0; y < n; y++) {
            for (int z = 0; z < n; z++) {
                out[at(n, x, y, z)] = in[at(n, y, n - 1 - x, z)];
            }
        }
    }
}

/* Each step of the augmentation on a whole array of its own, in the order of voco.md section 1. */
static float *oracle_crop(int n, const uint16_t *voxels, const int size[3], const int start[3],
                          const struct crop_change *change)
{
    float *crop = new_crop(n);
    float *next = new_crop(n);
    for (int x = 0; x < n; x++) {
        for (int y = 0; y < n; y++) {
            for (int z = 0; z < n; z++) {
                const int sx = start[0] + x;
                const int sy = start[1] + y;
                const int sz = start[2] + z;
                crop[at(n, x, y, z)] =
                    (float)(voxels[((size_t)sz * (size_t)size[1] + (size_t)sy) * (size_t)size[0] +
                                   (size_t)sx] /
                            65535.0);
            }
        }
    }
    for (int step = 0; step < 3 + change->quarter_turns; step++) {
        if (step < 3 && !change->flip[step]) {
            continue;
        }
        if (step < 3) {
            flipped(next, crop, n, step);
        } else {
            turned(next, crop, n);
        }
        float *swap = crop;
        crop = next;
        next = swap;
    }
    for (size_t i = 0; i < (size_t)n * (size_t)n * (size_t)n; i++) {
        crop[i] += change->shift;
    }
    free(next);
    return crop;
}

static uint16_t *random_voxels(const int size[3])
{
    const size_t count = (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
    uint16_t *voxels = malloc(count * sizeof *voxels);
    assert_non_null(voxels);
    for (size_t i = 0; i < count; i++) {
        const struct random_key key = {.seed = 1, .step = i, .purpose = RANDOM_TEST};
        voxels[i] = (uint16_t)random_below(&key, 0, 65536);
    }
    return voxels;
}

/* The crop's voxels with z fastest, `bytes` each. */
static void *gathered(int n, const uint16_t *voxels, const int size[3], const int start[3], int bytes)
{
    unsigned char *out = malloc((size_t)n * (size_t)n * (size_t)n * (size_t)bytes);
    assert_non_null(out);
    for (int x = 0; x < n; x++) {
        for (int y = 0; y < n; y++) {
            for (int z = 0; z < n; z++) {
                const size_t from =
                    ((size_t)(start[2] + z) * (size_t)size[1] + (size_t)(start[1] + y)) * (size_t)size[0] +
                    (size_t)(start[0] + x);
                memcpy(out + at(n, x, y, z) * (size_t)bytes, &voxels[from],
                       (size_t)bytes); /* little-endian */
            }
        }
    }
    return out;
}

/* Copies the crop in up to eight boxes, cut at a third of each axis, and unchanged to `stored` and, in two
 * bytes a voxel, `wide`. */
static void copy_in_parts(float *out, void *stored, uint16_t *wide, int n, const void *voxels, int bytes,
                          const struct crop_transform *transform)
{
    const int cut = n / 3;
    for (int box = 0; box < 8; box++) {
        struct crop_part part = {.voxel_bytes = bytes, .stride = {(ptrdiff_t)n * n, n}};
        for (int axis = 0; axis < 3; axis++) {
            const int upper = box >> axis & 1;
            part.at[axis] = upper ? cut : 0;
            part.extent[axis] = upper ? n - cut : cut;
        }
        part.voxels = (const char *)voxels + at(n, part.at[0], part.at[1], part.at[2]) * (size_t)bytes;
        if (part.extent[0] > 0 && part.extent[1] > 0 && part.extent[2] > 0) {
            copy_crop_part(out, &part, transform);
            copy_stored_part(stored, bytes, n, &part);
            copy_stored_part(wide, 2, n, &part);
        }
    }
}

static void check_crop(int n, const int size[3], const int start[3], const struct crop_change *change)
{
    uint16_t *voxels = random_voxels(size);
    const size_t all = (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
    for (int bytes = 2; bytes > 0; bytes--) {
        for (size_t i = 0; bytes == 1 && i < all; i++) {
            voxels[i] =
                (uint16_t)(voxels[i] / 257 * 257); /* both bytes alike: one of them alone is the same value */
        }
        float *expected = oracle_crop(n, voxels, size, start, change);
        float *crop = new_crop(n);
        void *stored = new_crop(n);
        uint16_t *wide = (uint16_t *)new_crop(n);
        const unsigned char *part = gathered(n, voxels, size, start, bytes);
        const struct crop_transform transform =
            crop_transform_of(change, bytes == 1 ? 1.0F / 255.0F : 1.0F / 65535.0F, n);
        copy_in_parts(crop, stored, wide, n, part, bytes, &transform);
        for (size_t i = 0; i < (size_t)n * (size_t)n * (size_t)n; i++) {
            assert_true(fabsf(crop[i] - expected[i]) < 1e-6F);
            assert_int_equal(wide[i], bytes == 1 ? part[i] : part[2 * i] | part[2 * i + 1] << 8);
        }
        assert_memory_equal(stored, part, (size_t)n * (size_t)n * (size_t)n * (size_t)bytes);
        free((void *)part);
        free(wide);
        free(stored);
        free(crop);
        free(expected);
    }
    free(voxels);
}

static void a_crop_is_its_slice_under_every_flip_and_turn(void **state)
{
    (void)state;
    const int size[3] = {11, 9, 8};
    const int start[3] = {3, 2, 1};
    for (int bits = 0; bits < 8; bits++) {
        for (int turns = 0; turns < 4; turns++) {
            const struct crop_change change = {.flip = {bits & 1, bits >> 1 & 1, bits >> 2 & 1},
                                               .quarter_turns = turns,
                                               .shift = 0.0625F * (float)turns};
            check_crop(5, size, start, &change);
        }
    }
}

static void crops_larger_than_a_tile_and_not_its_multiple_are_whole(void **state)
{
    (void)state;
    const struct {
        int n;
        int size[3];
        int start[3];
    } cases[] = {
        {32, {32, 32, 32}, {0, 0, 0}},
        {33, {40, 35, 33}, {7, 2, 0}},
        {48, {49, 50, 51}, {1, 2, 3}},
        {1, {3, 3, 3}, {2, 2, 2}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct crop_change changes[] = {{.shift = 0.0F},
                                              {.flip = {1, 0, 1}, .quarter_turns = 3, .shift = -0.1F}};
        for (size_t c = 0; c < 2; c++) {
            check_crop(cases[i].n, cases[i].size, cases[i].start, &changes[c]);
        }
    }
}

/* Within five standard deviations of a binomial. */
static void assert_frequency(int seen, int draws, double probability)
{
    assert_true(fabs(seen - draws * probability) <= 5.0 * sqrt(draws * probability * (1.0 - probability)));
}

static void changes_come_as_often_as_they_should(void **state)
{
    (void)state;
    enum { draws = 60000 };
    const struct augmentation augmentation = {
        .flip = {0.2F, 0.3F, 0.4F}, .rotate = 0.25F, .shift = 0.5F, .shift_range = 0.1F};
    int flips[3] = {0};
    int both = 0;
    int turns[4] = {0};
    int shifted = 0;
    int turned_and_shifted = 0;
    int turned_and_flipped = 0;
    int tenths[10] = {0};
    for (int i = 0; i < draws; i++) {
        const struct random_key place = {.seed = 77, .step = (uint64_t)(i / 11), .sample = 3};
        const struct crop_change change = draw_crop_change(&augmentation, &place, i % 11);
        for (int axis = 0; axis < 3; axis++) {
            flips[axis] += change.flip[axis];
        }
        both += change.flip[0] && change.flip[1];
        assert_in_range(change.quarter_turns, 0, 3);
        turns[change.quarter_turns]++;
        turned_and_shifted += change.quarter_turns != 0 && change.shift != 0.0F;
        turned_and_flipped += change.quarter_turns != 0 && change.flip[2];
        assert_true(change.shift >= -0.1F && change.shift < 0.1F);
        if (change.shift != 0.0F) {
            shifted++;
            tenths[(int)((double)(change.shift + 0.1F) * 49.9999)]++;
        }
    }
    assert_frequency(flips[0], draws, 0.2);
    assert_frequency(flips[1], draws, 0.3);
    assert_frequency(flips[2], draws, 0.4);
    assert_frequency(both, draws, 0.06);
    assert_frequency(turned_and_shifted, draws, 0.125);
    assert_frequency(turned_and_flipped, draws, 0.1);
    assert_frequency(turns[0], draws, 0.75);
    for (int k = 1; k < 4; k++) {
        assert_frequency(turns[k], draws, 0.25 / 3.0);
    }
    assert_frequency(shifted, draws, 0.5);
    for (int tenth = 0; tenth < 10; tenth++) {
        assert_frequency(tenths[tenth], shifted, 0.1);
    }
}

static void the_published_augmentation_is_the_default(void **state)
{
    (void)state;
    assert_true(augmentation_default.flip[0] == 0.2F && augmentation_default.flip[1] == 0.2F &&
                augmentation_default.flip[2] == 0.2F);
    assert_true(augmentation_default.rotate == 0.2F && augmentation_default.shift == 0.5F &&
                augmentation_default.shift_range == 0.1F);
}

static void probability_0_is_never_and_1_is_always(void **state)
{
    (void)state;
    const struct augmentation always = {
        .flip = {1.0F, 1.0F, 1.0F}, .rotate = 1.0F, .shift = 1.0F, .shift_range = 0.1F};
    for (uint64_t step = 0; step < 5000; step++) {
        const struct random_key place = {.seed = 2, .step = step};
        const struct crop_change none = draw_crop_change(&augmentation_none, &place, 0);
        assert_true(!none.flip[0] && !none.flip[1] && !none.flip[2] && none.quarter_turns == 0 &&
                    none.shift == 0.0F);
        const struct crop_change all = draw_crop_change(&always, &place, 0);
        assert_true(all.flip[0] && all.flip[1] && all.flip[2] && all.quarter_turns != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crop_is_its_slice_under_every_flip_and_turn),
        cmocka_unit_test(crops_larger_than_a_tile_and_not_its_multiple_are_whole),
        cmocka_unit_test(changes_come_as_often_as_they_should),
        cmocka_unit_test(the_published_augmentation_is_the_default),
        cmocka_unit_test(probability_0_is_never_and_1_is_always),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
