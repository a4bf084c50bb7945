/* From a file to what the network sees: places in the world, presets, refusals, real volumes. */
#include "nifti_bytes.h"
#include "volume/nifti.h"
#include "volume/orientation.h"
#include "volume/prepare.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const int no_padding[3] = {1, 1, 1};

static const struct preset one_to_one = {
    .name = "test", .spacing = {2, 3, 4}, .intensity = INTENSITY_WINDOW, .low = 0, .high = 100};

static float value_of(const struct volume *volume, const double world[3])
{
    /* The axes of the result are those of the world here. */
    size_t at[3];
    for (int axis = 0; axis < 3; axis++) {
        const double voxel = (world[axis] - volume->affine[axis][3]) / volume->affine[axis][axis];
        assert_true(fabs(voxel - rint(voxel)) < 1e-4);
        assert_true(voxel > -0.5 && voxel < volume->size[axis] - 0.5);
        at[axis] = (size_t)lrint(voxel);
    }
    return volume->data[(at[2] * (size_t)volume->size[1] + at[1]) * (size_t)volume->size[0] + at[0]];
}

/* A 6 x 7 x 8 volume of 2, 3, 4 mm along x, y, z of the world, stored along other axes: three landmarks must
 * be found at their places whatever the way of storing. */
static void check_landmarks(const int order[3], int flips)
{
    static const int world_size[3] = {6, 7, 8};
    static const double world_spacing[3] = {2, 3, 4};
    static const int landmarks[3][3] = {{1, 1, 1}, {4, 2, 6}, {2, 5, 3}};
    int size[3];
    double affine[3][4] = {{0, 0, 0, -31}, {0, 0, 0, 17}, {0, 0, 0, 5}};
    for (int axis = 0; axis < 3; axis++) {
        const int world = order[axis];
        const int negative = flips >> axis & 1;
        size[axis] = world_size[world];
        affine[world][axis] = negative ? -world_spacing[world] : world_spacing[world];
        affine[world][3] += negative ? (world_size[world] - 1) * world_spacing[world] : 0;
    }
    int16_t stored[6 * 7 * 8] = {0};
    for (int mark = 0; mark < 3; mark++) {
        int at[3];
        for (int axis = 0; axis < 3; axis++) {
            const int world = order[axis];
            at[axis] =
                flips >> axis & 1 ? world_size[world] - 1 - landmarks[mark][world] : landmarks[mark][world];
        }
        stored[(at[2] * size[1] + at[1]) * size[0] + at[0]] = (int16_t)(25 * (mark + 1));
    }
    const char *path = test_path("landmarks.nii.gz");
    assert_int_equal(nifti_write(path, size, affine, NIFTI_INT16, stored), VOCO_OK);
    struct volume volume;
    const int at_least[3] = {9, 1, 12};
    assert_int_equal(prepare_volume(&volume, path, &one_to_one, at_least), VOCO_OK);
    assert_memory_equal(volume.size, ((const int[]){9, 5, 12}), sizeof volume.size);
    for (int mark = 0; mark < 3; mark++) {
        const double world[3] = {-31 + 2.0 * landmarks[mark][0], 17 + 3.0 * landmarks[mark][1],
                                 5 + 4.0 * landmarks[mark][2]};
        assert_float_equal(value_of(&volume, world), 0.25 * (mark + 1), 1e-6);
    }
    volume_free(&volume);
}

static void landmarks_keep_their_places_in_all_48_orientations(void **state)
{
    (void)state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int way = 0; way < 48; way++) {
        check_landmarks(orders[way % 6], way / 6);
    }
}

/* A field that is linear in the world stays the same function of the world through tilt, resampling and
 * cropping. */
