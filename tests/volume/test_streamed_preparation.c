/* The streaming engine against the same steps done one after the other on whole volumes. */
#include "base/philox.h"
#include "nifti_bytes.h"
#include "stepwise_preparation.h"
#include "volume/nifti.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct preset ct = {
    .name = "test", .spacing = {1.5, 1.5, 1.5}, .intensity = INTENSITY_WINDOW, .low = -175, .high = 250};
static const struct preset mr = {.name = "mr", .spacing = {1.5, 1.2, 2}, .intensity = INTENSITY_ZSCORE};

/* A float stored in the sample's type; values are those of a body in air, within [-1000, 1200] * unit. */
static void fill(void *stored, const struct nifti_sample *sample, size_t count, uint32_t draw, double scale)
{
    const struct random_key key = {.seed = 21, .sample = draw, .purpose = RANDOM_TEST};
    const int64_t *n = sample->dim + 1;
    for (size_t i = 0; i < count; i++) {
        const int64_t at[3] = {(int64_t)i % n[0], (int64_t)i / n[0] % n[1], (int64_t)i / n[0] / n[1]};
        int inside = 1;
        for (int axis = 0; axis < 3; axis++) {
            inside = inside && (n[axis] < 5 || (at[axis] >= 1 && at[axis] < n[axis] - 2));
        }
        const double value =
            (inside ? 60 + 400 * random_normal(&key, (uint32_t)i) : -1000 + 20 * random_uniform(&key, i)) *
            scale;
        switch (sample->datatype) {
        case 2:
            ((uint8_t *)stored)[i] = (uint8_t)fmin(fmax(rint(value + 100), 0), 255);
            break;
        case 256:
            ((int8_t *)stored)[i] = (int8_t)fmin(fmax(rint(value), -128), 127);
            break;
        case 4:
            ((int16_t *)stored)[i] = (int16_t)value;
            break;
        case 512:
            ((uint16_t *)stored)[i] = (uint16_t)fmax(value + 3000, 0);
            break;
        case 8:
            ((int32_t *)stored)[i] = (int32_t)value;
            break;
        case 768:
            ((uint32_t *)stored)[i] = (uint32_t)fmax(value + 3000, 0);
            break;
        case 1024:
            ((int64_t *)stored)[i] = (int64_t)value;
            break;
        case 1280:
            ((uint64_t *)stored)[i] = (uint64_t)fmax(value + 3000, 0);
            break;
        case 16:
            ((float *)stored)[i] = (float)value;
            break;
        default:
            ((double *)stored)[i] = value;
            break;
        }
    }
}

static const char *write_sample(const char *name, const struct nifti_sample *sample, uint32_t draw,
                                double scale)
{
    const size_t count = (size_t)(sample->dim[1] * sample->dim[2] * sample->dim[3]);
    void *stored = calloc(count, 8);
    assert_non_null(stored);
    fill(stored, sample, count, draw, scale);
    size_t bytes;
    unsigned char *file = nifti_file_bytes(&bytes, sample, stored, count);
    const char *path = write_test_file(name, file, bytes);
    free(file);
    free(stored);
    return path;
}

static struct nifti_sample int16_sample(int nx, int ny, int nz)
{
    struct nifti_sample sample = plain_sample(nx, ny, nz);
    sample.datatype = 4;
    sample.voxel_bytes = 2;
    return sample;
}

/* Spacing and axes of one of the 48 orientations: file axis a runs along world axis order[a]. */
static void orient(struct nifti_sample *sample, int way, const double spacing[3])
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    memset(sample->srow, 0, sizeof sample->srow);
    for (int axis = 0; axis < 3; axis++) {
        sample->srow[orders[way % 6][axis]][axis] = way / 6 >> axis & 1 ? -spacing[axis] : spacing[axis];
        sample->srow[axis][3] = 10 * axis - 30.5;
    }
}

/* Voxel (x, y, z) of the prepared volume times its levels. */
static float voxel_of(const struct prepared_volume *prepared, const int at[3])
{
    ptrdiff_t index = (ptrdiff_t)prepared->first;
    for (int axis = 0; axis < 3; axis++) {
        const int in_box = at[axis] - prepared->before[axis];
        if (in_box < 0 || in_box >= prepared->box[axis]) {
            return 0;
        }
        index += in_box * prepared->stride[axis];
    }
    return prepared->levels == 0           ? ((const float *)prepared->voxels)[index]
           : prepared->levels <= UINT8_MAX ? ((const uint8_t *)prepared->voxels)[index]
                                           : ((const uint16_t *)prepared->voxels)[index];
}

