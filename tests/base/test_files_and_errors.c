/* Errors as one line, files that are whole or absent, and the arena. */
#include "base/arena.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#undef fail /* here it is the function of base/error.h, not the macro of cmocka */

static char folder[] = "/tmp/voco-test-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/file", folder);
    (void)unlink(path);
    snprintf(path, sizeof path, "%s/a/b", folder);
    (void)rmdir(path);
    snprintf(path, sizeof path, "%s/a", folder);
    (void)rmdir(path);
    return rmdir(folder);
}

static const char *content_of(const char *path)
{
    static char content[64];
    memset(content, 0, sizeof content);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return "(none)";
    }
    assert_true(fread(content, 1, sizeof content - 1, file) < sizeof content);
    (void)fclose(file);
    return content;
}

static void errors_are_one_line_and_take_context(void **state)
{
    (void)state;
    assert_int_equal(fail(VOCO_BAD_INPUT, "bad\nname %d", 7), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "bad?name 7");
    assert_int_equal(add_context(VOCO_BAD_INPUT, "file %s", "x"), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "file x: bad?name 7");
    fail(VOCO_IO, "again: %s", voco_error_message());
    assert_string_equal(voco_error_message(), "again: file x: bad?name 7");
    errno = ENOENT;
    assert_int_equal(fail_errno("open"), VOCO_IO);
    assert_string_equal(voco_error_message(), "open: No such file or directory");
}

static void a_file_appears_whole_or_not_at_all(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/file", folder);
    struct atomic_file file;
    assert_int_equal(atomic_file_open(&file, path), VOCO_OK);
    assert_true(fputs("first", file.stream) >= 0);
    assert_string_equal(content_of(path), "(none)");
    assert_int_equal(atomic_file_commit(&file), VOCO_OK);
    assert_string_equal(content_of(path), "first");

    assert_int_equal(atomic_file_open(&file, path), VOCO_OK);
    assert_true(fputs("second", file.stream) >= 0);
    char temporary[256];
    snprintf(temporary, sizeof temporary, "%s", file.temporary);
    assert_true(is_atomic_temporary(temporary));
    atomic_file_discard(&file);
    assert_string_equal(content_of(path), "first");
    assert_int_equal(access(temporary, F_OK), -1);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/file", folder);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct atomic_file file;
    assert_int_equal(atomic_file_open(&file, path), VOCO_OK);
    char block[1024] = {0};
    for (int i = 0; i < 64; i++) {
        (void)!fwrite(block, 1, sizeof block, file.stream);
    }
    const enum voco_status status = atomic_file_commit(&file);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, VOCO_IO);
    assert_non_null(strstr(voco_error_message(), path));
    assert_string_equal(content_of(path), "first");
}

static void folders_are_made_with_their_parents(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/a/b", folder);
    assert_int_equal(make_folders(path), VOCO_OK);
    assert_int_equal(make_folders(path), VOCO_OK);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    snprintf(path, sizeof path, "%s/file/b", folder);
    assert_int_equal(make_folders(path), VOCO_IO);
}

static void the_arena_is_aligned_and_last_in_first_out(void **state)
{
    (void)state;
    struct arena arena;
    assert_int_equal(arena_open(&arena, 1 << 20), VOCO_OK);
    unsigned char *a = arena_push(&arena, 100);
    const struct arena_mark mark = arena_mark(&arena);
    unsigned char *b = arena_push(&arena, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((uintptr_t)a % arena_alignment, 0);
    assert_int_equal((uintptr_t)b % arena_alignment, 0);
    assert_true(b >= a + 100);
    arena_release(&arena, mark);
    assert_ptr_equal(arena_push(&arena, 8), b);
    assert_null(arena_push(&arena, 1 << 20));
    assert_true(arena.exhausted);
    assert_null(arena_push(&arena, 1));
    arena_reset(&arena);
    assert_ptr_equal(arena_push(&arena, 1), a);
    assert_true(arena.peak >= 192);
    arena_close(&arena);
}

static void durations_read_like_a_clock(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(format_duration(text, 41.4), "41 s");
    assert_string_equal(format_duration(text, 200.0), "3 min 20 s");
    assert_string_equal(format_duration(text, 7500.0), "2 h 05 min");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_one_line_and_take_context),
        cmocka_unit_test(a_file_appears_whole_or_not_at_all),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(folders_are_made_with_their_parents),
        cmocka_unit_test(the_arena_is_aligned_and_last_in_first_out),
        cmocka_unit_test(durations_read_like_a_clock),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
