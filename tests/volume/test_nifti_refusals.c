/* Every file that is not what it must be is refused with one line that names it and the cause. */
#include "nifti_bytes.h"
#include "volume/nifti.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

enum { voxel_count = 4 * 4 * 4 };

static float voxels[voxel_count];

static void assert_refused(enum voco_status status, enum voco_status expected, const char *path,
                           const char *cause)
{
    const char *message = voco_error_message();
    assert_int_equal(status, expected);
    if (strncmp(message, path, strlen(path)) != 0 || strstr(message, cause) == NULL ||
        strchr(message, '\n') != NULL) {
        fail_msg("message \"%s\" should name %s and \"%s\"", message, path, cause);
    }
}

static void refuse_bytes(const char *name, const unsigned char *bytes, size_t count, const char *cause)
{
    const char *path = write_test_file(name, bytes, count);
    struct volume volume;
    assert_refused(nifti_read(&volume, path), VOCO_BAD_INPUT, path, cause);
    assert_null(volume.data);
    assert_refused(nifti_read_memory(&volume, bytes, count, path), VOCO_BAD_INPUT, path, cause);
    assert_null(volume.data);
}

static void refuse_sample(const struct nifti_sample *sample, const char *cause)
{
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, sample, voxels, voxel_count);
    refuse_bytes("sample.nii", bytes, count, cause);
    size_t packed_count;
    unsigned char *packed = gzip_bytes(&packed_count, bytes, count);
    refuse_bytes("sample.nii.gz", packed, packed_count, cause);
    free(packed);
    free(bytes);
}

static void dimensions_out_of_bounds_are_refused(void **state)
{
    (void)state;
    for (int version = 1; version <= 2; version++) {
        for (int big_endian = 0; big_endian <= 1; big_endian++) {
            struct nifti_sample sample = plain_sample(4, -4, 4);
            sample.version = version;
            sample.big_endian = big_endian;
            refuse_sample(&sample, "header has dimension 2 of -4 voxels");
            sample.dim[2] = 0;
            refuse_sample(&sample, "header has dimension 2 of 0 voxels");
            sample.dim[2] = 4;
            sample.dim[3] = 32767;
            refuse_sample(&sample, "4x4x32767 voxels of float32, 20");
            sample.dim[1] = sample.dim[2] = 32767;
            refuse_sample(&sample, "header has dimension 3 of 32767 voxels, over");
            sample.dim[0] = 8;
            refuse_sample(&sample, "header has 8 dimensions");
            sample.dim[0] = -1;
            refuse_sample(&sample, "header has -1 dimensions");
        }
    }
    struct nifti_sample sample = plain_sample(4, 4, 4);
    sample.version = 2;
    sample.dim[3] = INT64_MAX;
    refuse_sample(&sample, "header has dimension 3 of 9223372036854775807 voxels, over");
    sample.dim[0] = INT64_MIN;
    refuse_sample(&sample, "dimensions");
}

static void volumes_in_time_are_refused(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(4, 4, 2);
    sample.dim[0] = 4;
    sample.dim[4] = 2;
    refuse_sample(&sample, "has 2 volumes, where one");
}

static void types_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    static const struct {
        int type;
        const char *cause;
    } cases[] = {{0, "unknown data type 0"},  {1, "1-bit"},         {32, "complex64"},    {128, "RGB;"},
                 {1536, "128-bit float"},     {1792, "complex128"}, {2048, "complex256"}, {2304, "RGBA"},
                 {-7, "unknown data type -7"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nifti_sample sample = plain_sample(4, 4, 4);
        sample.datatype = cases[i].type;
        refuse_sample(&sample, cases[i].cause);
    }
}

static void singular_and_endless_affines_are_refused(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(4, 4, 4);
    sample.srow[1][1] = 0;
    refuse_sample(&sample, "the affine of its sform is singular");
    sample.srow[1][1] = 1;
    sample.srow[0][1] = 1e7;
    refuse_sample(&sample, "the affine of its sform is singular");
    sample = plain_sample(4, 4, 4);
    sample.sform_code = 0;
    sample.pixdim[2] = 1e9;
    refuse_sample(&sample, "the affine of its pixel sizes is singular");
}

static void voxels_out_of_the_file_are_refused(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(4, 4, 4);
    sample.voxel_offset = 1e30;
    refuse_sample(&sample, "header places the voxels at byte 1e+30");
    sample.voxel_offset = NAN;
    refuse_sample(&sample, "header places the voxels at byte");
    sample.voxel_offset = -5000;
    refuse_sample(&sample, "header places the voxels at byte -5000");
    sample.voxel_offset = 1e9;
    refuse_sample(&sample, "which a file of this length cannot hold");
}