static void assert_geometry(const struct prepared_volume *prepared, const struct volume *expected)
{
    assert_memory_equal(prepared->size, expected->size, sizeof expected->size);
    for (int row = 0; row < 3; row++) {
        assert_true(fabs(prepared->spacing[row] - expected->spacing[row]) < 1e-9);
        for (int column = 0; column < 4; column++) {
            assert_true(fabs(prepared->affine[row][column] - expected->affine[row][column]) < 1e-9);
        }
    }
}

/* Prepares the file in every way and compares each voxel: floats with the oracle's, quantised ones with the
 * engine's own floats, whatever the threads. */
static void check_within(float tolerance, const char *path, const struct preset *preset,
                         const int at_least[3])
{
    static const int ways[][2] = {{0, 1}, {255, 1}, {4095, 1}, {65535, 1}, {0, 3}, {255, 3}, {65535, 3}};
    struct volume expected;
    struct prepared_volume floats = {0};
    if (prepare_stepwise(&expected, path, preset, at_least) != VOCO_OK) {
        fail_msg("the oracle: %s", voco_error_message());
    }
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        const int levels = ways[way][0];
        struct prepared_volume prepared;
        if (prepare_quantised(&prepared, path, preset, at_least, levels, ways[way][1]) != VOCO_OK) {
            fail_msg("%d levels, %d threads: %s", levels, ways[way][1], voco_error_message());
        }
        assert_geometry(&prepared, &expected);
        const float *value = expected.data;
        int at[3];
        for (at[2] = 0; at[2] < expected.size[2]; at[2]++) {
            for (at[1] = 0; at[1] < expected.size[1]; at[1]++) {
                for (at[0] = 0; at[0] < expected.size[0]; at[0]++, value++) {
                    const float got = voxel_of(&prepared, at);
                    const float wanted = way == 0 ? *value : voxel_of(&floats, at);
                    const int same = way == 0      ? fabsf(got - wanted) <= tolerance
                                     : levels == 0 ? got == wanted
                                                   : got == rintf((float)levels * wanted);
                    if (!same) {
                        fail_msg("%d levels, %d threads, voxel (%d, %d, %d): %g for %g", levels, ways[way][1],
                                 at[0], at[1], at[2], (double)got, (double)wanted);
                    }
                }
            }
        }
        if (way == 0) {
            floats = prepared;
        } else {
            prepared_volume_free(&prepared);
        }
    }
    struct volume whole;
    assert_int_equal(prepare_volume(&whole, path, preset, at_least), VOCO_OK);
    assert_memory_equal(whole.size, expected.size, sizeof whole.size);
    for (size_t i = 0; i < volume_count(&whole); i++) {
        assert_true(fabsf(whole.data[i] - expected.data[i]) <= tolerance);
    }
    volume_free(&whole);
    prepared_volume_free(&floats);
    volume_free(&expected);
}

static void check(const char *path, const struct preset *preset, const int at_least[3])
{
    check_within(1e-5F, path, preset, at_least);
}

static void all_48_orientations_agree(void **state)
{
    (void)state;
    for (int way = 0; way < 48; way++) {
        struct nifti_sample sample = int16_sample(17, 13, 11);
        orient(&sample, way, (const double[]){0.8, 1.7, 2.5});
        check(write_sample("way.nii", &sample, (uint32_t)way, 1), &ct, (const int[]){24, 7, 16});
    }
}

static void all_types_and_byte_orders_agree(void **state)
{
    (void)state;
    static const struct {
        int code, bytes;
        double scale, slope, inter;
    } types[] = {{2, 1, 0.2, 0, 0},     {2, 1, 0.2, 1.5, -200}, {256, 1, 0.2, 0, 0}, {4, 2, 1, 0, 0},
                 {4, 2, 1, 0.5, 20.25}, {512, 2, 1, 1, -3000},  {8, 4, 1, 0, 0},     {768, 4, 1, 1, -3000},
                 {1024, 8, 1, 0, 0},    {1280, 8, 1, 1, -3000}, {16, 4, 1, 0, 0},    {16, 4, 1, 0.7, -3},
                 {64, 8, 1, 0, 0}};
    for (size_t i = 0; i < 2 * sizeof types / sizeof types[0]; i++) {
        struct nifti_sample sample = plain_sample(15, 14, 13);
        orient(&sample, (int)i, (const double[]){1.1, 0.9, 2});
        sample.datatype = types[i / 2].code;
        sample.voxel_bytes = types[i / 2].bytes;
        sample.slope = types[i / 2].slope;
        sample.inter = types[i / 2].inter;
        sample.big_endian = i % 2;
        check(write_sample("type.nii", &sample, (uint32_t)i, types[i / 2].scale), &ct,
              (const int[]){8, 8, 8});
    }
}

