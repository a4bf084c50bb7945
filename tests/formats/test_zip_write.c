/* The archives that zip_writer makes, as libzip sees them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/zip_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

/* Opens the stream's file; libzip checks that directory and headers agree. */
static zip_t *open_checked(FILE *stream)
{
    assert_int_equal(fflush(stream), 0);
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_filep_create(stream, 0, -1, &error);
    assert_non_null(source);
    zip_t *zip = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
    if (zip == NULL) {
        fail_msg("%s", zip_error_strerror(&error));
    }
    zip_error_fini(&error);
    return zip;
}

static void expect_entry(zip_t *zip, const char *name, const void *data, size_t size)
{
    zip_stat_t about;
    unsigned char read[4096];
    assert_int_equal(zip_stat(zip, name, 0, &about), 0);
    assert_int_equal(about.size, size);
    assert_int_equal(about.comp_method, ZIP_CM_STORE);
    zip_file_t *file = zip_fopen(zip, name, 0);
    assert_non_null(file);
    assert_int_equal(zip_fread(file, read, sizeof read), size);
    assert_memory_equal(read, data, size);
    assert_int_equal(zip_fread(file, read, 1), 0); /* compares the checksum */
    assert_int_equal(zip_fclose(file), 0);
}

static void entries_are_read_back_and_aligned(void **state)
{
    (void)state;
    FILE *stream = tmpfile();
    assert_non_null(stream);
    struct zip_writer zip = {.stream = stream, .path = "test"};
    unsigned char data[1000];
    for (int i = 0; i < 1000; i++) {
        data[i] = (unsigned char)(i * 7);
    }
    char name[64];
    for (size_t i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "a/%0*zu", (int)(i % 50) + 1, i);
        assert_int_equal(zip_writer_add(&zip, name, data, i * 10, i % 2 == 0 ? 64 : 4096), VOCO_OK);
        assert_int_equal((zip.offset - i * 10) % (i % 2 == 0 ? 64 : 4096), 0);
    }
    assert_int_equal(zip_writer_finish(&zip), VOCO_OK);
    zip_writer_free(&zip);
    zip_t *found = open_checked(stream);
    assert_int_equal(zip_get_num_entries(found, 0), 100);
    for (size_t i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "a/%0*zu", (int)(i % 50) + 1, i);
        expect_entry(found, name, data, i * 10);
    }
    zip_discard(found);
}

static void more_entries_than_16_bits_count_are_read_back(void **state)
{
    (void)state;
    enum { count = 66000 };
    FILE *stream = tmpfile();
    assert_non_null(stream);
    struct zip_writer zip = {.stream = stream, .path = "test"};
    char name[64];
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "a/%u", i);
        assert_int_equal(zip_writer_add(&zip, name, &i, sizeof i, 64), VOCO_OK);
    }
    assert_int_equal(zip_writer_finish(&zip), VOCO_OK);
    zip_writer_free(&zip);
    zip_t *found = open_checked(stream);
    assert_int_equal(zip_get_num_entries(found, 0), count);
    const uint32_t last = count - 1;
    expect_entry(found, "a/65999", &last, sizeof last);
    zip_discard(found);
}

/* The file has a hole of 5 GB, so that it takes no room on the disk. */
static void entries_beyond_4_gigabytes_are_read_back(void **state)
{
    (void)state;
    FILE *stream = tmpfile();
    assert_non_null(stream);
    struct zip_writer zip = {.stream = stream, .path = "test"};
    assert_int_equal(zip_writer_add(&zip, "a/near", "near", 4, 64), VOCO_OK);
    const uint64_t hole = 5000000000;
    assert_int_equal(fseeko(stream, (off_t)hole, SEEK_SET), 0);
    zip.offset = hole;
    assert_int_equal(zip_writer_add(&zip, "a/far", "far", 3, 64), VOCO_OK);
    assert_int_equal(zip.offset % 64, 3);
    assert_int_equal(zip_writer_finish(&zip), VOCO_OK);
    zip_writer_free(&zip);
    zip_t *found = open_checked(stream);
    expect_entry(found, "a/near", "near", 4);
    expect_entry(found, "a/far", "far", 3);
    zip_discard(found);
}

static void a_full_disk_is_reported(void **state)
{
    (void)state;
    FILE *stream = fopen("/dev/full", "wb");
    assert_non_null(stream);
    (void)setvbuf(stream, NULL, _IONBF, 0);
    struct zip_writer zip = {.stream = stream, .path = "out.pt"};
    assert_int_equal(zip_writer_add(&zip, "a/b", "data", 4, 64), VOCO_IO);
    assert_int_equal(strncmp(voco_error_message(), "out.pt: cannot write: ", 22), 0);
    zip_writer_free(&zip);
    (void)fclose(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_read_back_and_aligned),
        cmocka_unit_test(more_entries_than_16_bits_count_are_read_back),
        cmocka_unit_test(entries_beyond_4_gigabytes_are_read_back),
        cmocka_unit_test(a_full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
