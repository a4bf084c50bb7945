/* What a NIfTI header and its voxels mean, for both versions, both byte orders and every type. */
#include "nifti_bytes.h"
#include "volume/nifti.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_affine(const double affine[3][4], const double expected[3][4], double tolerance)
{
    for (int row = 0; row < 3; row++) {
        for (int column = 0; column < 4; column++) {
            assert_float_equal(affine[row][column], expected[row][column], tolerance);
        }
    }
}

static struct volume read_bytes(const unsigned char *bytes, size_t count)
{
    struct volume volume;
    if (nifti_read_memory(&volume, bytes, count, "sample.nii") != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    return volume;
}

static struct nifti_info read_info(const struct nifti_sample *sample, const float *voxels, size_t voxel_count)
{
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, sample, voxels, voxel_count);
    const char *path = write_test_file("info.nii", bytes, count);
    free(bytes);
    struct nifti_info info;
    if (nifti_read_info(&info, path) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    return info;
}

enum { nx = 3, ny = 5, nz = 2, voxel_count = nx * ny * nz };

/* Values of each type with its extremes, and what they are as floats with slope and inter. */
#define FILL(ctype, least, most)                                                                             \
    do {                                                                                                     \
        ctype typed[voxel_count];                                                                            \
        for (int i = 0; i < voxel_count; i++) {                                                              \
            typed[i] = (ctype)(i * 3 + 1);                                                                   \
        }                                                                                                    \
        typed[0] = least;                                                                                    \
        typed[voxel_count - 1] = most;                                                                       \
        for (int i = 0; i < voxel_count; i++) {                                                              \
            expected[i] = (float)(slope * (double)typed[i] + inter);                                         \
        }                                                                                                    \
        memcpy(voxels, typed, sizeof typed);                                                                 \
    } while (0)

static const struct {
    int code, width;
    const char *name;
} types[] = {
    {2, 1, "uint8"},  {4, 2, "int16"},    {8, 4, "int32"},    {16, 4, "float32"}, {64, 8, "float64"},
    {256, 1, "int8"}, {512, 2, "uint16"}, {768, 4, "uint32"}, {1024, 8, "int64"}, {1280, 8, "uint64"},
};

static void fill_voxels(void *voxels, float *expected, int code, double slope, double inter)
{
    switch (code) {
    case 2:
        FILL(uint8_t, 0, UINT8_MAX);
        break;
    case 4:
        FILL(int16_t, INT16_MIN, INT16_MAX);
        break;
    case 8:
        FILL(int32_t, INT32_MIN, INT32_MAX);
        break;
    case 16:
        FILL(float, -1e30f, 1.25e-30f);
        break;
    case 64:
        FILL(double, -1e30, 1e-300);
        break;
    case 256:
        FILL(int8_t, INT8_MIN, INT8_MAX);
        break;
    case 512:
        FILL(uint16_t, 0, UINT16_MAX);
        break;
    case 768:
        FILL(uint32_t, 0, UINT32_MAX);
        break;
    case 1024:
        FILL(int64_t, INT64_MIN, INT64_MAX);
        break;
    default:
        FILL(uint64_t, 0, UINT64_MAX);
        break;
    }
}

static void check_type(int type, int version, int big_endian, int scaled)
{
    double voxels[voxel_count];
    float expected[voxel_count];
    const double slope = scaled ? -2.5 : 1;
    const double inter = scaled ? 100.25 : 0;
    fill_voxels(voxels, expected, types[type].code, slope, inter);
    struct nifti_sample sample = plain_sample(nx, ny, nz);
    sample.version = version;
    sample.big_endian = big_endian;
    sample.datatype = types[type].code;
    sample.voxel_bytes = types[type].width;
    sample.slope = scaled ? slope : 0; /* 0 stands for no scaling */
    sample.inter = scaled ? inter : 77;
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, &sample, voxels, voxel_count);
    size_t packed_count;
    unsigned char *packed = gzip_bytes(&packed_count, bytes, count);
    struct volume plain = read_bytes(bytes, count);
    struct volume unpacked = read_bytes(packed, packed_count);
    assert_int_equal(plain.size[0], nx);
    assert_int_equal(plain.size[1], ny);
    assert_int_equal(plain.size[2], nz);
    assert_memory_equal(plain.data, expected, sizeof expected);
    assert_memory_equal(unpacked.data, expected, sizeof expected);
    struct nifti_info info;
    assert_int_equal(nifti_read_info(&info, write_test_file("type.nii.gz", packed, packed_count)), VOCO_OK);
    assert_string_equal(info.type, types[type].name);
    assert_int_equal(info.bytes_per_voxel, types[type].width);
    assert_int_equal(info.version, version);
    assert_int_equal(info.big_endian, big_endian);
    assert_float_equal(info.slope, slope, 0);
    assert_float_equal(info.inter, inter, 0);
    volume_free(&plain);
    volume_free(&unpacked);
    free(bytes);
    free(packed);
}