static void up_and_down_sampling_agree(void **state)
{
    (void)state;
    static const double spacings[][3] = {{1.5, 1.5, 1.5},    {3.1, 3.1, 3.1}, {0.4, 0.4, 0.3}, {1.5, 1.5, 5},
                                         {0.5, 1.5, 1.5009}, {1.5, 0.75, 6},  {0.31, 4, 1.5}};
    static const int sizes[][3] = {{19, 16, 14}, {9, 1, 12}, {2, 23, 1}};
    for (uint32_t i = 0; i < 7 * 3; i++) {
        const int *size = sizes[i / 7];
        struct nifti_sample sample = int16_sample(size[0], size[1], size[2]);
        orient(&sample, (int)(i * 5 % 48), spacings[i % 7]);
        check(write_sample("sampled.nii", &sample, i, 1), &ct, (const int[]){1, 1, 1});
    }
}

/* Rotated, exactly orthogonal or not, and sheared; the last by so little that axes are resampled apart, which
 * leaves voxels within 2e-4 of their places. */
static void oblique_and_sheared_volumes_agree(void **state)
{
    (void)state;
    static const double axes[][3][3] = {{{0.8, -0.6, 0}, {0.6, 0.8, 0}, {0, 0, 1}},
                                        {{0.864, -0.48, 0.152}, {0.48, 0.7, -0.529}, {0.152, 0.529, 0.836}},
                                        {{1, 0.2, 0}, {0, 1, -0.15}, {0, 0, 1}},
                                        {{1, -3e-6, 0}, {0, 1, 2e-6}, {0, 0, 1}}};
    for (uint32_t i = 0; i < 4 * 8; i++) {
        struct nifti_sample sample = int16_sample(16, 15, 13);
        struct nifti_sample plain = sample;
        orient(&plain, (int)(i * 11 % 48), (const double[]){1.2, 0.8, 2.2});
        for (int row = 0; row < 3; row++) {
            for (int column = 0; column < 4; column++) {
                sample.srow[row][column] = 0;
                for (int k = 0; k < 3; k++) {
                    sample.srow[row][column] += axes[i % 4][row][k] * plain.srow[k][column];
                }
            }
        }
        check_within(i % 4 == 3 ? 2e-4F : 1e-5F, write_sample("oblique.nii", &sample, i, 1),
                     i < 24 ? &ct : &mr, (const int[]){9, 18, 9});
    }
}

static void mr_agrees(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 6; i++) {
        struct nifti_sample sample = int16_sample(21, 18, 15);
        orient(&sample, (int)i * 9, (const double[]){0.9, 1.2, 3});
        check(write_sample("mr.nii", &sample, i, 1), &mr, (const int[]){20, 20, 20});
    }
}

/* Large enough slices that threads work on several batches. */
static void batches_agree(void **state)
{
    (void)state;
    static const double spacings[][3] = {{0.7, 0.8, 1}, {1.4, 1.5, 4}, {0.75, 1.6, 0.2}};
    for (uint32_t i = 0; i < 3; i++) {
        struct nifti_sample sample = int16_sample(200, 170, 40);
        orient(&sample, i == 1 ? 46 : (int)i, spacings[i]);
        check(write_sample("batches.nii", &sample, i, 1), &ct, (const int[]){64, 64, 64});
    }
}

struct request {
    const char *path;
    int threads, failed;
};

static void *prepare_again(void *argument)
{
    struct request *request = argument;
    for (int i = 0; i < 20; i++) {
        struct prepared_volume prepared;
        request->failed |= prepare_quantised(&prepared, request->path, &ct, (const int[]){8, 8, 8}, 255,
                                             request->threads) != VOCO_OK;
        request->failed |= prepared.voxels == NULL;
        prepared_volume_free(&prepared);
    }
    return NULL;
}

static void callers_do_not_disturb_each_other(void **state)
{
    (void)state;
    enum { callers = 4 };
    struct nifti_sample sample = int16_sample(40, 36, 30);
    const char *path = write_sample("shared.nii", &sample, 3, 1);
    pthread_t threads[callers];
    struct request requests[callers];
    for (int i = 0; i < callers; i++) {
        requests[i] = (struct request){.path = path, .threads = 1 + i % 2};
        assert_int_equal(pthread_create(&threads[i], NULL, prepare_again, &requests[i]), 0);
    }
    for (int i = 0; i < callers; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(requests[i].failed, 0);
    }
}

