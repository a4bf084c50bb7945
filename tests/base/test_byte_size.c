/* Numbers of bytes as people write and read them, and what is left of files that were never finished. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic_file.h"
#include "base/byte_size.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void sizes_are_read_in_powers_of_1024(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"1", 1},
                {"100K", 102400},
                {"512M", 536870912},
                {"1.5G", 1610612736},
                {"2GiB", 2147483648U},
                {"2GB", 2147483648U},
                {"1T", 1099511627776U},
                {"1e3", 1000}};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t bytes = 77;
        assert_true(parse_byte_size(&bytes, good[i].text));
        assert_int_equal(bytes, good[i].bytes);
    }
}

static void what_is_no_size_is_refused(void **state)
{
    static const char *const bad[] = {"",    "G",     "2Q",    "-1",  "2G ",   "1.5", "0.3K", "nan",
                                      "inf", "1e300", "9e18T", "2Gi", "2GiBs", "5 M", "much"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes = 77;
        assert_false(parse_byte_size(&bytes, bad[i]));
        assert_int_equal(bytes, 77);
    }
}

static void sizes_are_shown_in_powers_of_1000(void **state)
{
    char text[byte_size_room];
    (void)state;
    assert_string_equal(format_byte_size(text, 0), "0 B");
    assert_string_equal(format_byte_size(text, 999), "999 B");
    assert_string_equal(format_byte_size(text, 4200), "4.2 kB");
    assert_string_equal(format_byte_size(text, 999600), "1.0 MB");
    assert_string_equal(format_byte_size(text, 123456789), "123 MB");
    assert_string_equal(format_byte_size(text, 1.3e12), "1.3 TB");
    assert_string_equal(format_byte_size(text, 5e18), "5000 PB");
}

static void put_old_file(const char *path, int seconds_ago)
{
    FILE *stream = fopen(path, "w");
    assert_non_null(stream);
    assert_int_equal(fclose(stream), 0);
    const struct timespec then = {time(NULL) - seconds_ago, 0};
    const struct timespec times[2] = {then, then};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Process numbers end below 2^22, so none is 99999999. */
static void only_unfinished_files_of_the_dead_are_removed(void **state)
{
    (void)state;
    char folder[] = "/tmp/voco_files_XXXXXX";
    char paths[4][128];
    struct stat info;
    assert_non_null(mkdtemp(folder));
    snprintf(paths[0], sizeof paths[0], "%s/report.json.tmp.99999999.0", folder);
    snprintf(paths[1], sizeof paths[1], "%s/fresh.tmp.99999999.0", folder);
    snprintf(paths[2], sizeof paths[2], "%s/mine.tmp.%ld.0", folder, (long)getpid());
    snprintf(paths[3], sizeof paths[3], "%s/notes.tmp.txt", folder);
    for (int i = 0; i < 4; i++) {
        put_old_file(paths[i], i == 1 ? 0 : 600);
    }
    atomic_files_remove_abandoned(folder);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(stat(paths[i], &info) == 0, i != 0);
        (void)unlink(paths[i]);
    }
    assert_int_equal(rmdir(folder), 0);
    atomic_files_remove_abandoned(folder); /* not there: nothing to do */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_in_powers_of_1024),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(sizes_are_shown_in_powers_of_1000),
        cmocka_unit_test(only_unfinished_files_of_the_dead_are_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
