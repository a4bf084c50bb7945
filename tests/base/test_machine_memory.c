/* What memory there is: trees as Linux shows them, with and without control groups; and this process's own.
 */
#include "base/byte_size.h"
#include "base/machine_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { mebi = 1 << 20 };

static char root[32];
static char written[32][256]; /* files and folders, to be removed from the last to the first */
static int written_count;

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/voco-memory-XXXXXX");
    written_count = 0;
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_root(void **state)
{
    (void)state;
    while (written_count > 0) {
        (void)remove(written[--written_count]);
    }
    return rmdir(root);
}

static void remember(const char *path)
{
    assert_true(written_count < 32);
    (void)snprintf(written[written_count++], sizeof written[0], "%s", path);
}

/* Puts the text into root/name, making the folders on the way. */
static void put(const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0777) == 0) {
            remember(path);
        }
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    remember(path);
}

static void put_meminfo(void)
{
    put("proc/meminfo",
        "MemTotal:       16384000 kB\nMemFree:         1024000 kB\nMemAvailable:    8192000 kB\n");
}

static void without_limits_it_is_what_the_machine_has_free(void **state)
{
    (void)state;
    assert_int_equal(memory_available_at(root), 0); /* no proc at all */
    put_meminfo();
    assert_int_equal(memory_available_at(root), (uint64_t)8192000 * 1024);
    put("proc/self/cgroup", "0::/\n");
    assert_int_equal(memory_available_at(root), (uint64_t)8192000 * 1024);
    put("sys/fs/cgroup/memory.max", "max\n");
    put("sys/fs/cgroup/memory.current", "1048576\n");
    assert_int_equal(memory_available_at(root), (uint64_t)8192000 * 1024);
}

static void the_tightest_group_decides_and_its_file_pages_count_as_free(void **state)
{
    (void)state;
    put_meminfo();
    put("proc/self/cgroup", "0::/jobs/17\n");
    put("sys/fs/cgroup/jobs/memory.max", "3221225472\n"); /* 3 GiB, 1 GiB taken, half of that file pages */
    put("sys/fs/cgroup/jobs/memory.current", "1073741824\n");
    put("sys/fs/cgroup/jobs/memory.stat",
        "anon 5\nfile 536870912\ninactive_file 268435456\nactive_file 268435456\n");
    assert_int_equal(memory_available_at(root), (uint64_t)2560 * mebi);
    put("sys/fs/cgroup/jobs/17/memory.max", "2147483648\n");
    put("sys/fs/cgroup/jobs/17/memory.current", "104857600\n");
    assert_int_equal(memory_available_at(root), (uint64_t)1948 * mebi);
}

static void groups_of_the_first_version_are_understood(void **state)
{
    (void)state;
    put_meminfo();
    put("proc/self/cgroup", "9:name=systemd:/\n7:cpu,cpuacct:/\n4:hugetlb,memory:/job\n0::/\n");
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
    put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "524288000\n");
    put("sys/fs/cgroup/memory/job/memory.stat",
        "inactive_file 1\ntotal_inactive_file 104857600\ntotal_active_file 0\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "4194304000\n");
    assert_int_equal(memory_available_at(root), (uint64_t)624 * mebi);
}

static void a_group_that_is_full_leaves_nothing(void **state)
{
    (void)state;
    put_meminfo();
    put("proc/self/cgroup", "0::/full\n");
    put("sys/fs/cgroup/full/memory.max", "1000\n");
    put("sys/fs/cgroup/full/memory.current", "2000\n");
    assert_int_equal(memory_available_at(root), 0);
}

static void this_process_is_measured(void **state)
{
    (void)state;
    const size_t size = (size_t)64 * mebi;
    const size_t tolerance = size / 4; /* AddressSanitizer takes an eighth */
    const uint64_t before = memory_resident();
    assert_true(before > 0 && memory_available() > 0);
    unsigned char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    assert_in_range(memory_resident(), before, before + mebi); /* not before they are touched */
    memset(pages, 1, size);
    assert_in_range(memory_resident(), before + size, before + size + tolerance);
    assert_int_equal(munmap(pages, size), 0);
    assert_in_range(memory_resident(), before - mebi, before + tolerance);
    assert_true(memory_peak() >= before + size - 2 * mebi);
}

static void sizes_of_memory_are_said_in_powers_of_1024(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {(uint64_t)160 * mebi, "160 MiB"},
                 {(uint64_t)4 << 30, "4.0 GiB"},
                 {((uint64_t)1 << 30) - 1, "1.0 GiB"},
                 {(uint64_t)3 << 39, "1.5 TiB"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[byte_size_room];
        assert_string_equal(format_memory_size(text, cases[i].bytes), cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_limits_it_is_what_the_machine_has_free, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(the_tightest_group_decides_and_its_file_pages_count_as_free,
                                        make_root, remove_root),
        cmocka_unit_test_setup_teardown(groups_of_the_first_version_are_understood, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_group_that_is_full_leaves_nothing, make_root, remove_root),
        cmocka_unit_test(this_process_is_measured),
        cmocka_unit_test(sizes_of_memory_are_said_in_powers_of_1024),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
