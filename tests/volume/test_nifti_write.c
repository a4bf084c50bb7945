/* What nifti_write leaves on disk, read back through the reader and byte by byte. */
#include "nifti_bytes.h"
#include "volume/nifti.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const int size[3] = {5, 4, 3};
enum { voxel_count = 5 * 4 * 3 };

/* A rotation by 0.3 about z and a flip, without shear. */
static const double oblique[3][4] = {{-1.5 * 0.955336489, -2 * 0.295520207, 0, 12.5},
                                     {-1.5 * 0.295520207, 2 * 0.955336489, 0, -7.25},
                                     {0, 0, 2.5, 100}};
static const double sheared[3][4] = {{1, 0.5, 0, 1}, {0, 1, 0, 2}, {0, 0, 1, 3}};

static int16_t short_at(const unsigned char *bytes, int offset)
{
    int16_t value;
    memcpy(&value, bytes + offset, sizeof value);
    return value;
}

static void write_and_read(const char *name, const double affine[3][4], enum nifti_type type,
                           const void *data, const float *expected)
{
    const char *path = test_path(name);
    assert_int_equal(nifti_write(path, size, affine, type, data), VOCO_OK);
    struct volume volume;
    if (nifti_read(&volume, path) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    assert_memory_equal(volume.size, size, sizeof size);
    assert_memory_equal(volume.data, expected, voxel_count * sizeof *expected);
    for (int i = 0; i < 12; i++) {
        assert_float_equal(volume.affine[i / 4][i % 4], affine[i / 4][i % 4], 1e-5);
    }
    volume_free(&volume);
}

static void channels_are_the_fourth_axis(void **state)
{
    (void)state;
    enum { channels = 3 };
    float values[channels * voxel_count];
    unsigned char bytes[352 + sizeof values];
    for (int i = 0; i < channels * voxel_count; i++) {
        values[i] = (float)i * 0.25F;
    }
    const char *path = test_path("channels.nii");
    assert_int_equal(nifti_write_channels(path, size, channels, oblique, NIFTI_FLOAT32, values), VOCO_OK);
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    assert_int_equal(fread(bytes, 1, sizeof bytes, stream), sizeof bytes);
    assert_int_equal(fgetc(stream), EOF);
    (void)fclose(stream);
    (void)unlink(path);
    static const int16_t dim[8] = {4, 5, 4, 3, channels, 1, 1, 1};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(short_at(bytes, 40 + 2 * i), dim[i]);
    }
    assert_memory_equal(bytes + 352, values, sizeof values);
    static const int wrong[] = {0, -1, 32768};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(nifti_write_channels(path, size, wrong[i], oblique, NIFTI_FLOAT32, values),
                         VOCO_BAD_INPUT);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void each_type_is_read_back_plain_and_packed(void **state)
{
    (void)state;
    float reals[voxel_count];
    int16_t shorts[voxel_count];
    uint8_t bytes[voxel_count];
    float expected_shorts[voxel_count];
    float expected_bytes[voxel_count];
    for (int i = 0; i < voxel_count; i++) {
        reals[i] = (float)i * 0.37f - 5;
        shorts[i] = (int16_t)(i * 1000 - 30000);
        bytes[i] = (uint8_t)(i * 4);
        expected_shorts[i] = shorts[i];
        expected_bytes[i] = bytes[i];
    }
    const char *names[] = {"out.nii", "out.nii.gz"};
    for (int i = 0; i < 2; i++) {
        write_and_read(names[i], oblique, NIFTI_FLOAT32, reals, reals);
        write_and_read(names[i], oblique, NIFTI_INT16, shorts, expected_shorts);
        write_and_read(names[i], sheared, NIFTI_UINT8, bytes, expected_bytes);
        size_t count;
        unsigned char *written = read_test_file(&count, test_path(names[i]));
        assert_int_equal(written[0] == 0x1f && written[1] == 0x8b, i);
        free(written);
    }
}

/* Sets sform_code to 0 in a written file, so that the reader has to take the qform. */
static enum voco_status read_without_sform(struct nifti_info *info, const char *path)
{
    size_t count;
    unsigned char *bytes = read_test_file(&count, path);
    memset(bytes + 254, 0, 2);
    const char *changed = write_test_file("changed.nii", bytes, count);
    free(bytes);
    return nifti_read_info(info, changed);
}

static void the_qform_says_the_same_as_the_sform(void **state)
{
    (void)state;
    const uint8_t zeros[voxel_count] = {0};
    const char *path = test_path("forms.nii");
    for (int flip = 0; flip < 8; flip++) {
        double affine[3][4];
        memcpy(affine, oblique, sizeof affine);
        for (int row = 0; row < 3; row++) {
            for (int axis = 0; axis < 3; axis++) {
                affine[row][axis] *= flip >> axis & 1 ? -1 : 1;
            }
        }
        assert_int_equal(nifti_write(path, size, affine, NIFTI_UINT8, zeros), VOCO_OK);
        struct nifti_info info;
        assert_int_equal(read_without_sform(&info, path), VOCO_OK);
        assert_string_equal(info.affine_source, "qform");
        for (int i = 0; i < 12; i++) {
            assert_float_equal(info.affine[i / 4][i % 4], affine[i / 4][i % 4], 1e-5);
        }
    }
}

static void an_affine_with_shear_has_no_qform(void **state)
{
    (void)state;
    const uint8_t zeros[voxel_count] = {0};
    const char *path = test_path("shear.nii");
    assert_int_equal(nifti_write(path, size, sheared, NIFTI_UINT8, zeros), VOCO_OK);
    size_t count;
    unsigned char *bytes = read_test_file(&count, path);
    assert_int_equal(count, 352 + voxel_count);
    assert_int_equal(short_at(bytes, 252), 0);
    assert_int_equal(short_at(bytes, 254), 1);
    free(bytes);
}

static void a_large_volume_packs_and_unpacks(void **state)
{
    (void)state;
    const int large[3] = {150, 131, 97};
    const size_t count = 150u * 131u * 97u;
    int16_t *data = malloc(count * sizeof *data);
    assert_non_null(data);
    uint32_t word = 7;
    for (size_t i = 0; i < count; i++) {
        word = word * 1664525u + 1013904223u;
        data[i] = (int16_t)(i % 1000 < 500 ? (int)(word >> 24) : -1000);
    }
    const char *path = test_path("large.nii.gz");
    assert_int_equal(nifti_write(path, large, sheared, NIFTI_INT16, data), VOCO_OK);
    struct volume volume;
    assert_int_equal(nifti_read(&volume, path), VOCO_OK);
    for (size_t i = 0; i < count; i++) {
        if (volume.data[i] != (float)data[i]) {
            fail_msg("voxel %zu is %g, not %d", i, (double)volume.data[i], data[i]);
        }
    }
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_true((size_t)info.st_size < count);
    volume_free(&volume);
    free(data);
}

static void what_cannot_be_written_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    const uint8_t zeros[voxel_count] = {0};
    const char *path = test_path("refused.nii.gz");
    const double flat[3][4] = {{1, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 0}};
    assert_int_equal(nifti_write(path, (const int[3]){5, 0, 4}, oblique, NIFTI_UINT8, zeros), VOCO_BAD_INPUT);
    assert_int_equal(nifti_write(path, (const int[3]){1, 32768, 1}, oblique, NIFTI_UINT8, zeros),
                     VOCO_BAD_INPUT);
    assert_int_equal(nifti_write(path, size, flat, NIFTI_UINT8, zeros), VOCO_BAD_INPUT);
    assert_int_equal(access(path, F_OK), -1);
    const char *nowhere = test_path("no_folder/out.nii.gz");
    assert_int_equal(nifti_write(nowhere, size, oblique, NIFTI_UINT8, zeros), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), nowhere));
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    static uint8_t noise[64 * 64 * 64];
    uint32_t word = 3;
    for (size_t i = 0; i < sizeof noise; i++) {
        word = word * 1664525u + 1013904223u;
        noise[i] = (uint8_t)(word >> 24);
    }
    const int large[3] = {64, 64, 64};
    const char *names[] = {"full.nii", "full.nii.gz"};
    for (int i = 0; i < 2; i++) {
        const char *path = write_test_file(names[i], "old", 3);
        struct rlimit before;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){65536, before.rlim_max}), 0);
        const enum voco_status status = nifti_write(path, large, sheared, NIFTI_UINT8, noise);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, VOCO_IO);
        assert_non_null(strstr(voco_error_message(), path));
        size_t count;
        unsigned char *bytes = read_test_file(&count, path);
        assert_int_equal(count, 3);
        assert_memory_equal(bytes, "old", 3);
        free(bytes);
        assert_int_equal(unlink(path), 0);
    }
    /* No temporary file is left: but for the files of the other tests, the folder is empty. */
    DIR *entries = opendir(test_folder());
    assert_non_null(entries);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        assert_null(strstr(entry->d_name, "full.nii"));
    }
    closedir(entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_is_read_back_plain_and_packed),
        cmocka_unit_test(channels_are_the_fourth_axis),
        cmocka_unit_test(the_qform_says_the_same_as_the_sform),
        cmocka_unit_test(an_affine_with_shear_has_no_qform),
        cmocka_unit_test(a_large_volume_packs_and_unpacks),
        cmocka_unit_test(what_cannot_be_written_is_refused_and_leaves_nothing),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_test_folder();
    return failed;
}
