/* The metrics log: what a line says, what is forgotten when a run goes on, and what a damaged or full disk
 * does to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/metrics_log.h"
#include "train/scratch_folder.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct step_metrics metrics_of(long long step)
{
    return (struct step_metrics){
        .step = step,
        .loss = 1.25,
        .intra = 0.5,
        .inter = 0.25,
        .reg = 1e-7,
        .position_accuracy = 0.75,
        .correlation = -0.125,
        .feature_spread = 3.0,
        .effective_rank = 17.5,
        .learning_rate = 1e-4,
        .grad_norm = 2.0,
        .skipped = 0,
        .seconds = 0.5,
        .crops_per_second = 44.0,
        .communication_seconds = 0.125,
    };
}

static void append_steps(const char *path, long long next_step, long long begin, long long end)
{
    struct metrics_log log;
    assert_int_equal(metrics_log_open(&log, path, next_step), VOCO_OK);
    for (long long step = begin; step < end; step++) {
        const struct step_metrics metrics = metrics_of(step);
        assert_int_equal(metrics_log_append(&log, &metrics), VOCO_OK);
    }
    metrics_log_close(&log);
}

/* The steps of the file's lines, as text: "0 1 2 ". */
static char *steps_in(char text[256], const char *path)
{
    char *bytes = scratch_read(path, NULL);
    size_t used = 0;
    text[0] = '\0';
    for (const char *line = bytes; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_memory_equal(line, "{\"step\": ", 9);
        assert_non_null(strchr(line, '\n'));
        used += (size_t)snprintf(text + used, 256 - used, "%d ", atoi(line + 9));
    }
    free(bytes);
    return text;
}

static void a_line_says_everything_in_a_fixed_order(void **state)
{
    (void)state;
    char path[scratch_path_size];
    scratch_path(path, "line.jsonl");
    struct metrics_log log;
    assert_int_equal(metrics_log_open(&log, path, 0), VOCO_OK);
    struct step_metrics metrics = metrics_of(1000000);
    metrics.grad_norm = INFINITY;
    metrics.loss = NAN;
    metrics.skipped = 1;
    assert_int_equal(metrics_log_append(&log, &metrics), VOCO_OK);
    /* Before the log is closed: a killed process loses no line. */
    char *text = scratch_read(path, NULL);
    assert_string_equal(
        text, "{\"step\": 1000000, \"loss\": null, \"intra\": 0.5, \"inter\": 0.25, \"reg\": 1e-07, "
              "\"position_accuracy\": 0.75, \"correlation\": -0.125, \"feature_spread\": 3, "
              "\"effective_rank\": 17.5, \"learning_rate\": 0.0001, \"grad_norm\": null, \"skipped\": 1, "
              "\"seconds\": 0.5, \"crops_per_second\": 44, \"communication_seconds\": 0.125}\n");
    free(text);
    metrics_log_close(&log);
}

static void going_on_forgets_the_steps_past_the_checkpoint(void **state)
{
    (void)state;
    char path[scratch_path_size];
    char steps[256];
    scratch_path(path, "go_on.jsonl");
    append_steps(path, 0, 0, 6);
    append_steps(path, 4, 4, 5);
    assert_string_equal(steps_in(steps, path), "0 1 2 3 4 ");
    append_steps(path, 5, 5, 7);
    assert_string_equal(steps_in(steps, path), "0 1 2 3 4 5 6 ");
    append_steps(path, 0, 0, 1);
    assert_string_equal(steps_in(steps, path), "0 ");
}

static void nothing_to_forget_leaves_the_file_alone(void **state)
{
    (void)state;
    char path[scratch_path_size];
    scratch_path(path, "alone.jsonl");
    append_steps(path, 0, 0, 3);
    struct stat before;
    struct stat after;
    assert_int_equal(stat(path, &before), 0);
    append_steps(path, 3, 3, 3);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_size == after.st_size);
}

static void a_cut_end_is_removed(void **state)
{
    (void)state;
    static const char *const ends[] = {"{\"step\": 3, \"loss\": 1.2", "{\"step\": 3}", "{",
                                       "garbage\n{\"ste"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char path[scratch_path_size];
        char steps[256];
        scratch_path(path, "cut.jsonl");
        append_steps(path, 0, 0, 3);
        FILE *stream = fopen(path, "ab");
        assert_non_null(stream);
        assert_true(fputs(ends[i], stream) >= 0);
        assert_int_equal(fclose(stream), 0);
        append_steps(path, 9, 9, 10);
        assert_string_equal(steps_in(steps, path), "0 1 2 9 ");
    }
}

static void another_file_is_refused_and_stays(void **state)
{
    (void)state;
    static const char text[] = "{\"step\": 0}\nmy notes\n{\"step\": 1}\n";
    char path[scratch_path_size];
    scratch_path(path, "notes.jsonl");
    scratch_write(path, text, sizeof text - 1);
    struct metrics_log log;
    assert_int_equal(metrics_log_open(&log, path, 1), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "notes.jsonl:2: not a line of metrics"));
    char *now = scratch_read(path, NULL);
    assert_string_equal(now, text);
    free(now);
    metrics_log_close(&log);
}

static void a_full_disk_leaves_whole_lines(void **state)
{
    (void)state;
    char path[scratch_path_size];
    char steps[256];
    scratch_path(path, "full.jsonl");
    struct metrics_log log;
    const struct step_metrics metrics = metrics_of(1);
    append_steps(path, 0, 0, 1);
    assert_int_equal(metrics_log_open(&log, path, 1), VOCO_OK);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {(rlim_t)info.st_size + 20, old.rlim_max}; /* room for a part of the line */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const enum voco_status status = metrics_log_append(&log, &metrics);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(status, VOCO_IO);
    assert_non_null(strstr(voco_error_message(), "full.jsonl: cannot write: File too large"));
    assert_string_equal(steps_in(steps, path), "0 ");
    assert_int_equal(metrics_log_append(&log, &metrics), VOCO_OK);
    assert_string_equal(steps_in(steps, path), "0 1 ");
    metrics_log_close(&log);
}

static void a_folder_that_is_not_there_is_said(void **state)
{
    (void)state;
    char path[scratch_path_size];
    struct metrics_log log;
    assert_int_equal(metrics_log_open(&log, scratch_path(path, "none/metrics.jsonl"), 0), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), "none/metrics.jsonl: cannot open"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_says_everything_in_a_fixed_order),
        cmocka_unit_test(going_on_forgets_the_steps_past_the_checkpoint),
        cmocka_unit_test(nothing_to_forget_leaves_the_file_alone),
        cmocka_unit_test(a_cut_end_is_removed),
        cmocka_unit_test(another_file_is_refused_and_stays),
        cmocka_unit_test(a_full_disk_leaves_whole_lines),
        cmocka_unit_test(a_folder_that_is_not_there_is_said),
    };
    return cmocka_run_group_tests(tests, scratch_folder_make, scratch_folder_remove);
}
