/* Thousands of damaged files, the same ones each time: each is read or refused with a message; none makes the
 * reader crash, print, leak or take memory beyond what the file can hold. The sanitizers' build sees the
 * rest. */
#include "base/philox.h"
#include "nifti_bytes.h"
#include "volume/nifti.h"
#include "volume/prepare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { side = 6, voxel_count = side * side * side, most_mutations = 100000, seconds = 8 };

struct draws {
    uint32_t sample;
    uint32_t next;
};

static uint32_t draw(struct draws *draws, uint32_t bound)
{
    const struct random_key key = {.seed = 11, .sample = draws->sample, .purpose = RANDOM_TEST};
    return random_below(&key, draws->next++, bound);
}

static unsigned char *make_seed(size_t *count, int kind)
{
    int16_t voxels[voxel_count];
    for (int i = 0; i < voxel_count; i++) {
        voxels[i] = (int16_t)(i * 37 % 2000 - 1000);
    }
    struct nifti_sample sample = plain_sample(side, side, side);
    sample.version = 1 + (kind & 1);
    sample.big_endian = kind >> 1 & 1;
    sample.datatype = 4;
    sample.voxel_bytes = 2;
    sample.qform_code = 1;
    sample.quatern[1] = 0.5;
    return nifti_file_bytes(count, &sample, voxels, voxel_count);
}

static void mutate(unsigned char *bytes, size_t *count, size_t reach, struct draws *draws)
{
    static const unsigned char telling[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe};
    const uint32_t changes = 1 + draw(draws, 4);
    for (uint32_t i = 0; i < changes; i++) {
        const size_t at = draw(draws, (uint32_t)reach);
        switch (draw(draws, 4)) {
        case 0:
            bytes[at] ^= (unsigned char)(1u << draw(draws, 8));
            break;
        case 1:
            bytes[at] = telling[draw(draws, sizeof telling)];
            break;
        case 2:
            memset(bytes + at, telling[draw(draws, sizeof telling)], at + 8 < *count ? 8 : *count - at);
            break;
        default:
            bytes[at] = (unsigned char)draw(draws, 256);
            break;
        }
    }
    if (draw(draws, 8) == 0) {
        *count = 1 + draw(draws, (uint32_t)*count);
    }
}

/* The same through the streaming engine, which must agree on what can be read, whatever the geometry. */
static void try_preparing(const unsigned char *bytes, size_t count, int readable, uint32_t number)
{
    static const struct preset preset = {.name = "mutation", .spacing = {1.5, 1.5, 1.5}, .high = 500};
    struct nifti_info info;
    const char *path = write_test_file("mutation.nii", bytes, count);
    if (nifti_read_info(&info, path) == VOCO_OK) {
        for (int axis = 0; axis < 3; axis++) {
            if (info.size[axis] * info.spacing[axis] > 300) { /* right, but long to wait for */
                return;
            }
        }
    }
    struct prepared_volume prepared;
    const enum voco_status status = prepare_quantised(&prepared, path, &preset, (const int[3]){1, 1, 1}, 255,
                                                      1 + (int)(number / 512 % 2));
    assert_true(readable || status == VOCO_BAD_INPUT);
    if (status != VOCO_OK) {
        assert_int_equal(status, VOCO_BAD_INPUT);
        assert_null(prepared.storage);
        assert_int_equal(strncmp(voco_error_message(), path, strlen(path)), 0);
    }
    prepared_volume_free(&prepared);
}

/* Returns whether the file could be read. */
static int try_mutation(uint32_t number)
{
    struct draws draws = {.sample = number};
    size_t count;
    unsigned char *bytes = make_seed(&count, (int)(number & 3));
    const int packed_first = number >> 2 & 1;
    if (!packed_first) {
        mutate(bytes, &count, count < 600 ? count : 600, &draws); /* mostly the header */
    }
    if (number >> 3 & 1 || packed_first) {
        size_t packed_count;
        unsigned char *packed = gzip_bytes(&packed_count, bytes, count);
        free(bytes);
        bytes = packed;
        count = packed_count;
    }
    if (packed_first) {
        mutate(bytes, &count, draw(&draws, 2) == 0 ? 32 : count, &draws);
    }
    struct volume volume;
    const enum voco_status status = nifti_read_memory(&volume, bytes, count, "mutation");
    if (status == VOCO_OK) {
        assert_true(volume_count(&volume) <= 1032 * count);
    } else {
        assert_int_equal(status, VOCO_BAD_INPUT);
        assert_null(volume.data);
        assert_int_equal(strncmp(voco_error_message(), "mutation: ", 10), 0);
    }
    volume_free(&volume);
    if (number / 16 % 32 == 0) { /* a file each, which takes its time */
        try_preparing(bytes, count, status == VOCO_OK, number);
    }
    free(bytes);
    return status == VOCO_OK;
}

/* Sends a stream of this process to an empty file; returns the stream as it was. */
static int divert(int stream, FILE *into)
{
    const int before = dup(stream);
    assert_true(before >= 0 && dup2(fileno(into), stream) == stream);
    return before;
}

static void restore(int stream, int before)
{
    assert_int_equal(dup2(before, stream), stream);
    (void)close(before);
}

static void damaged_files_are_read_or_refused(void **state)
{
    (void)state;
    FILE *printed = tmpfile();
    assert_non_null(printed);
    (void)fflush(stdout);
    const int out = divert(STDOUT_FILENO, printed);
    const int err = divert(STDERR_FILENO, printed);
    const time_t end = time(NULL) + seconds;
    uint32_t number = 0;
    uint32_t read = 0;
    while (number < most_mutations && time(NULL) < end) {
        read += (uint32_t)try_mutation(number++);
    }
    (void)fflush(stdout);
    restore(STDOUT_FILENO, out);
    restore(STDERR_FILENO, err);
    struct stat info;
    assert_int_equal(fstat(fileno(printed), &info), 0);
    assert_int_equal(info.st_size, 0); /* nifti_clib speaks where its debug level lets it */
    (void)fclose(printed);
    print_message("%u damaged files: %u read, %u refused\n", number, read, number - read);
    assert_true(read > 0 && read < number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(damaged_files_are_read_or_refused)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_test_folder();
    return failed;
}