static void not_finite_voxels_are_counted(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(4, 4, 4);
    voxels[1 + 4 * (2 + 4 * 3)] = NAN;
    voxels[63] = -INFINITY;
    refuse_sample(&sample, "2 of 64 voxels are NaN or infinite, the first at (1, 2, 3)");
    voxels[1 + 4 * (2 + 4 * 3)] = 0;
    refuse_sample(&sample, "1 of 64 voxels are NaN or infinite, the first at (3, 3, 3)");
    voxels[63] = 0;
    double wide[voxel_count] = {0};
    wide[5] = 1e300; /* infinite as float */
    sample.datatype = 64;
    sample.voxel_bytes = 8;
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, &sample, wide, voxel_count);
    refuse_bytes("wide.nii", bytes, count, "1 of 64 voxels are NaN or infinite, the first at (1, 1, 0)");
    free(bytes);
}

static void a_plain_file_that_ends_early_is_refused(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(4, 4, 4);
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, &sample, voxels, voxel_count);
    refuse_bytes("short.nii", bytes, 3, "the file ends at byte 3 of the header");
    refuse_bytes("short.nii", bytes, 347, "the file ends at byte 347 of the header");
    refuse_bytes("short.nii", bytes, 348, "608 bytes, which a file of this length cannot hold");
    refuse_bytes("short.nii", bytes, count - 1, "608 bytes, which a file of this length cannot hold");
    free(bytes);
}

static unsigned char *packed_noise(size_t *packed_count)
{
    enum { side = 40 };
    static int16_t noise[side * side * side];
    uint32_t word = 1;
    for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
        word = word * 1664525u + 1013904223u;
        noise[i] = (int16_t)(word >> 20);
    }
    static const double affine[3][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};
    const char *path = test_path("noise.nii.gz");
    assert_int_equal(nifti_write(path, (const int[3]){side, side, side}, affine, NIFTI_INT16, noise),
                     VOCO_OK);
    return read_test_file(packed_count, path);
}

static void a_gzip_stream_cut_anywhere_is_refused(void **state)
{
    (void)state;
    size_t count;
    unsigned char *bytes = packed_noise(&count);
    struct volume volume;
    assert_int_equal(nifti_read_memory(&volume, bytes, count, "whole"), VOCO_OK);
    volume_free(&volume);
    for (size_t cut = 1; cut < 2000; cut += 7) {
        assert_int_equal(nifti_read_memory(&volume, bytes, count - cut, "cut"), VOCO_BAD_INPUT);
        assert_int_equal(nifti_read_memory(&volume, bytes, cut, "cut"), VOCO_BAD_INPUT);
    }
    refuse_bytes("cut.nii.gz", bytes, count / 2, "gzip stream ends at byte");
    refuse_bytes("cut.nii.gz", bytes, count / 2, "of the voxel data");
    refuse_bytes("cut.nii.gz", bytes, 200, "gzip stream ends at byte");
    refuse_bytes("cut.nii.gz", bytes, count - 1, "gzip stream ends at byte 128000 of the voxel data");
    free(bytes);
}

static void a_damaged_gzip_stream_is_refused(void **state)
{
    (void)state;
    size_t count;
    unsigned char *bytes = packed_noise(&count);
    bytes[count - 6] ^= 1;
    refuse_bytes("crc.nii.gz", bytes, count, "gzip checksum is wrong at byte 128000 of the voxel data");
    bytes[count - 6] ^= 1;
    memset(bytes + count / 2, 0xff, 64);
    refuse_bytes("hole.nii.gz", bytes, count, "gzip ");
    free(bytes);

    struct nifti_sample sample = plain_sample(4, 4, 4);
    size_t plain_count;
    unsigned char *plain = nifti_file_bytes(&plain_count, &sample, voxels, voxel_count);
    bytes = gzip_bytes(&count, plain, plain_count - 4); /* a whole stream, a voxel short */
    refuse_bytes("lacks.nii.gz", bytes, count, "the unpacked file ends at byte 252 of the voxel data");
    free(bytes);
    free(plain);
}

static void a_header_cannot_make_a_small_file_take_memory(void **state)
{
    (void)state;
    /* 8 GiB of floats: more than the limit below allows, and than 1032 times the file. */
    struct nifti_sample sample = plain_sample(2048, 1024, 1024);
#ifndef __SANITIZE_ADDRESS__ /* AddressSanitizer maps terabytes */
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_DATA, &(struct rlimit){1u << 30, before.rlim_max}), 0);
#endif
    refuse_sample(&sample, "which a file of this length cannot hold");
#ifndef __SANITIZE_ADDRESS__
    assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