static void every_type_version_order_and_scaling_reads_the_same_values(void **state)
{
    (void)state;
    for (int type = 0; type < (int)(sizeof types / sizeof types[0]); type++) {
        for (int variant = 0; variant < 8; variant++) {
            check_type(type, 1 + (variant & 1), variant >> 1 & 1, variant >> 2);
        }
    }
}

static const float one_voxel[8] = {1, 2, 3, 4, 5, 6, 7, 8};

/* A sform that shears and a qform that turns, so that each shows. The quaternion is that of 90 degrees about
 * z. */
static struct nifti_sample two_forms(int version, int sform_code, int qform_code)
{
    struct nifti_sample sample = plain_sample(2, 2, 2);
    const double srow[3][4] = {{-2, 0.5, 0, 10}, {0, 3, 0, -20}, {0, 0, 4, 30}};
    sample.version = version;
    memcpy(sample.srow, srow, sizeof srow);
    sample.sform_code = sform_code;
    sample.qform_code = qform_code;
    sample.pixdim[0] = -1; /* qfac: z is flipped */
    sample.pixdim[1] = 1.5;
    sample.pixdim[2] = 2.5;
    sample.pixdim[3] = 3.5;
    sample.quatern[2] = sqrt(0.5);
    sample.qoffset[0] = 7;
    sample.qoffset[1] = 8;
    sample.qoffset[2] = 9;
    return sample;
}

static void sform_wins_over_qform_and_qform_over_pixel_sizes(void **state)
{
    (void)state;
    const double sform[3][4] = {{-2, 0.5, 0, 10}, {0, 3, 0, -20}, {0, 0, 4, 30}};
    const double qform[3][4] = {{0, -2.5, 0, 7}, {1.5, 0, 0, 8}, {0, 0, -3.5, 9}};
    const double pixels[3][4] = {{1.5, 0, 0, 0}, {0, 2.5, 0, 0}, {0, 0, 3.5, 0}};
    for (int version = 1; version <= 2; version++) {
        struct nifti_sample sample = two_forms(version, 2, 1);
        struct nifti_info info = read_info(&sample, one_voxel, 8);
        assert_string_equal(info.affine_source, "sform");
        assert_affine(info.affine, sform, 1e-6);
        assert_string_equal(info.orientation, "LAS");
        assert_float_equal(info.spacing[1], sqrt(9.25), 1e-6);
        sample = two_forms(version, 0, 1);
        info = read_info(&sample, one_voxel, 8);
        assert_string_equal(info.affine_source, "qform");
        assert_affine(info.affine, qform, 1e-6);
        assert_string_equal(info.orientation, "ALI");
        sample = two_forms(version, 0, 0);
        info = read_info(&sample, one_voxel, 8);
        assert_string_equal(info.affine_source, "pixel sizes");
        assert_affine(info.affine, pixels, 1e-6);
        assert_string_equal(info.orientation, "RAS");
    }
}

static void a_general_quaternion_gives_its_rotation(void **state)
{
    (void)state;
    const double b = 0.1;
    const double c = -0.3;
    const double d = 0.5;
    const double a = sqrt(1 - b * b - c * c - d * d);
    const double rotation[3][3] = {{a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)},
                                   {2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)},
                                   {2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b}};
    struct nifti_sample sample = plain_sample(2, 2, 2);
    sample.version = 2;
    sample.sform_code = 0;
    sample.qform_code = 1;
    double expected[3][4];
    for (int row = 0; row < 3; row++) {
        sample.quatern[row] = (const double[]){b, c, d}[row];
        sample.qoffset[row] = row;
        sample.pixdim[row + 1] = 1.25 + row;
        expected[row][3] = row;
        for (int axis = 0; axis < 3; axis++) {
            expected[row][axis] = rotation[row][axis] * (1.25 + axis);
        }
    }
    const struct nifti_info info = read_info(&sample, one_voxel, 8);
    assert_affine(info.affine, expected, 1e-12);
}

