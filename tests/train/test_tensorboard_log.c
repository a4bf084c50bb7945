/* What TensorBoard is told of a run: every scalar of a step with the value that metrics.jsonl has, where a
 * run begins, and that a disk which refuses ends the log and not the run. */
#include "base/log.h"
#include "scratch_folder.h"
#include "tensorboard_events.pb-c.h"
#include "train/tensorboard_log.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static int warnings;
static char last_warning[512];

static void count_warnings(enum log_level level, const char *line, void *context)
{
    (void)context;
    warnings += level == LOG_WARNING;
    (void)snprintf(last_warning, sizeof last_warning, "%s", line);
}

static const struct step_metrics metrics = {.step = 41,
                                            .loss = 1.5,
                                            .intra = 0.75,
                                            .inter = 0.5,
                                            .reg = 0.25,
                                            .position_accuracy = 0.625,
                                            .correlation = -0.125,
                                            .feature_spread = 0.0625,
                                            .effective_rank = 12.5,
                                            .learning_rate = 1e-4,
                                            .grad_norm = 3.5,
                                            .crops_per_second = 40};

/* The event of the record at `at` (length, checksum, data, checksum), which moves behind it. */
static Voco__Events__Event *next_event(const unsigned char *bytes, size_t size, size_t *at)
{
    uint64_t length = 0;
    assert_true(size - *at >= 16);
    memcpy(&length, bytes + *at, 8);
    assert_true(size - *at - 16 >= length);
    Voco__Events__Event *event = voco__events__event__unpack(NULL, length, bytes + *at + 12);
    assert_non_null(event);
    *at += 16 + length;
    return event;
}

static void every_scalar_of_a_step_is_there(void **state)
{
    (void)state;
    static const struct {
        const char *tag;
        float value;
    } expected[] = {
        {"loss/total", 1.5F},
        {"loss/intra", 0.75F},
        {"loss/inter", 0.5F},
        {"loss/reg", 0.25F},
        {"learning/position_accuracy", 0.625F},
        {"learning/correlation", -0.125F},
        {"embeddings/effective_rank", 12.5F},
        {"embeddings/feature_spread", 0.0625F},
        {"optimiser/learning_rate", 1e-4F},
        {"optimiser/gradient_norm", 3.5F},
        {"speed/crops_per_second", 40},
    };
    enum { count = sizeof expected / sizeof expected[0] };
    char folder[scratch_path_size], path[scratch_path_size + 512];
    static unsigned char bytes[65536];
    struct tensorboard_log log = {0};
    warnings = 0;
    tensorboard_log_open(&log, scratch_path(folder, "."), 40);
    assert_non_null(log.events);
    (void)snprintf(path, sizeof path, "%s", tensorboard_events_path(log.events));
    tensorboard_log_append(&log, &metrics);
    struct batch batch;
    assert_int_equal(batch_create(&batch, 2, 1, 3, 5), VOCO_OK);
    memset(batch.voxels, 0, sizeof(float) * 8 * 125);
    tensorboard_log_crops(&log, 41, &batch);
    tensorboard_log_close(&log);
    tensorboard_log_crops(&log, 42, &batch);
    batch_free(&batch);
    assert_int_equal(warnings, 0);

    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    const size_t size = fread(bytes, 1, sizeof bytes, stream);
    (void)fclose(stream);
    (void)remove(path);
    size_t at = 0;
    voco__events__event__free_unpacked(next_event(bytes, size, &at), NULL);
    Voco__Events__Event *start = next_event(bytes, size, &at);
    assert_int_equal(start->what_case, VOCO__EVENTS__EVENT__WHAT_SESSION_LOG);
    assert_int_equal(start->session_log->status, VOCO__EVENTS__SESSION_LOG__SESSION_STATUS__START);
    assert_int_equal(start->step, 40);
    voco__events__event__free_unpacked(start, NULL);
    Voco__Events__Event *step = next_event(bytes, size, &at);
    assert_int_equal(step->step, 41);
    assert_int_equal(step->summary->n_value, count);
    for (int i = 0; i < count; i++) {
        assert_string_equal(step->summary->value[i]->tag, expected[i].tag);
        assert_true(step->summary->value[i]->simple_value == expected[i].value);
    }
    voco__events__event__free_unpacked(step, NULL);
    Voco__Events__Event *crops = next_event(bytes, size, &at);
    assert_int_equal(crops->step, 41);
    assert_string_equal(crops->summary->value[0]->tag, "crops");
    assert_int_equal(crops->summary->value[0]->image->width, 23);
    assert_int_equal(crops->summary->value[0]->image->height, 11);
    voco__events__event__free_unpacked(crops, NULL);
    assert_int_equal(at, size);
}

static void a_folder_that_refuses_is_warned_of_once(void **state)
{
    (void)state;
    struct tensorboard_log log = {0};
    warnings = 0;
    tensorboard_log_open(&log, "/no/such/folder", 0);
    tensorboard_log_append(&log, &metrics);
    tensorboard_log_append(&log, &metrics);
    tensorboard_log_close(&log);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "/no/such/folder"));
}

static void a_full_disk_is_warned_of_once(void **state)
{
    (void)state;
    char folder[scratch_path_size], path[scratch_path_size + 512];
    struct tensorboard_log log = {0};
    struct rlimit before;
    warnings = 0;
    tensorboard_log_open(&log, scratch_path(folder, "."), 0);
    assert_non_null(log.events);
    (void)snprintf(path, sizeof path, "%s", tensorboard_events_path(log.events));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit little = {.rlim_cur = 200, .rlim_max = before.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    for (int i = 0; i < 3; i++) {
        tensorboard_log_append(&log, &metrics);
    }
    tensorboard_log_close(&log);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)remove(path);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "events.out.tfevents"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_of_a_step_is_there),
        cmocka_unit_test(a_folder_that_refuses_is_warned_of_once),
        cmocka_unit_test(a_full_disk_is_warned_of_once),
    };
    log_set_sink(count_warnings, NULL);
    return cmocka_run_group_tests(tests, scratch_folder_make, scratch_folder_remove);
}