/* What is wrong with a file is said in the words of nifti_read, by whichever thread it was met. */
static void assert_same_refusal(const char *path)
{
    char message[512];
    struct volume volume;
    assert_int_equal(nifti_read(&volume, path), VOCO_BAD_INPUT);
    snprintf(message, sizeof message, "%s", voco_error_message());
    for (int threads = 1; threads <= 3; threads++) {
        struct prepared_volume prepared;
        assert_int_equal(prepare_quantised(&prepared, path, &ct, (const int[]){8, 8, 8}, 255, threads),
                         VOCO_BAD_INPUT);
        assert_null(prepared.storage);
        assert_string_equal(voco_error_message(), message);
    }
}

static void damaged_files_are_refused_as_by_reading(void **state)
{
    (void)state;
    struct nifti_sample sample = plain_sample(120, 110, 30);
    const size_t count = 120 * 110 * 30;
    float *voxels = calloc(count, sizeof *voxels);
    assert_non_null(voxels);
    fill(voxels, &sample, count, 8, 1);
    size_t plain_count;
    size_t packed_count;
    unsigned char *plain = nifti_file_bytes(&plain_count, &sample, voxels, count);
    unsigned char *packed = gzip_bytes(&packed_count, plain, plain_count);
    assert_same_refusal(write_test_file("cut.nii.gz", packed, packed_count / 3));
    assert_same_refusal(write_test_file("cut.nii.gz", packed, packed_count - 20));
    packed[packed_count - 6] ^= 1;
    assert_same_refusal(write_test_file("checksum.nii.gz", packed, packed_count));
    free(packed);
    free(plain);
    voxels[119 + 120 * (3 + 110 * 17)] = NAN;
    voxels[5 + 120 * (100 + 110 * 29)] = INFINITY;
    /* At 40 mm most slices are only looked through. */
    for (int spacing = 1; spacing <= 40; spacing += 39) {
        const struct preset coarse = {.name = "coarse", .spacing = {1, 1, spacing}, .low = -175, .high = 250};
        plain = nifti_file_bytes(&plain_count, &sample, voxels, count);
        const char *path = write_test_file("nan.nii", plain, plain_count);
        free(plain);
        assert_same_refusal(path);
        struct prepared_volume prepared;
        assert_int_equal(prepare_quantised(&prepared, path, &coarse, (const int[]){8, 8, 8}, 255, 2),
                         VOCO_BAD_INPUT);
        assert_non_null(strstr(voco_error_message(), "2 of 396000 voxels are NaN or infinite, the first at "
                                                     "(119, 3, 17)"));
    }
    free(voxels);
}

/* 512 x 512 x 400 voxels of 0.75 mm: 420 MB as floats, 13 MB prepared. The file is mostly a hole. */
static const char *large_file(void)
{
    struct nifti_sample sample = int16_sample(512, 512, 400);
    orient(&sample, 0, (const double[]){0.75, 0.75, 0.75});
    const size_t count = 512 * 512;
    int16_t *slice = calloc(count, sizeof *slice);
    assert_non_null(slice);
    for (size_t i = 0; i < count; i++) {
        slice[i] = (int16_t)(i % 300);
    }
    size_t bytes;
    unsigned char *file = nifti_file_bytes(&bytes, &sample, slice, count);
    const char *path = write_test_file("large.nii", file, bytes);
    assert_int_equal(truncate(path, 352 + 512 * 512 * 400 * 2L), 0);
    free(file);
    free(slice);
    return path;
}

static void memory_is_that_of_the_result_and_a_few_slices(void **state)
{
    (void)state;
    const char *path = large_file();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct prepared_volume prepared;
        const int failed =
            prepare_quantised(&prepared, path, &ct, (const int[]){64, 64, 64}, 255, 1) != VOCO_OK;
        _exit(failed || prepared.size[0] != 256 || prepared.size[2] != 200);
    }
    int status;
    struct rusage usage;
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_in_range(usage.ru_maxrss, 13 * 1024, 40 * 1024);
#endif
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_that_of_the_result_and_a_few_slices), /* first: it forks */
        cmocka_unit_test(all_48_orientations_agree),
        cmocka_unit_test(all_types_and_byte_orders_agree),
        cmocka_unit_test(up_and_down_sampling_agree),
        cmocka_unit_test(oblique_and_sheared_volumes_agree),
        cmocka_unit_test(mr_agrees),
        cmocka_unit_test(batches_agree),
        cmocka_unit_test(callers_do_not_disturb_each_other),
        cmocka_unit_test(damaged_files_are_refused_as_by_reading),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_test_folder();
    return failed;
}