static void metres_and_micrometres_become_millimetres(void **state)
{
    (void)state;
    static const struct {
        int units;
        double scale;
    } cases[] = {{0, 1}, {1, 1e3}, {2, 1}, {3, 1e-3}, {2 + 8, 1}, {3 + 16, 1e-3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nifti_sample sample = two_forms(2, 1, 0);
        sample.units = cases[i].units;
        const struct nifti_info info = read_info(&sample, one_voxel, 8);
        assert_float_equal(info.affine[2][2], 4 * cases[i].scale, 1e-12);
        assert_float_equal(info.affine[1][3], -20 * cases[i].scale, 1e-12);
    }
}

static void singleton_dimensions_and_images_of_fewer_are_volumes(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(2, 2, 2);
    sample.dim[0] = 5;
    assert_int_equal(read_info(&sample, one_voxel, 8).size[2], 2);
    sample = plain_sample(4, 2, 1);
    sample.dim[0] = 2;
    sample.dim[3] = 0; /* beyond dim[0], says nothing */
    sample.pixdim[3] = 0;
    sample.sform_code = 0;
    const struct nifti_info info = read_info(&sample, one_voxel, 8);
    assert_int_equal(info.size[1], 2);
    assert_int_equal(info.size[2], 1);
    assert_float_equal(info.spacing[2], 1, 0);
}

static void voxels_begin_where_the_header_says(void **state)
{
    (void)state;
    for (int version = 1; version <= 2; version++) {
        struct nifti_sample sample = plain_sample(2, 2, 2);
        sample.version = version;
        sample.voxel_offset = 1024; /* after extensions */
        size_t count;
        unsigned char *bytes = nifti_file_bytes(&count, &sample, one_voxel, 8);
        struct volume volume = read_bytes(bytes, count);
        assert_memory_equal(volume.data, one_voxel, sizeof one_voxel);
        volume_free(&volume);
        free(bytes);
    }
}

static void gzip_of_several_members_is_one_file(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(2, 2, 2);
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, &sample, one_voxel, 8);
    size_t first_count;
    size_t second_count;
    unsigned char *first = gzip_bytes(&first_count, bytes, 361); /* cut within a voxel */
    unsigned char *second = gzip_bytes(&second_count, bytes + 361, count - 361);
    unsigned char *both = malloc(first_count + second_count);
    assert_non_null(both);
    memcpy(both, first, first_count);
    memcpy(both + first_count, second, second_count);
    struct volume volume = read_bytes(both, first_count + second_count);
    assert_memory_equal(volume.data, one_voxel, sizeof one_voxel);
    volume_free(&volume);
    free(both);
    free(second);
    free(first);
    free(bytes);
}

static void check_pair(const char *header_name, const char *image_name, const char *asked,
                       const unsigned char *header, size_t header_count, const unsigned char *image,
                       size_t image_count)
{
    (void)write_test_file(header_name, header, header_count);
    (void)write_test_file(image_name, image, image_count);
    struct volume volume;
    assert_int_equal(nifti_read(&volume, test_path(asked)), VOCO_OK);
    assert_memory_equal(volume.data, one_voxel, sizeof one_voxel);
    volume_free(&volume);
}

static void a_pair_is_read_by_either_name(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(2, 2, 2);
    sample.magic = "ni1";
    size_t count;
    unsigned char *bytes = nifti_file_bytes(&count, &sample, one_voxel, 8);
    memset(bytes + 108, 0, 4); /* the voxels begin at byte 0 of their file */
    size_t packed_count;
    unsigned char *packed = gzip_bytes(&packed_count, bytes + 352, 32);
    check_pair("pair.hdr", "pair.img", "pair.hdr", bytes, 348, bytes + 352, 32);
    check_pair("pair.hdr", "pair.img", "pair.img", bytes, 348, bytes + 352, 32);
    check_pair("mixed.hdr", "mixed.img.gz", "mixed.hdr", bytes, 348, packed, packed_count);
    check_pair("mixed.hdr", "mixed.img.gz", "mixed.img.gz", bytes, 348, packed, packed_count);
    free(packed);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_version_order_and_scaling_reads_the_same_values),
        cmocka_unit_test(sform_wins_over_qform_and_qform_over_pixel_sizes),
        cmocka_unit_test(a_general_quaternion_gives_its_rotation),
        cmocka_unit_test(metres_and_micrometres_become_millimetres),
        cmocka_unit_test(singleton_dimensions_and_images_of_fewer_are_volumes),
        cmocka_unit_test(voxels_begin_where_the_header_says),
        cmocka_unit_test(gzip_of_several_members_is_one_file),
        cmocka_unit_test(a_pair_is_read_by_either_name),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_test_folder();
    return failed;
}