static void an_oblique_volume_keeps_its_places_when_resampled(void **state)
{
    (void)state;
    const int size[3] = {14, 12, 20};
    const double s = sin(0.35);
    const double c = cos(0.35);
    const double affine[3][4] = {{0, -3 * c, 0.9 * s, 40}, {0, 3 * s, 0.9 * c, -25}, {-1.7, 0, 0, 60}};
    float *stored = malloc(14 * 12 * 20 * sizeof *stored);
    assert_non_null(stored);
    for (int i = 0; i < 14 * 12 * 20; i++) {
        const int at[3] = {i % 14, i / 14 % 12, i / 168};
        double value = 50;
        for (int row = 0; row < 3; row++) {
            double world = affine[row][3];
            for (int axis = 0; axis < 3; axis++) {
                world += affine[row][axis] * at[axis];
            }
            value += (row + 1) * 0.1 * world;
        }
        stored[i] = (float)value;
    }
    const char *path = test_path("oblique.nii");
    assert_int_equal(nifti_write(path, size, affine, NIFTI_FLOAT32, stored), VOCO_OK);
    free(stored);
    struct volume volume;
    assert_int_equal(prepare_volume(&volume, path, &one_to_one, no_padding), VOCO_OK);
    char code[4];
    orientation_code(code, volume.affine);
    assert_string_equal(code, "RAS");
    double spacing[3];
    affine_spacing(spacing, volume.affine);
    int compared = 0;
    /* The first and the last voxel of an axis may lie beyond the border. */
    for (int z = 1; z < volume.size[2] - 1; z++) {
        for (int y = 1; y < volume.size[1] - 1; y++) {
            for (int x = 1; x < volume.size[0] - 1; x++) {
                double value = 50;
                for (int row = 0; row < 3; row++) {
                    const double *a = volume.affine[row];
                    value += (row + 1) * 0.1 * (a[0] * x + a[1] * y + a[2] * z + a[3]);
                }
                const float got = volume.data[(z * volume.size[1] + y) * volume.size[0] + x];
                assert_float_equal(got, value / 100, 2e-5);
                compared++;
            }
        }
    }
    assert_true(compared > 100);
    for (int axis = 0; axis < 3; axis++) {
        assert_float_equal(spacing[axis], one_to_one.spacing[axis], 1e-6);
    }
    volume_free(&volume);
}

static void presets_are_those_of_the_method(void **state)
{
    (void)state;
    struct preset preset;
    assert_int_equal(preset_from_name(&preset, "chest"), VOCO_OK);
    assert_float_equal(preset.spacing[0], 1.25, 0);
    assert_float_equal(preset.spacing[2], 5, 0);
    assert_float_equal(preset.low, -1000, 0);
    assert_float_equal(preset.high, 500, 0);
    assert_int_equal(preset.window, WINDOW_CROP);
    assert_int_equal(preset_from_name(&preset, "headneck"), VOCO_OK);
    assert_int_equal(preset.window, WINDOW_RESIZE);
    assert_float_equal(preset.low, -175, 0);
    assert_int_equal(preset_from_name(&preset, "abdomen"), VOCO_OK);
    assert_float_equal(preset.high, 250, 0);
    assert_int_equal(preset_from_name(&preset, "mr"), VOCO_OK);
    assert_int_equal(preset.intensity, INTENSITY_ZSCORE);
    assert_int_equal(preset_from_name(&preset, "abdomn"), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "abdomen, chest, headneck and mr"));
}

static void refuse(const char *path, const char *preset_name, const char *cause)
{
    struct preset preset;
    struct volume volume;
    assert_int_equal(preset_from_name(&preset, preset_name), VOCO_OK);
    assert_int_equal(prepare_volume(&volume, path, &preset, no_padding), VOCO_BAD_INPUT);
    assert_null(volume.data);
    if (strncmp(voco_error_message(), path, strlen(path)) != 0 ||
        strstr(voco_error_message(), cause) == NULL) {
        fail_msg("message \"%s\" should name %s and \"%s\"", voco_error_message(), path, cause);
    }
}