#endif
}

static void what_follows_the_voxels_is_bounded(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(4, 4, 4);
    const size_t tail = 17u << 20;
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, &sample, voxels, voxel_count);
    unsigned char *longer = calloc(1, count + tail);
    assert_non_null(longer);
    memcpy(longer, bytes, count);
    struct volume volume;
    assert_int_equal(nifti_read_memory(&volume, longer, count + 4096, "padded"), VOCO_OK);
    volume_free(&volume);
    refuse_bytes("tail.nii", longer, count + tail, "over 16 MiB follow the 256 bytes of voxels");
    size_t packed_count;
    unsigned char *packed = gzip_bytes(&packed_count, longer, count + tail);
    refuse_bytes("tail.nii.gz", packed, packed_count, "over 16 MiB follow the 256 bytes of voxels");
    free(packed);
    free(longer);
    /* As gzip does, what follows the stream itself is ignored. */
    packed = gzip_bytes(&packed_count, bytes, count);
    unsigned char *trailed = malloc(packed_count + 6);
    assert_non_null(trailed);
    memcpy(trailed, packed, packed_count);
    memcpy(trailed + packed_count, "\x1fjunk", 6);
    assert_int_equal(nifti_read_memory(&volume, trailed, packed_count + 6, "trailed"), VOCO_OK);
    volume_free(&volume);
    free(trailed);
    free(packed);
    free(bytes);
}

static void what_is_no_nifti_file_is_refused(void **state)
{
    (void)state;
    static const unsigned char text[] = "This is no volume, whatever its name says.\n";
    refuse_bytes("text.nii.gz", text, sizeof text - 1, "is neither a gzip stream nor NIfTI");
    refuse_bytes("text.nii", text, sizeof text - 1, "is not NIfTI");
    refuse_bytes("two.nii.gz", text, 2, "the file ends at byte 2 of the header");
    size_t count;
    unsigned char *packed = gzip_bytes(&count, text, sizeof text - 1);
    refuse_bytes("text.nii.gz", packed, count, "what is in the gzip stream is not NIfTI");
    free(packed);
    struct nifti_sample sample = plain_sample(4, 4, 4);
    sample.magic = "\0\0\0";
    refuse_sample(&sample, "header lacks the mark of NIfTI-1");
    sample.version = 2;
    refuse_sample(&sample, "header lacks the mark of NIfTI-2");
    sample = plain_sample(4, 4, 4);
    sample.magic = "ni1";
    refuse_sample(&sample, "pair");
}

static void files_that_are_missing_empty_or_folders_are_refused(void **state)
{
    (void)state;
    struct volume volume;
    struct nifti_info info;
    const char *missing = test_path("missing.nii.gz");
    assert_refused(nifti_read(&volume, missing), VOCO_IO, missing, "No such file");
    assert_refused(nifti_read_info(&info, missing), VOCO_IO, missing, "No such file");
    const char *folder = test_folder();
    assert_refused(nifti_read(&volume, folder), VOCO_BAD_INPUT, folder, "is a folder");
    const char *empty = write_test_file("empty.nii.gz", "", 0);
    assert_refused(nifti_read(&volume, empty), VOCO_BAD_INPUT, empty, "the file is empty");
    assert_refused(nifti_read(&volume, "/dev/zero"), VOCO_BAD_INPUT, "/dev/zero", "a device");
    struct nifti_sample sample = plain_sample(4, 4, 4);
    sample.magic = "ni1";
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, &sample, voxels, voxel_count);
    const char *header = write_test_file("alone.hdr", bytes, 348);
    const char *image = test_path("alone.img");
    assert_refused(nifti_read(&volume, header), VOCO_IO, image, "No such file");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dimensions_out_of_bounds_are_refused),
        cmocka_unit_test(volumes_in_time_are_refused),
        cmocka_unit_test(types_that_are_no_numbers_are_refused),
        cmocka_unit_test(singular_and_endless_affines_are_refused),
        cmocka_unit_test(voxels_out_of_the_file_are_refused),
        cmocka_unit_test(not_finite_voxels_are_counted),
        cmocka_unit_test(a_plain_file_that_ends_early_is_refused),
        cmocka_unit_test(a_gzip_stream_cut_anywhere_is_refused),
        cmocka_unit_test(a_damaged_gzip_stream_is_refused),
        cmocka_unit_test(a_header_cannot_make_a_small_file_take_memory),
        cmocka_unit_test(what_follows_the_voxels_is_bounded),
        cmocka_unit_test(what_is_no_nifti_file_is_refused),
        cmocka_unit_test(files_that_are_missing_empty_or_folders_are_refused),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_test_folder();
    return failed;
}