static void volumes_with_nothing_to_see_are_refused(void **state)
{
    (void)state;
    int16_t stored[64];
    const double affine[3][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};
    const int size[3] = {4, 4, 4};
    for (int i = 0; i < 64; i++) {
        stored[i] = 40;
    }
    const char *path = test_path("constant.nii.gz");
    assert_int_equal(nifti_write(path, size, affine, NIFTI_INT16, stored), VOCO_OK);
    refuse(path, "abdomen", "constant: all 64 voxels have the value 40");
    refuse(path, "mr", "constant: all 64 voxels have the value 40");
    for (int i = 0; i < 64; i++) {
        stored[i] = (int16_t)(-1000 + i);
    }
    assert_int_equal(nifti_write(path, size, affine, NIFTI_INT16, stored), VOCO_OK);
    refuse(path, "abdomen", "no voxel is above -175");
    const double endless[3][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1e5, 0}};
    assert_int_equal(nifti_write(path, size, endless, NIFTI_INT16, stored), VOCO_OK);
    refuse(path, "abdomen", "too large to resample");
}

/* What the affine says of a file's centre of mass must not change: the mean world position of its
 * window-scaled intensities, before and after. */
static void centre_of_mass(double centre[3], const struct volume *volume, double low, double high)
{
    double sum = 0;
    double moment[3] = {0};
    const float *value = volume->data;
    for (int z = 0; z < volume->size[2]; z++) {
        for (int y = 0; y < volume->size[1]; y++) {
            for (int x = 0; x < volume->size[0]; x++) {
                const double mass = fmin(fmax((*value++ - low) / (high - low), 0), 1);
                sum += mass;
                moment[0] += mass * x;
                moment[1] += mass * y;
                moment[2] += mass * z;
            }
        }
    }
    for (int row = 0; row < 3; row++) {
        const double *a = volume->affine[row];
        centre[row] = (a[0] * moment[0] + a[1] * moment[1] + a[2] * moment[2]) / sum + a[3];
    }
}

static void check_real_volume(const char *path, const struct preset *preset)
{
    struct volume volume;
    if (prepare_volume(&volume, path, preset, (const int[3]){64, 64, 64}) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    char code[4];
    orientation_code(code, volume.affine);
    assert_string_equal(code, "RAS");
    size_t foreground = 0;
    for (size_t i = 0; i < volume_count(&volume); i++) {
        assert_true(volume.data[i] >= 0 && volume.data[i] <= 1);
        foreground += volume.data[i] > 0;
    }
    assert_true(foreground > volume_count(&volume) / 100);
    double spacing[3];
    affine_spacing(spacing, volume.affine);
    for (int axis = 0; axis < 3; axis++) {
        assert_true(volume.size[axis] >= 64);
        assert_float_equal(spacing[axis], preset->spacing[axis], 1e-5);
    }
    if (preset->intensity == INTENSITY_WINDOW) {
        struct volume original;
        assert_int_equal(nifti_read(&original, path), VOCO_OK);
        double before[3];
        double after[3];
        centre_of_mass(before, &original, preset->low, preset->high);
        centre_of_mass(after, &volume, 0, 1);
        for (int row = 0; row < 3; row++) {
            assert_float_equal(after[row], before[row], 2.0);
        }
        volume_free(&original);
    }
    volume_free(&volume);
}

static void real_volumes_are_prepared_by_every_preset(void **state)
{
    (void)state;
    static const char *const files[] = {"ct/brain_atlas_1mm",   "ct/head_angio_uint8_scaled",
                                        "ct/head_tilted_uint8", "ct/thorax_1p5mm_lps",
                                        "ct/torso_3mm_int32",   "mr/brain_t2"};
    static const char *const names[] = {"abdomen", "chest", "headneck", "mr"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/data/%s.nii.gz", VOCO_SHARED, files[i]);
        if (access(path, R_OK) != 0) {
            print_message("skipped: the real volumes are not here\n");
            skip();
        }
        for (int p = 0; p < 4; p++) {
            struct preset preset;
            assert_int_equal(preset_from_name(&preset, names[p]), VOCO_OK);
            check_real_volume(path, &preset);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(landmarks_keep_their_places_in_all_48_orientations),
        cmocka_unit_test(an_oblique_volume_keeps_its_places_when_resampled),
        cmocka_unit_test(presets_are_those_of_the_method),
        cmocka_unit_test(volumes_with_nothing_to_see_are_refused),
        cmocka_unit_test(real_volumes_are_prepared_by_every_preset),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_test_folder();
    return failed;
}
